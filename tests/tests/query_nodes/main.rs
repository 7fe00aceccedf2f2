//! Query nodes as processes of their own: what they answer while they and their command node are killed in turn, and what
//! they do when the log they follow tells another history.
//!
//! `ANNALS_QUERY_NODE_ROUNDS` rounds (1), in each of which every node is killed once; 25 of them:
//! `ANNALS_QUERY_NODE_ROUNDS=25 cargo test -p annals-tests --test query_nodes -- --nocapture`.

#![allow(clippy::print_stdout, reason = "a test says what it measured")]

mod decisions;
mod histories;
mod traffic;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use annals_tests::cli::annals;
use annals_tests::http::Client;
use annals_tests::node::{Node, RunningNode};
use annals_tests::rows;
use anyhow::{Context, Result, bail, ensure};
use traffic::{Ledger, place, read, write_and_read};

const QUERY_NODES: u8 = 3;
const WRITERS: usize = 3;

fn head(command: &Client) -> Result<u64> {
    let log = command.json("/v1/log")?;
    Ok(log["head"].as_str().context("no head")?.parse()?)
}

#[test]
fn every_node_is_killed_in_turn_under_load_and_no_answer_is_wrong() -> Result<()> {
    let rounds = std::env::var("ANNALS_QUERY_NODE_ROUNDS").map_or(Ok(1), |text| text.parse::<u32>())?;
    let directory = tempfile::tempdir()?;
    let command = Node::command(&directory.path().join("command"), 1);
    let launches: Vec<Node> = (0..QUERY_NODES)
        .map(|number| Node::query(&directory.path().join(format!("query-{number}")), 2 + number, &command))
        .collect();
    let clients: Vec<Client> = launches.iter().map(Node::client).collect();
    let mut command = command.start()?;
    let mut nodes: Vec<RunningNode> = launches.iter().map(Node::start).collect::<Result<_>>()?;
    let ledger = Ledger::default();
    let client = command.client.clone();
    let (ledger_ref, clients_ref, client_ref) = (&ledger, &clients[..], &client);
    command = std::thread::scope(|scope| -> Result<RunningNode> {
        let writing =
            (0..WRITERS).map(|writer| scope.spawn(move || write_and_read(writer, client_ref, clients_ref, ledger_ref)));
        let mut workers: Vec<_> = writing.collect();
        workers.push(scope.spawn(move || read(0, clients_ref, ledger_ref)));
        let rounds = (0..rounds).try_fold(command, |command, _| round(command, &mut nodes, &ledger));
        ledger.stop();
        join(workers)?;
        rounds
    })?;
    let head = head(&command.client)?;
    let (compared, behind) = (
        ledger.compared.load(Ordering::Relaxed),
        ledger.behind.load(Ordering::Relaxed),
    );
    println!("{head} events, {compared} answers compared, {behind} times a node said that it is behind");
    ensure!(
        compared > 100,
        "only {compared} answers were compared: that proves nothing"
    );
    for node in &mut nodes {
        node.read_up_to(head)?;
    }
    same_rows(&ledger, &clients)?;
    for node in nodes {
        node.stop()?;
    }
    command.stop()?;
    Ok(())
}

fn join(workers: Vec<ScopedJoinHandle<'_, Result<()>>>) -> Result<()> {
    workers.into_iter().try_for_each(|worker| match worker.join() {
        Ok(ended) => ended,
        Err(_) => bail!("a client panicked"),
    })
}

/// Kills every node once, the command node first, and starts it again.
fn round(mut command: RunningNode, nodes: &mut Vec<RunningNode>, ledger: &Ledger) -> Result<RunningNode> {
    served(ledger, 100)?;
    let launch = command.kill()?;
    for node in nodes.iter_mut() {
        node.until("it says how old it is", says_its_age)?;
    }
    command = launch.start()?;
    for number in 0..nodes.len() {
        served(ledger, 100)?;
        let launch = nodes.remove(number).kill()?;
        // After the kill and before the next life: whoever asked before it judges nothing.
        ledger.lives.fetch_add(1, Ordering::SeqCst);
        served(ledger, 100)?;
        nodes.insert(number, launch.start()?);
    }
    for node in nodes.iter_mut() {
        node.until("the log is followed again", |client| {
            Ok(client.json("/v1/projections")?["log"]["trouble"].is_null())
        })?;
    }
    Ok(command)
}

/// Waits until so many further answers were compared.
fn served(ledger: &Ledger, more: u64) -> Result<()> {
    let from = ledger.compared.load(Ordering::Relaxed);
    for _ in 0..3_000 {
        if ledger.compared.load(Ordering::Relaxed) >= from + more {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bail!("no further answers: {from} were compared")
}

/// Whether a node that is without its command node goes on serving, and says so everywhere.
fn says_its_age(client: &Client) -> Result<bool> {
    let answer = client.get("/v1/views/orders?limit=1")?;
    if answer.header("annals-log-age").parse::<u64>()? < 1 {
        return Ok(false);
    }
    let answer = answer.expect(200)?;
    ensure!(!answer.header("annals-lag").is_empty(), "no lag");
    let log = client.json("/v1/projections")?["log"].clone();
    if log["trouble"].is_null() {
        return Ok(false);
    }
    ensure!(log["age_seconds"].as_f64() >= Some(1.0), "{log}");
    let ready = client.json("/readyz")?;
    ensure!(
        ready["status"] == "ready" && ready["log"]["trouble"].is_string(),
        "{ready}"
    );
    let metrics = client.get("/metrics")?.expect(200)?.text();
    ensure!(
        metrics.contains("\nannals_log_contact 0\n"),
        "no contact in the metrics"
    );
    ensure!(
        metrics.contains("\nannals_log_contact_age_seconds "),
        "no age in the metrics"
    );
    Ok(true)
}

/// All nodes have the same rows, to the byte, and the orders are as they were written.
fn same_rows(ledger: &Ledger, clients: &[Client]) -> Result<()> {
    let first = rows::dump(&clients[0])?;
    for other in &clients[1..] {
        ensure!(
            rows::dump(other)? == first,
            "{} has other rows than {}",
            other.url(),
            clients[0].url()
        );
    }
    let orders = rows::all(&clients[0], "orders")?;
    let written = ledger.last();
    ensure!(
        orders.len() >= written.len(),
        "{} orders, {} were written",
        orders.len(),
        written.len()
    );
    for (order, status) in &written {
        let row = orders.get(order).with_context(|| format!("{order} is missing"))?;
        ensure!(row["status"] == *status, "{order} came to {status}: {row}");
    }
    Ok(())
}

#[test]
fn a_query_node_started_without_its_command_node_serves_what_it_has_and_catches_up() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let command = Node::command(&directory.path().join("command"), 11);
    let query = Node::query(&directory.path().join("query"), 12, &command);
    let Err(refused) = query.start() else {
        bail!("there is nothing to serve yet")
    };
    ensure!(format!("{refused:#}").contains("is the server running?"), "{refused:#}");

    let running = command.start()?;
    let before = place(&running.client, "ord-1")?;
    let mut node = query.start()?;
    node.read_up_to(before)?;
    let command = running.kill()?;
    let query = node.kill()?;

    let mut node = query.start()?;
    node.until("it has no contact", says_its_age)?;
    let row = node.client.get("/v1/views/orders/ord-1")?.expect(200)?;
    ensure!(row.header("annals-position") == before.to_string(), "{row:?}");
    let path = format!("/v1/views/orders/ord-1?min_position={}&wait=100", before + 1);
    let behind = node.client.get(&path)?;
    behind.problem(503, "view-behind")?;
    ensure!(
        behind.json()?["position"] == before.to_string().as_str(),
        "{}",
        behind.text()
    );
    ensure!(behind.header("annals-log-age").parse::<u64>().is_ok(), "no age");
    let path = format!("/v1/views/orders/ord-1?as_of={before}");
    node.client.get(&path)?.expect(200)?;
    for path in [
        "orders?as_of=2026-01-01T00:00:00Z",
        "orders/ord-1?as_of=2026-01-01T00:00:00Z",
        "orders/ord-1/history",
    ] {
        let refused = node.client.get(&format!("/v1/views/{path}"))?;
        let detail = refused.problem(503, "log-unreachable")?;
        ensure!(detail.contains("the command node at http://"), "{path}: {detail}");
    }

    let running = command.start()?;
    let after = place(&running.client, "ord-2")?;
    let path = format!("/v1/views/orders/ord-2?min_position={after}&wait=60000");
    node.client.get(&path)?.expect(200)?;
    node.read_up_to(after)?;
    node.stop()?;
    running.stop()?;
    Ok(())
}

#[test]
fn a_query_node_can_be_asked_as_any_other_and_its_directory_is_its_own() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let command = Node::command(&directory.path().join("command"), 21);
    let running = command.start()?;
    let query = Node::query(&directory.path().join("query"), 22, &command);
    let mut node = query.start()?;
    let position = place(&running.client, "ord-1")?;
    node.read_up_to(position)?;
    let url = node.client.url().to_owned();
    let listed = annals(["projections", "--format", "json", "--url", &url])?
        .exits(0)?
        .lines()?;
    ensure!(listed.len() == rows::VIEWS.len(), "views and no reactor: {listed:?}");
    annals(["rebuild", "orders", "--url", &url])?.exits(0)?;
    ensure!(node.client.json("/v1/views")?["views"].is_array(), "no views");
    let commands = node
        .client
        .post("/v1/commands/orders/ord-2/place", &[], &serde_json::json!({}))?;
    commands.problem(404, "not-found")?;
    let log = running.client.get("/v1/views/orders")?;
    log.problem(404, "not-found")?;

    let refused = |arguments: &[&str], data: &Path, says: &str| -> Result<()> {
        let data = data.to_str().context("path")?;
        let ran = annals(arguments.iter().copied().chain(["--data", data]))?.exits(2)?;
        ensure!(ran.stderr.contains(says), "{arguments:?}: {}", ran.stderr);
        Ok(())
    };
    let follow = [
        "serve",
        "--role",
        "query",
        "--query-addr",
        "127.0.0.1:0",
        "--log",
        running.client.url(),
    ];
    refused(&follow, query.data(), "in use by the query node at http://127.")?;
    refused(&follow, command.data(), "needs a directory of its own")?;
    refused(&["serve"], query.data(), "is a query node's and has no log")?;
    refused(&["projections"], query.data(), "ask its query API with --url")?;
    refused(&["verify"], query.data(), "has no log")?;
    node.stop()?;
    running.stop()?;
    Ok(())
}

/// Opens a live query and waits for an event: its name and data come back each time.
fn live(client: &Client, path: &str) -> Result<impl FnMut() -> Result<(String, String)> + use<>> {
    let mut stream = TcpStream::connect(client.address())?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let host = client.address();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {host}\r\naccept: text/event-stream\r\n\r\n"
    )?;
    let mut lines = BufReader::new(stream).lines();
    Ok(move || {
        let mut name = String::new();
        loop {
            let line = lines.next().context("the answer has ended")??;
            if let Some(said) = line.strip_prefix("event: ") {
                said.clone_into(&mut name);
            } else if let Some(data) = line.strip_prefix("data: ") {
                return Ok((name, data.to_owned()));
            }
        }
    })
}

#[test]
fn live_queries_of_a_query_node_tell_what_the_command_node_is_told() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let command = Node::command(&directory.path().join("command"), 71);
    let running = command.start()?;
    let mut node = Node::query(&directory.path().join("query"), 72, &command).start()?;
    let position = place(&running.client, "ord-1")?;
    node.read_up_to(position)?;
    let mut row = live(&node.client, "/v1/views/orders/ord-2")?;
    let mut list = live(&node.client, "/v1/views/orders?status=placed")?;
    ensure!(row()?.0 == "deleted", "there is no such row yet");
    let (name, rows) = list()?;
    ensure!(name == "list" && rows.contains("ord-1"), "{name} {rows}");
    place(&running.client, "ord-2")?;
    let (name, data) = row()?;
    ensure!(name == "row" && data.contains("placed"), "{name} {data}");
    let (name, rows) = list()?;
    ensure!(
        name == "changes" && rows.contains("ord-2") && !rows.contains("ord-1"),
        "{name} {rows}"
    );
    node.stop()?;
    running.stop()?;
    Ok(())
}

//! What people decide when views and log are apart: asked of a query node, recorded in the log of the command node, heeded
//! by every node. Reactors run at the command node, and are asked about there.

use annals_tests::cli::{Run, annals};
use annals_tests::events;
use annals_tests::http::Client;
use annals_tests::node::{Node, RunningNode};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::path::Path;

use crate::traffic::{place, say};

fn is(state: &'static str, name: &'static str) -> impl Fn(&Client) -> Result<bool> {
    move |client| {
        let projections = client.json("/v1/projections")?["projections"].clone();
        let mut all = projections.as_array().context("no list")?.iter();
        Ok(all.any(|status| status["name"] == name && status["state"] == state))
    }
}

/// Type, actor and reason of every decision about a view or reactor.
fn decided(command: &Client, name: &str) -> Result<Vec<(String, String, String)>> {
    let mut found = Vec::new();
    events::each(command, &format!("stream=$operations/{name}"), |event| {
        let (actor, reason) = (event.actor.clone().unwrap_or_default(), event.text("reason").to_owned());
        found.push((event.event_type, actor, reason));
        Ok(())
    })?;
    Ok(found)
}

fn query_nodes(directory: &Path, command: &Node, numbers: [u8; 2]) -> Result<Vec<RunningNode>> {
    let start = |number| Node::query(&directory.join(format!("query-{number}")), number, command).start();
    numbers.into_iter().map(start).collect()
}

fn told(event_type: &str, actor: &str, reason: &str) -> (String, String, String) {
    (event_type.to_owned(), actor.to_owned(), reason.to_owned())
}

#[test]
fn a_decision_taken_at_a_query_node_stands_in_the_log_and_holds_at_every_node() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let command = Node::command(&directory.path().join("command"), 171);
    let running = command.start()?;
    let mut nodes = query_nodes(directory.path(), &command, [172, 173])?;
    let first = place(&running.client, "ord-1")?;
    for node in &mut nodes {
        node.read_up_to(first)?;
    }
    let (one, other) = (nodes[0].client.clone(), nodes[1].client.clone());
    decide(&one, "pause", "moving house")?.exits(0)?;
    for node in &mut nodes {
        node.until("its view is paused", is("paused", "orders"))?;
    }
    let second = place(&running.client, "ord-2")?;
    other
        .get(&format!("/v1/views/orders/ord-2?min_position={second}&wait=50"))?
        .problem(503, "view-behind")?;

    let command = running.kill()?;
    nodes[1].until("it says that there is no contact", |client| {
        Ok(client.json("/v1/projections")?["log"]["trouble"].is_string())
    })?;
    let refused = decide(&other, "resume", "")?.exits(2)?.stderr;
    ensure!(refused.contains("Nothing was recorded"), "{refused}");
    other
        .post("/v1/projections/orders/resume", &[], &json!({}))?
        .problem(503, "log-unreachable")?;
    let running = command.start()?;
    let paused = told("ProjectionPaused", "ops", "moving house");
    ensure!(
        decided(&running.client, "orders")? == [paused.clone()],
        "nothing half done"
    );

    nodes[1].until("the log is followed again", |client| {
        Ok(client.json("/v1/projections")?["log"]["trouble"].is_null())
    })?;
    decide(&other, "resume", "")?.exits(0)?;
    for node in &mut nodes {
        node.until("its view goes on", is("running", "orders"))?;
        let row = node
            .client
            .get(&format!("/v1/views/orders/ord-2?min_position={second}&wait=30000"))?;
        row.expect(200)?;
    }
    let both = [paused, told("ProjectionResumed", "ops", "")];
    ensure!(
        decided(&running.client, "orders")? == both,
        "{:?}",
        decided(&running.client, "orders")?
    );
    for node in nodes {
        node.stop()?;
    }
    running.stop()?;
    Ok(())
}

/// Tells a node by the command line what is to become of its view of orders.
fn decide(node: &Client, verb: &str, reason: &str) -> Result<Run> {
    let who = ["--actor", "ops", "--reason", reason];
    annals(
        ["projections", verb, "orders", "--url", node.url()]
            .into_iter()
            .chain(who),
    )
}

fn event(event_type: &str, data: &Value) -> Value {
    json!({ "specversion": "1.0", "id": "decision-1", "source": "node", "type": event_type, "data": data })
}

/// What is no decision, or about something else, or of another history, is refused, and nothing is recorded.
fn only_decisions_are_taken(client: &Client, about: &Value) -> Result<()> {
    let path = "/v1/operations/orders";
    let refused = client.post(path, &[], &event("OrderCancelled", &json!({})))?;
    refused.problem(400, "invalid-decision")?;
    let elsewhere = client.post("/v1/operations/payments", &[], &event("DeadLetterSkipped", about))?;
    elsewhere.problem(400, "invalid-decision")?;
    let epoch = [("annals-epoch", "0190a5c4-7d2e-7000-8000-000000000000")];
    let foreign = client.post(path, &epoch, &event("DeadLetterSkipped", about))?;
    foreign.problem(409, "other-epoch")?;
    let direct = client.post(
        "/v1/streams/$operations/orders",
        &[],
        &event("DeadLetterSkipped", about),
    )?;
    direct.problem(403, "category-owned")?;
    ensure!(decided(client, "orders")?.is_empty(), "nothing was recorded");
    Ok(())
}

#[test]
fn a_skip_that_another_node_sends_is_recorded_and_heeded_by_every_rebuild() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let command = Node::command(&directory.path().join("command"), 175);
    let running = command.start()?;
    let mut nodes = query_nodes(directory.path(), &command, [176, 177])?;
    place(&running.client, "ord-1")?;
    let approved = say(&running.client, "orders", "ord-1", "approve", &json!({}))?;
    let views = nodes[0].client.json("/v1/views")?;
    let known = views["views"]
        .as_array()
        .or(views.as_array())
        .context("no list of views")?;
    let orders = known
        .iter()
        .find(|view| view["name"] == "orders")
        .context("no orders")?;
    let about = json!({
        "projection": "orders", "version": orders["version"], "position": approved,
        "key": "ord-1", "number": null, "reason": "sent twice"
    });
    let client = &running.client;
    only_decisions_are_taken(client, &about)?;
    let who = [("annals-actor", "ops")];
    let first = client
        .post("/v1/operations/orders", &who, &event("DeadLetterSkipped", &about))?
        .expect(200)?;
    let again = client
        .post("/v1/operations/orders", &who, &event("DeadLetterSkipped", &about))?
        .expect(200)?;
    ensure!(
        first.json()?["position"] == again.json()?["position"],
        "it is recorded once"
    );
    let skipped = told("DeadLetterSkipped", "ops", "sent twice");
    ensure!(
        decided(client, "orders")? == [skipped],
        "{:?}",
        decided(client, "orders")?
    );
    let position = first.header("annals-position").parse()?;
    for node in &mut nodes {
        node.read_up_to(position)?;
        annals(["rebuild", "orders", "--url", node.client.url()])?.exits(0)?;
        let row = node.client.json("/v1/views/orders/ord-1")?;
        ensure!(row["status"] == "placed", "the approval is skipped: {row}");
    }
    for node in nodes {
        node.stop()?;
    }
    running.stop()?;
    Ok(())
}

#[test]
fn a_reactor_is_asked_about_at_the_command_node_and_everybody_says_where_to_ask() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let command = Node::command(&directory.path().join("command"), 178);
    let mut running = command.start()?;
    let node = Node::query(&directory.path().join("query"), 179, &command).start()?;
    let (commands, queries) = (running.client.url().to_owned(), node.client.url().to_owned());
    let listed = annals(["projections", "--url", &commands, "--format", "json"])?
        .exits(0)?
        .lines()?;
    ensure!(listed.len() == 1 && listed[0]["name"] == "fulfilment", "{listed:?}");
    annals(["dead-letters", "list", "--url", &commands])?.exits(0)?;
    annals(["dead-letters", "list", "--url", &queries])?.exits(0)?;

    let pause = |name: &str, url: &str| annals(["projections", "pause", name, "--url", url, "--reason", "inventory"]);
    let wrong = pause("fulfilment", &queries)?.exits(2)?.stderr;
    ensure!(wrong.contains(&commands), "it names the command node: {wrong}");
    let wrong = pause("orders", &commands)?.exits(2)?.stderr;
    ensure!(wrong.contains("query node"), "it says where views are: {wrong}");
    let wrong = annals(["rebuild", "orders", "--url", &commands])?.exits(2)?.stderr;
    ensure!(wrong.contains("query API"), "it says where rebuilds are: {wrong}");
    let wrong = annals(["dead-letters", "retry", "orders:1:1", "--url", &commands])?
        .exits(2)?
        .stderr;
    ensure!(wrong.contains("query node"), "{wrong}");

    pause("fulfilment", &commands)?.exits(0)?;
    running.until("the reactor rests", is("paused", "fulfilment"))?;
    place(&running.client, "ord-1")?;
    let payment = json!({ "order_id": "ord-1", "method": "voucher", "amount": { "amount": 1000, "currency": "EUR" } });
    say(&running.client, "payments", "pay-1", "authorize", &payment)?;
    let captured = say(&running.client, "payments", "pay-1", "capture", &json!({}))?;
    let command = running.stop()?;
    let mut running = command.start()?;
    running.until("the reactor rests after a restart, too", is("paused", "fulfilment"))?;
    annals(["projections", "resume", "fulfilment", "--url", &commands])?.exits(0)?;
    running.until("it has approved the order", |client| {
        let approved = client.json("/v1/streams/orders/ord-1")?;
        Ok(approved.as_array().is_some_and(|events| events.len() == 2))
    })?;
    let approval = running.client.json("/v1/streams/orders/ord-1?from_version=2")?;
    ensure!(approval[0]["type"] == "OrderApproved", "{approval}");
    let position: u64 = approval[0]["position"].as_str().context("no position")?.parse()?;
    ensure!(position > captured, "not before it was resumed");
    node.stop()?;
    running.stop()?;
    Ok(())
}

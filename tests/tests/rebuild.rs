//! Views are derived: deleted, altered or rebuilt under way, they come back byte by byte, and queries never notice.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use annals_tests::cli::annals;
use annals_tests::damage::{alter_row, damage_view};
use annals_tests::fixture::{demo, verb};
use annals_tests::rows::{self, VIEWS};
use annals_tests::server::Server;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// All rows as a server sends them. The log must not grow for being served.
fn served(data: &Path, head: Option<u64>) -> Result<(u64, BTreeMap<String, String>)> {
    let server = Server::start(data)?;
    let found = server.settle()?;
    ensure!(
        head.is_none_or(|head| head == found),
        "the log grew from {head:?} to {found}"
    );
    let rows = rows::dump(&server.query)?;
    server.stop()?;
    Ok((found, rows))
}

#[test]
fn deleted_views_come_back_byte_by_byte() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    demo(&data, 400)?;
    let (head, first) = served(&data, None)?;
    ensure!(first.len() > 800, "only {} rows", first.len());

    std::fs::remove_dir_all(data.join("views"))?;
    rows::same("built by serve", &first, &served(&data, Some(head))?.1)?;

    std::fs::remove_dir_all(data.join("views"))?;
    let reports = verb(&data, &["rebuild", "--all", "--format", "json"])?
        .exits(0)?
        .lines()?;
    ensure!(reports.len() == VIEWS.len(), "{reports:?}");
    let built: u64 = reports.iter().filter_map(|report| report["rows"].as_u64()).sum();
    ensure!(
        built == first.len() as u64,
        "{built} rows were reported, {} are there",
        first.len()
    );
    rows::same("built by rebuild", &first, &served(&data, Some(head))?.1)
}

#[test]
fn an_altered_row_is_reported_and_built_anew() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    demo(&data, 300)?;
    let (head, first) = served(&data, None)?;
    let same = verb(&data, &["rebuild", "--all", "--compare", "--no-swap"])?;
    same.exits(0).context("nothing was altered yet")?;

    ensure!(
        alter_row(&data, "orders", "ord-", ["delivered", "cancelled"])?,
        "no order was delivered"
    );
    let report = compared(&data, "orders")?;
    ensure!(
        report["differing"] == 1 && report["only_old"] == 0 && report["only_new"] == 0,
        "{report}"
    );
    ensure!(
        report["first"].to_string().contains("ord-"),
        "the report does not name the row: {report}"
    );
    verb(&data, &["rebuild", "--all"])?.exits(0)?;
    rows::same("after an alteration", &first, &served(&data, Some(head))?.1)?;

    ensure!(damage_view(&data, "payments", 16)? > 0, "there are no tables");
    let report = compared(&data, "payments")?;
    ensure!(report["unreadable"].is_string(), "{report}");
    verb(&data, &["rebuild", "--all"])?.exits(0)?;
    rows::same("after damage", &first, &served(&data, Some(head))?.1)
}

/// What `rebuild --compare` says of a view that does not hold.
fn compared(data: &Path, view: &str) -> Result<Value> {
    let run = verb(data, &["rebuild", view, "--compare", "--no-swap", "--format", "json"])?;
    run.exits(1)?.lines()?.pop().context("no report")
}

#[test]
fn a_damaged_row_is_never_served_as_if_it_were_true() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    demo(&data, 100)?;
    let (_, first) = served(&data, None)?;
    ensure!(damage_view(&data, "orders", 1)? > 0, "there are no tables");
    let server = Server::start(&data)?;
    let rows: Vec<_> = first.iter().filter(|(key, _)| key.starts_with("orders/")).collect();
    ensure!(rows.len() > 50, "{} orders", rows.len());
    for (key, row) in rows {
        let answer = server.query.get(&format!("/v1/views/{key}"))?;
        ensure!(
            answer.status != 200 || answer.text() == *row,
            "{key} is served as {}",
            answer.text()
        );
    }
    server.stop()
}

#[test]
fn queries_never_notice_a_rebuild() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    demo(&data, 1_500)?;
    let server = Server::start(&data)?;
    server.settle()?;
    let before = rows::dump(&server.query)?;
    let (stop, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let askers = [0, 1].map(|number| {
            scope.spawn({
                let (server, stop, asked, before) = (&server, &stop, &asked, &before);
                move || ask(server, before, stop, asked, number)
            })
        });
        let writer = scope.spawn(|| write(&server, &stop));
        let rebuilt = rebuild_all(&server);
        stop.store(true, Ordering::SeqCst);
        for asker in askers {
            asker.join().map_err(|_| anyhow::anyhow!("an asker panicked"))??;
        }
        let written = writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        ensure!(written > 0, "nothing was written meanwhile");
        rebuilt
    })?;
    ensure!(
        asked.load(Ordering::SeqCst) > 100,
        "only {asked:?} queries were asked meanwhile"
    );
    let head = server.settle()?;
    let after = rows::dump(&server.query)?;
    server.stop()?;
    verb(&data, &["rebuild", "--all", "--compare"])?.exits(0)?;
    rows::same("rebuilt online and offline", &after, &served(&data, Some(head))?.1)
}

/// Over HTTP, then by the command line; both wait until it is done.
fn rebuild_all(server: &Server) -> Result<()> {
    for view in VIEWS {
        let path = format!("/v1/projections/{view}/rebuild");
        server.query.send("POST", &path, &[], None)?.expect(202)?;
        let begun = Instant::now();
        loop {
            let status = server.query.json(&path)?;
            match status["state"].as_str() {
                Some("running") => std::thread::sleep(Duration::from_millis(5)),
                Some("done") => break,
                _ => bail!("the rebuild of {view}: {status}"),
            }
            ensure!(
                begun.elapsed() < Duration::from_secs(60),
                "the rebuild of {view} does not end: {status}"
            );
        }
    }
    annals(["rebuild", "--all", "--url", server.query.url()])?.exits(0)?;
    Ok(())
}

/// Asks for lists and rows without a pause. What was there before stays there: all orders, and rows that nobody writes.
fn ask(
    server: &Server,
    before: &BTreeMap<String, String>,
    stop: &AtomicBool,
    asked: &AtomicU64,
    number: usize,
) -> Result<()> {
    let orders: Vec<_> = before.iter().filter(|(key, _)| key.starts_with("orders/")).collect();
    for (at, (key, row)) in orders.iter().cycle().enumerate().skip(number * 500) {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let answer = server
            .query
            .get(&format!("/v1/views/{key}"))?
            .expect(200)
            .with_context(|| (*key).clone())?;
        ensure!(answer.text() == **row, "{key} was {row}, it is {}", answer.text());
        if at % 20 == 0 {
            let view = VIEWS[at / 20 % VIEWS.len()];
            let there = before.keys().filter(|key| key.starts_with(&format!("{view}/"))).count();
            let listed = rows::raw(&server.query, view, "")?.len();
            ensure!(listed >= there, "{view} had {there} rows, {listed} are listed");
        }
        asked.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}

/// Writes what changes rows of users, and new rows, until it is stopped.
fn write(server: &Server, stop: &AtomicBool) -> Result<u64> {
    let mut written = 0;
    while !stop.load(Ordering::SeqCst) {
        let path = format!("/v1/commands/users/late-{written}/register");
        let user = json!({ "email": format!("late-{written}@customers.example"), "name": "Late" });
        server.command.post(&path, &[], &user)?.expect(200)?;
        let path = format!("/v1/commands/users/late-{written}/sign-in");
        server.command.post(&path, &[], &json!({}))?.expect(200)?;
        written += 1;
        std::thread::sleep(Duration::from_millis(3));
    }
    Ok(written)
}

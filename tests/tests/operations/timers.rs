//! The week that an order may stay unpaid, with the binary itself: the clock is set ahead while no server runs, as if the
//! week had gone by.

use std::path::{Path, PathBuf};

use annals_tests::cli::annals;
use annals_tests::server::{Launch, Server};
use annals_tests::shim::{Behind, Control};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{row_at, status, until, until_state};

const DAY: i64 = 24 * 60 * 60;

/// A shop whose servers have a clock that can be moved.
struct Shop {
    directory: TempDir,
    control: Control,
}

impl Shop {
    fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let control = Control::new(&directory.path().join("control"))?;
        Ok(Self { directory, control })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A server on a data directory, so many days from now.
    fn start(&self, data: &Path, days: i64) -> Result<Server> {
        self.control.move_clock(days * DAY)?;
        let shim = Behind::watching(data)?.steered_by(&self.control);
        Launch::on(data)?.through(shim.as_program()).start()
    }
}

fn place(server: &Server, order: &str, headers: &[(&str, &str)]) -> Result<u64> {
    let price = json!({ "amount": 1_000, "currency": "EUR" });
    let items = json!([{ "product_id": "tea", "quantity": 1, "unit_price": price }]);
    let body = json!({ "customer_id": "ann", "currency": "EUR", "items": items });
    let path = format!("/v1/commands/orders/{order}/place");
    let answer = server.command.post(&path, headers, &body)?.expect(200)?.json()?;
    Ok(answer["position"].as_str().context("no position")?.parse()?)
}

fn pay(server: &Server, order: &str) -> Result<()> {
    let amount = json!({ "amount": 1_000, "currency": "EUR" });
    let body = json!({ "order_id": order, "method": "card", "amount": amount });
    let path = format!("/v1/commands/payments/{order}-1/authorize");
    server.command.post(&path, &[], &body)?.expect(200)?;
    let path = format!("/v1/commands/payments/{order}-1/capture");
    server.command.post(&path, &[], &json!({}))?.expect(200)?;
    Ok(())
}

/// The orders that were cancelled, with whom and why.
fn cancelled(server: &Server) -> Result<Vec<Value>> {
    let events = server.command.json("/v1/events?type=OrderCancelled&limit=1000")?;
    events.as_array().cloned().context("no list of events")
}

fn until_cancelled(server: &Server, order: &str) -> Result<Vec<Value>> {
    until("the order is cancelled", || {
        let found = cancelled(server)?;
        let subject = format!("orders/{order}");
        let there = found.iter().any(|event| event["subject"] == subject.as_str());
        Ok(if there { Ok(found) } else { Err(format!("{found:?}")) })
    })
}

/// Four orders: nobody pays `late`; `paid` is paid; `past` was placed long ago; `recent` occurred half a day before.
fn four_orders(server: &Server) -> Result<()> {
    place(server, "late", &[])?;
    place(server, "paid", &[])?;
    pay(server, "paid")?;
    place(server, "past", &[("annals-occurred-at", "2017-10-02T10:56:33Z")])?;
    let half_a_day = chrono::Utc::now() - chrono::TimeDelta::hours(12);
    place(server, "recent", &[("annals-occurred-at", &half_a_day.to_rfc3339())])?;
    server.settle()?;
    let timer = status(&server.query, "fulfilment")?["outbox"]["next_timer_at"].clone();
    ensure!(timer.is_string(), "it is said when the next one is due: {timer}");
    Ok(())
}

#[test]
fn an_order_that_nobody_pays_for_a_week_is_cancelled_once_and_no_other_is() -> Result<()> {
    let shop = Shop::new()?;
    let data = shop.path("data");
    let server = shop.start(&data, 0)?;
    four_orders(&server)?;
    server.stop()?;

    let server = shop.start(&data, 5)?;
    server.settle()?;
    ensure!(cancelled(&server)?.is_empty(), "it has two days left");
    server.stop()?;

    let server = shop.start(&data, 8)?;
    until_cancelled(&server, "late")?;
    let found = until_cancelled(&server, "recent")?;
    server.settle()?;
    ensure!(
        cancelled(&server)?.len() == 2,
        "neither what was paid nor what is history: {found:?}"
    );
    for event in &found {
        ensure!(
            event["actor"] == "reactor:fulfilment" && event["data"]["reason"] == "not paid within 7 days",
            "{event}"
        );
    }
    let row = row_at(&server, "orders", "late", server.head()?)?.expect(200)?.json()?;
    ensure!(row["status"] == "cancelled", "{row}");
    let row = server.query.json("/v1/views/orders/paid")?;
    ensure!(row["status"] == "approved", "{row}");
    let mut server = server;
    let launch = server.kill()?;
    let server = launch.start()?;
    server.settle()?;
    ensure!(cancelled(&server)?.len() == 2, "a kill sets nothing off again");
    server.stop()
}

#[test]
fn a_timer_of_a_restored_log_is_set_off_by_one_of_the_two_servers_only() -> Result<()> {
    let shop = Shop::new()?;
    let (data, restored, file) = (shop.path("data"), shop.path("restored"), shop.path("shop.backup"));
    let (file_name, restored_name) = (file.to_str().context("path")?, restored.to_str().context("path")?);
    let server = shop.start(&data, 0)?;
    four_orders(&server)?;
    annals(["backup", file_name, "--url", server.command.url()])?.exits(0)?;
    server.stop()?;
    annals(["restore", file_name, "--data", restored_name])?.exits(0)?;

    // The old server goes on, and cancels the order.
    let old = shop.start(&data, 8)?;
    until_cancelled(&old, "late")?;
    old.stop()?;

    let server = shop.start(&restored, 8)?;
    until_state(&server.query, "fulfilment", "stopped")?;
    let first = place(&server, "after", &[])?;
    ensure!(
        cancelled(&server)?.is_empty(),
        "it does not know what the old one has done"
    );
    let from = json!({ "from": first.to_string(), "reason": "the old server is gone" });
    server
        .query
        .post("/v1/projections/fulfilment/resume", &[], &from)?
        .expect(202)?;
    until_state(&server.query, "fulfilment", "running")?;
    server.settle()?;
    server.stop()?;
    let server = shop.start(&restored, 14)?;
    server.settle()?;
    ensure!(cancelled(&server)?.is_empty(), "what was due before is not made up for");
    server.stop()?;
    let server = shop.start(&restored, 16)?;
    let found = until_cancelled(&server, "after")?;
    server.settle()?;
    ensure!(
        found.len() == 1 && cancelled(&server)?.len() == 1,
        "only what came after: {found:?}"
    );
    server.stop()
}

#[test]
fn a_backup_from_after_a_timer_went_off_sets_it_off_no_second_time_even_from_the_beginning() -> Result<()> {
    let shop = Shop::new()?;
    let (data, restored, file) = (shop.path("data"), shop.path("restored"), shop.path("shop.backup"));
    let (file_name, restored_name) = (file.to_str().context("path")?, restored.to_str().context("path")?);
    let server = shop.start(&data, 0)?;
    four_orders(&server)?;
    server.stop()?;
    let server = shop.start(&data, 8)?;
    until_cancelled(&server, "late")?;
    until_cancelled(&server, "recent")?;
    let head = server.settle()?;
    annals(["backup", file_name, "--url", server.command.url()])?.exits(0)?;
    server.stop()?;
    annals(["restore", file_name, "--data", restored_name])?.exits(0)?;
    annals([
        "projections",
        "resume",
        "fulfilment",
        "--from",
        "1",
        "--data",
        restored_name,
    ])?
    .exits(0)?;
    let server = shop.start(&restored, 30)?;
    let after = server.settle()?;
    ensure!(
        after == head + 1,
        "all that it says is known, but for the decision: {head}, {after}"
    );
    ensure!(cancelled(&server)?.len() == 2, "nothing twice");
    server.stop()
}

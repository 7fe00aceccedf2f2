//! Rebuilds as operators steer them: compared, kept back, swapped in, rolled back, dropped, paused, cancelled, killed in
//! the middle; over REST and on the command line. No query fails meanwhile.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use annals_tests::cli::{Run, annals};
use annals_tests::fixture::{demo, verb};
use annals_tests::rows;
use annals_tests::server::{Launch, Server};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::until;

/// A rebuild beside live traffic has a hundredth of the time: it is slow enough to be steered.
const SLOW: &str = "[projections]\nrebuild_share_percent = 1\n";

struct Shop {
    directory: TempDir,
}

impl Shop {
    /// With so many orders, and settings with which a rebuild is slow while somebody appends.
    fn new(orders: u32) -> Result<Self> {
        let shop = Self {
            directory: tempfile::tempdir()?,
        };
        std::fs::write(shop.directory.path().join("annals.toml"), SLOW)?;
        demo(&shop.data(), orders)?;
        Ok(shop)
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn start(&self) -> Result<Server> {
        let launch = Launch::on(&self.data())?;
        launch
            .argument("--config")
            .argument(self.directory.path().join("annals.toml"))
            .start()
    }
}

/// `annals rebuild orders …` against the server.
fn rebuild(server: &Server, arguments: &[&str]) -> Result<Run> {
    let url = ["--format", "json", "--url", server.query.url()];
    annals(["rebuild", "orders"].iter().chain(arguments).chain(&url).copied())
}

fn of_rebuild(server: &Server) -> Result<Value> {
    let answer = server.query.get("/v1/projections/orders/rebuild")?;
    Ok(if answer.status == 404 {
        Value::Null
    } else {
        answer.expect(200)?.json()?
    })
}

fn until_rebuild(server: &Server, state: &str) -> Result<Value> {
    until(&format!("the rebuild is {state}"), || {
        let found = of_rebuild(server)?;
        Ok(if found["state"] == state {
            Ok(found)
        } else {
            Err(found.to_string())
        })
    })
}

fn post(server: &Server, what: &str, status: u16) -> Result<Value> {
    let path = format!("/v1/projections/orders/{what}");
    server.query.send("POST", &path, &[], None)?.expect(status)?.json()
}

/// Lets users register without a pause until `work` is done, and asks for rows all the while: every answer is 200.
fn beside_traffic<T>(server: &Server, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let (stop, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let orders = rows::dump(&server.query)?;
    let orders: Vec<&String> = orders.keys().filter(|key| key.starts_with("orders/")).collect();
    let write = || -> Result<()> {
        for number in 0_u64.. {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            let id = format!("beside-{}-{number}", server.pid());
            let user = json!({ "email": format!("{id}@customers.example"), "name": "Late" });
            server
                .command
                .post(&format!("/v1/commands/users/{id}/register"), &[], &user)?
                .expect(200)?;
        }
        Ok(())
    };
    let ask = || -> Result<()> {
        for key in orders.iter().cycle() {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            server.query.get(&format!("/v1/views/{key}"))?.expect(200)?;
            server
                .query
                .get("/v1/views/orders?status=delivered&limit=5")?
                .expect(200)?;
            asked.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    };
    let worked = std::thread::scope(|scope| {
        let threads = [scope.spawn(write), scope.spawn(ask)];
        let worked = work();
        stop.store(true, Ordering::SeqCst);
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        worked
    })?;
    ensure!(asked.load(Ordering::SeqCst) > 0, "nothing was asked meanwhile");
    Ok(worked)
}

/// Rows of orders as the server sends them; traffic beside a rebuild changes none.
fn orders(server: &Server) -> Result<BTreeMap<String, String>> {
    let mut all = rows::dump(&server.query)?;
    all.retain(|key, _| key.starts_with("orders/"));
    Ok(all)
}

#[test]
fn new_rows_are_looked_at_kept_back_swapped_in_rolled_back_and_dropped() -> Result<()> {
    let shop = Shop::new(200)?;
    let server = shop.start()?;
    server.settle()?;
    let before = orders(&server)?;
    rebuild(&server, &["--swap"])?.exits(2)?;
    let report = rebuild(&server, &["--compare", "--no-swap"])?.exits(0)?.lines()?;
    ensure!(
        report[0]["same"] == before.len() && report[0]["differing"] == 0,
        "{report:?}"
    );
    ensure!(of_rebuild(&server)?["state"] == "ready", "{}", of_rebuild(&server)?);
    rebuild(&server, &["--swap"])?.exits(0)?;
    rebuild(&server, &["--rollback"])?.exits(0)?;
    // What served before the rollback is kept in turn.
    rebuild(&server, &["--rollback"])?.exits(0)?;
    rebuild(&server, &["--drop"])?.exits(0)?;
    let none = rebuild(&server, &["--rollback"])?.exits(2)?;
    ensure!(none.stderr.contains("no earlier rows"), "{}", none.stderr);
    rows::same("steered by the command line", &before, &orders(&server)?)?;

    post(&server, "rebuild?compare=true&swap=false", 202)?;
    let ready = until_rebuild(&server, "ready")?;
    ensure!(ready["comparison"]["differing"] == 0, "{ready}");
    post(&server, "swap", 202)?;
    until_rebuild(&server, "done")?;
    post(&server, "rollback", 202)?;
    until_rebuild(&server, "done")?;
    let dropped = post(&server, "rebuild/drop", 200)?;
    ensure!(dropped["dropped"] == true, "{dropped}");
    let refused = server
        .query
        .send("POST", "/v1/projections/orders/rollback", &[], None)?;
    refused.problem(409, "no-such-rows")?;
    rows::same("steered over REST", &before, &orders(&server)?)?;
    server.stop()?;

    for what in [
        &["--compare", "--no-swap"][..],
        &["--swap"],
        &["--rollback"],
        &["--drop"],
    ] {
        let arguments: Vec<&str> = ["rebuild", "orders"].iter().chain(what).copied().collect();
        verb(&shop.data(), &arguments)?
            .exits(0)
            .with_context(|| format!("offline: {what:?}"))?;
    }
    let server = shop.start()?;
    rows::same("steered offline", &before, &orders(&server)?)?;
    server.stop()
}

#[test]
fn a_rebuild_beside_traffic_is_paused_over_a_restart_resumed_and_cancelled_and_no_query_fails() -> Result<()> {
    let shop = Shop::new(1_500)?;
    let server = shop.start()?;
    server.settle()?;
    let before = orders(&server)?;
    for nothing in ["rebuild/pause", "rebuild/resume", "rebuild/cancel"] {
        let path = format!("/v1/projections/orders/{nothing}");
        server
            .query
            .send("POST", &path, &[], None)?
            .problem(409, "rebuild-not-running")?;
    }
    beside_traffic(&server, || {
        post(&server, "rebuild", 202)?;
        let again = server.query.send("POST", "/v1/projections/orders/rebuild", &[], None)?;
        again.problem(409, "rebuild-running")?;
        rebuild(&server, &["--pause"])?.exits(0)?;
        let paused = until_rebuild(&server, "paused")?;
        ensure!(paused["position"] != paused["total"], "in the middle: {paused}");
        Ok(())
    })?;
    server.stop()?;
    let server = shop.start()?;
    until_rebuild(&server, "paused")?;
    beside_traffic(&server, || {
        post(&server, "rebuild/resume", 202)?;
        until_rebuild(&server, "running")?;
        rebuild(&server, &["--cancel"])?.exits(0)?;
        until_rebuild(&server, "cancelled")?;
        Ok(())
    })?;
    rows::same("the old rows serve", &before, &orders(&server)?)?;
    rebuild(&server, &["--compare"])?.exits(0)?;
    rows::same("rebuilt after all", &before, &orders(&server)?)?;
    server.stop()
}

#[test]
fn a_rebuild_that_a_kill_interrupts_goes_on_by_itself() -> Result<()> {
    let shop = Shop::new(1_500)?;
    let mut server = shop.start()?;
    server.settle()?;
    let before = orders(&server)?;
    beside_traffic(&server, || {
        post(&server, "rebuild?compare=true", 202)?;
        until("some of it is done", || {
            let found = of_rebuild(&server)?;
            ensure!(
                found["state"] == "running",
                "too fast to be killed in the middle: {found}"
            );
            Ok(if found["position"] == "0" {
                Err(found.to_string())
            } else {
                Ok(())
            })
        })
    })?;
    let launch = server.kill()?;
    let server = launch.start()?;
    let done = until_rebuild(&server, "done")?;
    ensure!(done["comparison"]["differing"] == 0 && done["swap"] == true, "{done}");
    rows::same("after the kill", &before, &orders(&server)?)?;
    rebuild(&server, &["--rollback"])?.exits(0)?;
    rows::same("rolled back", &before, &orders(&server)?)?;
    server.stop()
}

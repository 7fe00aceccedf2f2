//! The kill suite: 64 clients send commands, the server is killed at random moments and started again on what it left,
//! and in the end nothing that was acknowledged is lost, nothing is done twice, and every cancellation is made good.
//!
//! `ANNALS_KILL_ROUNDS` kills (5); 100 of them: `ANNALS_KILL_ROUNDS=100 cargo test -p annals-tests --test kill -- --nocapture`.
//! `ANNALS_KILL_SEED` repeats the schedule of a run that printed its seed.

#![allow(clippy::print_stdout, reason = "a test says what it measured")]

mod check;
mod clients;
mod script;

use std::time::{Duration, SystemTime};

use annals_tests::cli::annals;
use annals_tests::events::{self, Event};
use annals_tests::rows;
use annals_tests::server::{Launch, Server};
use anyhow::{Context, Result, ensure};
use clients::{Acknowledged, Clients, Target};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const CLIENTS: u64 = 64;
const ROUNDS: u64 = 5;
/// Longest pause between two commands of a client.
const PAUSE_MS_MAX: u64 = 4;
/// What is aimed at from the start of a process until it serves again.
const GOAL: Duration = Duration::from_secs(2);

#[test]
fn nothing_is_lost_and_nothing_repeated_however_often_the_server_is_killed() -> Result<()> {
    let rounds = number("ANNALS_KILL_ROUNDS")?.unwrap_or(ROUNDS);
    let now = || SystemTime::UNIX_EPOCH.elapsed().map_or(0, |age| age.as_micros() as u64);
    let seed = number("ANNALS_KILL_SEED")?.unwrap_or_else(now);
    println!("{rounds} rounds with {CLIENTS} clients, ANNALS_KILL_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let directory = tempfile::tempdir()?;
    let mut server = Server::start(&directory.path().join("data"))?;
    let target = Target::new(server.command.url(), PAUSE_MS_MAX);
    let mut restarts = Vec::new();
    let acknowledged = std::thread::scope(|scope| {
        let clients = Clients::start(scope, &target, CLIENTS, seed);
        let ran = (1..=rounds).try_for_each(|round| {
            std::thread::sleep(Duration::from_millis(random.random_range(200..1_500)));
            let seen = target.acknowledged();
            server = restarted(&server.kill()?, &mut random)?;
            let head = server.head()?;
            ensure!(
                head >= seen,
                "round {round}: position {seen} was acknowledged, the log ends at {head}"
            );
            restarts.push((server.command_ready, server.ready));
            target.moved(server.command.url());
            anyhow::Ok(())
        });
        if ran.is_ok() {
            // The last one serves for a while, so that every command is answered in the end.
            std::thread::sleep(Duration::from_millis(500));
        }
        let ended = clients.stop();
        ran.and(ended)
    })?;
    report(&restarts);
    server.settle()?;
    let events = events::all(&server.command)?;
    say_how_much(&acknowledged, &events)?;
    check::acknowledged_once(&acknowledged, &events)?;
    let orders = check::made_good(&acknowledged, &events)?;
    let served = rows::each(rows::all(&server.query, "orders")?, rows::order_row)?;
    rows::same("orders", &orders, &served)?;
    check::online_users(&events, &rows::all(&server.query, "online-users")?)?;
    let data = server.data().to_owned();
    server.stop()?;
    annals(["verify", "--data", data.to_str().context("path")?])?.exits(0)?;
    Ok(())
}

/// Starts the server again; sometimes it is killed once more before it is ready.
fn restarted(launch: &Launch, random: &mut StdRng) -> Result<Server> {
    if random.random_bool(0.3) {
        launch.start_and_kill(Duration::from_millis(random.random_range(0..150)))?;
    }
    launch.start()
}

fn number(variable: &str) -> Result<Option<u64>> {
    let text = std::env::var(variable).ok();
    text.map(|text| text.parse().with_context(|| format!("{variable}={text} is no number")))
        .transpose()
}

fn say_how_much(acknowledged: &[Acknowledged], events: &[Event]) -> Result<()> {
    let again = acknowledged.iter().filter(|one| one.asked_again).count();
    let done = acknowledged
        .iter()
        .filter(|one| one.asked_again && one.duplicate)
        .count();
    println!("{} commands answered, {} events", acknowledged.len(), events.len());
    println!("{again} commands were asked again after a kill, {done} of them had been done before it");
    ensure!(
        again > 0,
        "no command was under way when the server was killed: that proves nothing"
    );
    Ok(())
}

fn report(restarts: &[(Duration, Duration)]) {
    let of = |what: &str, mut times: Vec<Duration>| {
        times.sort_unstable();
        let (Some(median), Some(most)) = (times.get(times.len() / 2), times.last()) else {
            return;
        };
        let verdict = if *most <= GOAL { "within" } else { "beyond" };
        let (median, longest, goal) = (median.as_millis(), most.as_millis(), GOAL.as_millis());
        println!("killed to {what} again: median {median} ms, longest {longest} ms, {verdict} the goal of {goal} ms");
    };
    of(
        "taking commands",
        restarts.iter().map(|(command, _)| *command).collect(),
    );
    of("answering queries", restarts.iter().map(|(_, query)| *query).collect());
}

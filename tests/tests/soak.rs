//! The soak suite: orders, appends, queries, rebuilds, backups and a follower go on while the server is killed at random
//! moments and started again. Every backup is restored and verified. In the end nothing that was acknowledged is lost,
//! and on the way memory, file handles and disk per event stay flat.
//!
//! `ANNALS_SOAK_MINUTES=30 cargo test -p annals-tests --test soak -- --nocapture` is the long form; it prints its samples.
//! Without it the suite runs for about 20 seconds. `ANNALS_KILL_SEED` repeats what clients say and when they are killed.

#![allow(clippy::print_stdout, reason = "a test says what it measured")]

#[path = "soak/backups.rs"]
mod backups;
#[path = "kill/check.rs"]
mod check;
#[path = "kill/clients.rs"]
mod clients;
#[path = "kill/script.rs"]
mod script;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use annals_tests::cli::annals;
use annals_tests::events;
use annals_tests::http::Client;
use annals_tests::process::{disk_bytes, memory_mib, open_files};
use annals_tests::rows;
use annals_tests::server::{Launch, Server};
use anyhow::{Context, Result, ensure};
use clients::{Acknowledged, Clients, Target};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const CLIENTS: u64 = 8;
const SHORT: Duration = Duration::from_secs(20);
/// What may be added to a middle third without counting as growth: what caches, segments and workers take at once.
const MEMORY_SLACK_MIB: u64 = 48;
const FILES_SLACK: u64 = 48;
const DISK_SLACK: u64 = 64;

/// How the suite runs.
struct Plan {
    lasts: Duration,
    /// Milliseconds from a start to the next kill.
    life_ms: std::ops::Range<u64>,
    /// Longest pause between two commands of a client, milliseconds.
    pause_ms_max: u64,
    sample_every: Duration,
    /// Pause between two backups.
    backup_pause: Duration,
}

impl Plan {
    fn read() -> Result<Self> {
        let Some(minutes) = number("ANNALS_SOAK_MINUTES")? else {
            return Ok(Self {
                lasts: SHORT,
                life_ms: 1_500..4_000,
                pause_ms_max: 10,
                sample_every: Duration::from_millis(200),
                backup_pause: Duration::from_millis(500),
            });
        };
        Ok(Self {
            lasts: Duration::from_secs(60 * minutes),
            life_ms: 10_000..180_000,
            pause_ms_max: 60,
            sample_every: Duration::from_secs(2),
            backup_pause: Duration::from_secs(20),
        })
    }
}

fn number(variable: &str) -> Result<Option<u64>> {
    let text = std::env::var(variable).ok();
    text.map(|text| text.parse().with_context(|| format!("{variable}={text} is no number")))
        .transpose()
}

/// What the server took at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    seconds: u64,
    lives: u64,
    events: u64,
    memory_mib: u64,
    files: u64,
    disk: u64,
}

/// The server at the moment, for those who watch it; between two lives there is none.
#[derive(Default)]
struct Watched {
    now: Mutex<Option<(u32, String, String)>>,
    lives: AtomicU64,
    stop: AtomicBool,
    queries: AtomicU64,
    followed: AtomicU64,
    rebuilds: AtomicU64,
}

impl Watched {
    fn is(&self, server: Option<&Server>) {
        let now = server.map(|server| {
            (
                server.pid(),
                server.command.url().to_owned(),
                server.query.url().to_owned(),
            )
        });
        if now.is_some() {
            self.lives.fetch_add(1, Ordering::Relaxed);
        }
        *self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = now;
    }

    fn now(&self) -> Option<(u32, Client, Client)> {
        let now = self
            .now
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone();
        now.map(|(pid, command, query)| (pid, Client::new(&command), Client::new(&query)))
    }

    /// The position up to which the follower has read.
    fn followed(&self) -> u64 {
        self.followed.load(Ordering::Relaxed)
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

#[test]
fn what_a_server_takes_stays_flat_under_mixed_load_and_random_kills() -> Result<()> {
    let plan = Plan::read()?;
    let now = || SystemTime::UNIX_EPOCH.elapsed().map_or(0, |age| age.as_micros() as u64);
    let seed = number("ANNALS_KILL_SEED")?.unwrap_or_else(now);
    println!(
        "{} s with {CLIENTS} clients, ANNALS_KILL_SEED={seed}",
        plan.lasts.as_secs()
    );
    let mut random = StdRng::seed_from_u64(seed);
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    let mut server = Server::start(&data)?;
    let (target, watched) = (Target::new(server.command.url(), plan.pause_ms_max), Watched::default());
    watched.is(Some(&server));
    let (samples, backups, acknowledged) = std::thread::scope(|scope| {
        let clients = Clients::start(scope, &target, CLIENTS, seed);
        let sampler = scope.spawn(|| sample(&watched, &data, &plan));
        let backups = scope.spawn(|| backups::take(&watched, directory.path(), plan.backup_pause));
        let others = [
            scope.spawn(|| query(&watched)),
            scope.spawn(|| follow(&watched)),
            scope.spawn(|| rebuild(&watched)),
        ];
        let begun = Instant::now();
        let mut ran = Ok(());
        while ran.is_ok() && begun.elapsed() < plan.lasts {
            std::thread::sleep(Duration::from_millis(random.random_range(plan.life_ms.clone())));
            ran = next_life(&mut server, &target, &watched);
        }
        if ran.is_ok() {
            // The last one serves for a while, so that every command is answered in the end.
            std::thread::sleep(Duration::from_millis(500));
        }
        let acknowledged = clients.stop();
        watched.stop.store(true, Ordering::Relaxed);
        let samples = sampler.join().map_err(|_| anyhow::anyhow!("the sampler panicked"));
        for other in others {
            other.join().map_err(|_| anyhow::anyhow!("a reader panicked"))??;
        }
        let backups = backups
            .join()
            .map_err(|_| anyhow::anyhow!("who takes backups panicked"))?;
        ran?;
        anyhow::Ok((samples?, backups?, acknowledged?))
    })?;
    all_there(server, &acknowledged)?;
    backups::tells_the_same(&backups, &data)?;
    report(&samples, plan.lasts > SHORT);
    let count = |what: &AtomicU64| what.load(Ordering::Relaxed);
    let (queries, followed, rebuilds) = (count(&watched.queries), watched.followed(), count(&watched.rebuilds));
    println!("{queries} queries, {rebuilds} rebuilds, {followed} events followed");
    println!(
        "{} backups taken, restored and verified, {} cut off by a kill",
        backups.whole, backups.cut_off
    );
    ensure!(
        queries > 0 && rebuilds > 0 && followed > 0,
        "nobody but the clients did anything"
    );
    flat(&samples)
}

/// Everything acknowledged is there once, views say what the events say, and the log is whole. Stops the server.
fn all_there(server: Server, acknowledged: &[Acknowledged]) -> Result<()> {
    let data = server.data().to_owned();
    server.settle()?;
    let events = events::all(&server.command)?;
    let again = acknowledged.iter().filter(|one| one.asked_again).count();
    let done = acknowledged.iter().filter(|one| one.duplicate).count();
    println!(
        "{} commands answered ({again} asked again after a kill, {done} done before it), {} events",
        acknowledged.len(),
        events.len()
    );
    check::acknowledged_once(acknowledged, &events)?;
    check::online_users(&events, &rows::all(&server.query, "online-users")?)?;
    let orders = check::made_good(acknowledged, &events)?;
    rows::same(
        "orders",
        &orders,
        &rows::each(rows::all(&server.query, "orders")?, rows::order_row)?,
    )?;
    server.stop()?;
    annals(["verify", "--data", data.to_str().context("path")?])?.exits(0)?;
    Ok(())
}

/// Kills the server and starts it again.
fn next_life(server: &mut Server, target: &Target, watched: &Watched) -> Result<()> {
    let seen = target.acknowledged();
    watched.is(None);
    let launch: Launch = server.kill()?;
    *server = launch.start()?;
    let head = server.head()?;
    ensure!(head >= seen, "position {seen} was acknowledged, the log ends at {head}");
    watched.is(Some(server));
    target.moved(server.command.url());
    Ok(())
}

/// Looks at the server again and again. A look that a kill comes into does not count.
fn sample(watched: &Watched, data: &Path, plan: &Plan) -> Vec<Sample> {
    let (begun, mut samples) = (Instant::now(), Vec::new());
    while watched.goes_on() {
        std::thread::sleep(plan.sample_every);
        let Some((pid, command, _)) = watched.now() else {
            continue;
        };
        let look = || -> Result<Sample> {
            let head = command.json("/v1/log")?["head"].as_str().context("no head")?.parse()?;
            Ok(Sample {
                seconds: begun.elapsed().as_secs(),
                lives: watched.lives.load(Ordering::Relaxed),
                events: head,
                memory_mib: memory_mib(pid)?,
                files: open_files(pid)? as u64,
                disk: disk_bytes(data),
            })
        };
        samples.extend(look().ok().filter(|sample| sample.memory_mib > 0));
    }
    samples
}

/// Asks views and events, as long as there is a server to ask.
fn query(watched: &Watched) -> Result<()> {
    while watched.goes_on() {
        let Some((_, command, query)) = watched.now() else {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        let asked = [
            query.get("/v1/views/orders?limit=50"),
            query.get("/v1/views/orders/ord-1-1"),
            query.get("/v1/views/online-users"),
            command.get("/v1/events?limit=200&category=payments"),
            command.get("/v1/streams/users/shared-1?direction=backward&limit=20"),
        ];
        for answer in asked.into_iter().flatten() {
            ensure!(
                [200, 404, 503].contains(&answer.status),
                "a query was answered with {}: {}",
                answer.status,
                answer.text()
            );
            watched.queries.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Follows the log's blocks from its beginning, over all lives of the server.
fn follow(watched: &Watched) -> Result<()> {
    let mut after = 0;
    while watched.goes_on() {
        let page = watched
            .now()
            .and_then(|(_, command, _)| command.get(&format!("/v1/log/blocks?after={after}")).ok());
        if let Some(page) = page.filter(|page| page.status == 200) {
            let reached: u64 = page.header("annals-position").parse().context("no position")?;
            ensure!(reached >= after, "the log went back from {after} to {reached}");
            after = reached;
            watched.followed.store(after, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Has a view rebuilt now and then.
fn rebuild(watched: &Watched) -> Result<()> {
    while watched.goes_on() {
        std::thread::sleep(Duration::from_millis(700));
        let Some((_, _, query)) = watched.now() else { continue };
        let Ok(answer) = query.send("POST", "/v1/projections/orders/rebuild", &[], Some(b"")) else {
            continue;
        };
        ensure!(
            [202, 409, 503].contains(&answer.status),
            "a rebuild was answered with {}: {}",
            answer.status,
            answer.text()
        );
        watched
            .rebuilds
            .fetch_add(u64::from(answer.status == 202), Ordering::Relaxed);
    }
    Ok(())
}

fn per_event(sample: &Sample) -> u64 {
    sample.disk / sample.events.max(1)
}

/// A table of about 60 of the samples, or only what they begin and end with.
fn report(samples: &[Sample], long: bool) {
    println!("    time   lives      events   MiB   files   disk MiB   disk/event");
    let step = if long {
        samples.len().div_ceil(60)
    } else {
        samples.len() / 2
    }
    .max(1);
    for sample in samples.iter().step_by(step).chain(samples.last()) {
        println!(
            "{:6} s {:7} {:11} {:5} {:7} {:10} {:12}",
            sample.seconds,
            sample.lives,
            sample.events,
            sample.memory_mib,
            sample.files,
            sample.disk >> 20,
            per_event(sample)
        );
    }
}

/// Compares the last third of the events with the one before it, by the middle of what was seen in each.
fn flat(samples: &[Sample]) -> Result<()> {
    let last = samples.last().context("no sample was taken")?.events;
    let third = |from: u64| -> Vec<Sample> {
        let (begin, end) = (last * from / 3, last * (from + 1) / 3);
        samples
            .iter()
            .filter(|sample| (begin..=end).contains(&sample.events))
            .copied()
            .collect()
    };
    let (before, after) = (third(1), third(2));
    let check = |what: &str, of: fn(&Sample) -> u64, slack: u64| -> Result<()> {
        let median = |samples: &[Sample]| {
            let mut values: Vec<u64> = samples.iter().map(of).collect();
            values.sort_unstable();
            values.get(values.len() / 2).copied()
        };
        let (before, after) = median(&before)
            .zip(median(&after))
            .context("a third without a sample")?;
        println!("{what}: {before} in the middle third, {after} in the last one");
        ensure!(
            after <= before + before / 4 + slack,
            "{what} grew from {before} to {after}"
        );
        Ok(())
    };
    check("MiB of memory", |sample| sample.memory_mib, MEMORY_SLACK_MIB)?;
    check("open files", |sample| sample.files, FILES_SLACK)?;
    check("bytes on disk per event", per_event, DISK_SLACK)
}

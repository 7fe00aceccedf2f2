//! `annals bench`: how fast this machine is, always beside what its disk can do at best.

mod calls;
mod child;
mod domain;
mod entry;
mod goal;
mod leftovers;
mod local;
mod log;
mod machine;
mod measure;
mod order_log;
mod pace;
mod payloads;
mod raw;
mod rebuilds;
mod report;
mod rest;
mod scenario;
mod server;
mod storage;
mod sustained;
mod views;

use super::output::FormatArg;
use super::target::check_outside;
use super::verdict::{Outcome, Verdict};
use super::{note, runtime};
use crate::node::Store;
use crate::source::Instead;
use anyhow::{Context, Result, bail, ensure};
use domain::{DOMAIN, STREAMS};
use entry::Entry;
use local::Local;
use pace::Pace;
use payloads::EVENT_BYTES;
use report::Report;
use scenario::What;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

const HELP: &str = "\
Events are 200 bytes of JSON over 100,000 streams; every append is synced before it counts.
Closed loop: each task or connection asks again when it has its answer. Open loop (--rate):
calls are scheduled at a fixed rate and timed from when they were due, so that a stall counts
for everyone who would have waited; what could not be made in time is said and counts as slow.

The baseline writes the same payload bytes with pwrite and fdatasync to a file of full size
beside the log; rate_of_raw and p50_of_raw compare with it. `goal` is for a machine of two
cores that the load shares; of_goal is what was found, as part of it. For batches, scans and
verification the times are of one call; per_second counts events, commands or streams read.

Without --url everything runs in this process, the HTTP server too, on a data directory of
its own: a temporary one in the current directory, or --data, which is kept: scenarios of a
later run find the log as the earlier one left it. A temporary one that a killed run left is
removed by the next. With --url, events are appended to the
streams bench/… of the server there.

Examples:
  annals bench
  annals bench --only append-64 --only rest-64 --seconds 10 --format json
  annals bench --only rest-64 --rate 20000
  annals bench --data /mnt/fast/bench --events 20000000 --report bench.json
  annals bench --data /mnt/fast/bench --only rss --only open-killed --only disk
  annals bench --url http://127.0.0.1:8080 --rate 5000

Exit code: 0 also when a goal is missed; 2 usage, environment, or a measurement that failed.";

/// Bounds of what can be asked for: beyond them nothing is measured, or it would never end.
const SECONDS_MIN: f64 = 0.01;
const SECONDS_MAX: f64 = 86_400.0;
const RATE_MIN: f64 = 0.01;
const RATE_MAX: f64 = 10_000_000.0;
/// Calls of one measurement: each that was not made in time is counted.
const CALLS_MAX: f64 = 1e8;
const IN_FLIGHT_MAX: usize = 10_000;
const EVENTS_MAX: u64 = 10_000_000_000;

/// Measure appends, commands over REST, reads and recovery against the raw disk and the goals
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// A data directory to measure in: a new one, or one that a benchmark left; it is kept
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    data: Option<PathBuf>,

    /// URL of a running command API to measure
    #[arg(long, value_name = "URL")]
    url: Option<String>,

    /// Seconds for each measurement
    #[arg(long, value_name = "N", default_value_t = 3.0)]
    seconds: f64,

    /// Only this measurement, and its baseline; may be given several times
    #[arg(long, value_enum, value_name = "WHAT", conflicts_with = "url")]
    only: Vec<What>,

    /// Open loop: so many calls a second for appends and commands [default: closed loop]
    #[arg(long, value_name = "R")]
    rate: Option<f64>,

    /// Most calls under way at a time [default: as many as the measurement has tasks]
    #[arg(long, value_name = "N")]
    in_flight: Option<usize>,

    /// Append until the log has so many events, and report the rate of each million; the log of orders that
    /// rebuild-orders, catch-up, rebuild-live and as-of work on has as many, at most 10 million [default: 300000]
    #[arg(long, value_name = "N", conflicts_with = "url")]
    events: Option<u64>,

    /// Events that the log has at least before it is read [default: 400000]
    #[arg(long, value_name = "N", conflicts_with = "url", hide = true)]
    events_min: Option<u64>,

    /// Write all that was found, with machine and settings, to this file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Serve the log in --data to another benchmark until stdin ends
    #[arg(long, hide = true, requires = "data")]
    as_server: bool,

    #[command(flatten)]
    format: FormatArg,
}

/// What was asked for, checked.
struct Settings {
    time: Duration,
    rate: Option<f64>,
    in_flight: Option<usize>,
    events: Option<u64>,
    events_min: Option<u64>,
    only: Vec<What>,
}

impl Settings {
    fn wants(&self, what: What) -> bool {
        match self.only.as_slice() {
            [] => what != What::AppendSustained || self.events.is_some(),
            only => only.contains(&what),
        }
    }

    fn pace(&self) -> Pace {
        Pace {
            time: self.time,
            rate: self.rate,
        }
    }

    fn closed_pace(&self) -> Pace {
        Pace {
            rate: None,
            ..self.pace()
        }
    }

    fn json(&self) -> Value {
        json!({
            "seconds": self.time.as_secs_f64(),
            "rate": self.rate,
            "in_flight": self.in_flight,
            "events": self.events,
            "event_bytes": EVENT_BYTES,
            "streams": STREAMS,
            "only": self.only.iter().map(|what| what.name()).collect::<Vec<_>>(),
        })
    }
}

impl Args {
    pub(crate) fn run(&self) -> Outcome {
        if let (true, Some(dir)) = (self.as_server, &self.data) {
            return runtime()?.block_on(server::serve_as_child(dir));
        }
        let settings = self.settings()?;
        let mut report = Report::new(self.format.resolve());
        match &self.url {
            Some(url) => {
                let ended = runtime()?.block_on(remote(url, &settings, &mut report));
                report.finish(self.report.as_deref(), None, &settings.json(), &ended)?;
                ended?;
            }
            None => self.local(&settings, report)?,
        }
        Ok(Verdict::Fine)
    }

    fn settings(&self) -> Result<Settings> {
        let within = |number: f64, least: f64, most: f64| (least..=most).contains(&number);
        ensure!(
            within(self.seconds, SECONDS_MIN, SECONDS_MAX),
            "--seconds {} is out of bounds: at least {SECONDS_MIN}, at most {SECONDS_MAX}",
            self.seconds
        );
        if let Some(rate) = self.rate {
            ensure!(
                within(rate, RATE_MIN, RATE_MAX),
                "--rate {rate} is out of bounds: at least {RATE_MIN} calls a second, at most {RATE_MAX}"
            );
            ensure!(
                rate * self.seconds <= CALLS_MAX,
                "--rate {rate} for --seconds {} are more than {CALLS_MAX} calls: ask for fewer a second, or for less time",
                self.seconds
            );
        }
        ensure!(
            self.in_flight.is_none_or(|calls| (1..=IN_FLIGHT_MAX).contains(&calls)),
            "--in-flight is out of bounds: at least 1, at most {IN_FLIGHT_MAX}"
        );
        for (option, events) in [("--events", self.events), ("--events-min", self.events_min)] {
            ensure!(
                events.is_none_or(|events| (1..=EVENTS_MAX).contains(&events)),
                "{option} is out of bounds: at least 1, at most {EVENTS_MAX}"
            );
        }
        if let (Some(file), Some(data)) = (&self.report, &self.data) {
            ensure!(
                std::path::absolute(file)? != std::path::absolute(data)?,
                "--report and --data name the same place: name another file"
            );
        }
        if let Some(file) = &self.report {
            check_outside(file)?;
            report::check_writable(file)?;
        }
        if self.only.contains(&What::AppendSustained) && self.events.is_none() {
            bail!("append-sustained needs to know until when: say how many events with --events N");
        }
        Ok(Settings {
            time: Duration::from_secs_f64(self.seconds),
            rate: self.rate,
            in_flight: self.in_flight,
            events: self.events,
            events_min: self.events_min,
            only: self.only.clone(),
        })
    }

    fn local(&self, settings: &Settings, mut report: Report) -> Result<()> {
        let temporary = match &self.data {
            Some(_) => None,
            None => {
                let here = std::env::current_dir()?;
                leftovers::remove(&here);
                Some(leftovers::directory(&here)?)
            }
        };
        let path = match (&self.data, &temporary) {
            (Some(path), _) => path.clone(),
            (None, Some(dir)) => dir.path(),
            (None, None) => PathBuf::from("."),
        };
        let path = path.as_path();
        note(format_args!(
            "{EVENT_BYTES}-byte events over {STREAMS} streams, {} s each, in {}",
            self.seconds,
            path.display()
        ));
        let store = open(path)?;
        let mut local = Local {
            settings,
            dir: path,
            report: &mut report,
        };
        let ended = runtime()?.block_on(local.all(store));
        report.finish(self.report.as_deref(), Some(path), &settings.json(), &ended)?;
        if let Some(dir) = temporary {
            dir.close().context("cannot remove the temporary data directory")?;
        }
        ended
    }
}

/// The log to measure: a new one, or one that a benchmark has left.
fn open(path: &Path) -> Result<Store> {
    let store = Store::open(path, &domain::backend()).map_err(|error| Instead::AnotherDirectory.of(error))?;
    ensure!(
        store.dir().domain() == Some(DOMAIN),
        "{} has a log of another domain, and a benchmark would add to it: name another directory",
        path.display()
    );
    Ok(store)
}

async fn remote(url: &str, settings: &Settings, report: &mut Report) -> Result<()> {
    let address = rest::resolve(url)?;
    let hello = rest::load(address, 64, settings.closed_pace(), |_| calls::Health).await?;
    let words = "GET /healthz, 64 connections: what HTTP alone can do here";
    report.add(&Entry::baseline("raw-http-64", words, hello))?;
    for (name, connections) in [("rest-append-1", 1), ("rest-append-64", 64)] {
        let connections = settings.in_flight.unwrap_or(connections);
        let measured = rest::load(address, connections, settings.pace(), calls::Appends::of).await?;
        let words = format!("events appended over REST, {connections} connections");
        report.add(&Entry::baseline(name, &words, measured))?;
    }
    Ok(())
}

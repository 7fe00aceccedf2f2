//! The view `orders` on a log of orders: rebuilds, catching up, rebuilds beside commands, and rows of the past.

use super::calls::OrderReads;
use super::domain::orders_backend;
use super::entry::Entry;
use super::log::scan_once;
use super::machine::processor_time;
use super::measure::Measured;
use super::order_log::OrderLog;
use super::pace::{Pace, Worker as _};
use super::report::Report;
use super::rest;
use super::scenario::What;
use super::server::CommandServer;
use super::views::{Following, wait_for};
use crate::node::projection_settings;
use annals_api::{ApiState, query_api};
use annals_commerce::Orders;
use annals_core::{History, Position};
use annals_projections::{ProjectionSettings, Projections, RebuildOptions, ViewDefinition, rebuild_offline};
use anyhow::{Context, Result};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Orders that are read.
const SAMPLED: u64 = 2_000;
/// How often it is looked whether a rebuild goes on.
const LOOK: Duration = Duration::from_millis(5);

/// What was needed for something that was done once.
struct Needed {
    events: u64,
    took: Duration,
    processor: Option<Duration>,
    bytes: u64,
}

impl Needed {
    fn of(events: u64, views: &Path, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let (begin, before) = (Instant::now(), processor_time());
        work()?;
        Ok(Self {
            events,
            took: begin.elapsed(),
            processor: processor_time().zip(before).map(|(now, before)| now - before),
            bytes: bytes_in(views),
        })
    }

    fn measured(&self) -> Result<Measured> {
        let mut measured = Measured::none()?;
        measured.record(self.events, self.took);
        measured.elapsed = self.took;
        Ok(measured)
    }

    fn rate(&self) -> f64 {
        self.events as f64 / self.took.as_secs_f64()
    }

    /// Processor time of an event, nanoseconds: comparable also while others are at work on the machine.
    fn nanos_of_event(&self) -> Option<f64> {
        Some((self.processor?.as_secs_f64() * 1e9 / self.events as f64).round())
    }

    fn entry(&self, entry: Entry) -> Entry {
        let entry = entry.with("events", self.events).with("view_bytes", self.bytes);
        match self.nanos_of_event() {
            Some(nanos) => entry.with("processor_ns_of_event", nanos),
            None => entry,
        }
    }
}

fn bytes_in(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_in(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

/// The view that is rebuilt.
pub(super) fn orders(history: History) -> ViewDefinition {
    ViewDefinition::of(Orders).with_history(history)
}

/// Rebuilds without a server, once without history and once with it, beside a scan of the same log.
pub(super) fn rebuild_orders(log: &OrderLog, report: &mut Report) -> Result<()> {
    let events = log.log().head().get();
    let begin = Instant::now();
    scan_once(log.log().as_ref())?;
    let scan = events as f64 / begin.elapsed().as_secs_f64();
    for history in [History::Off, History::Kept] {
        let needed = rebuilt(log, history)?;
        let of_scan = needed.rate() / scan;
        let entry = match history {
            History::Off => Entry::measured(What::RebuildOrders, needed.measured()?),
            History::Kept => {
                let words = "the same with history";
                Entry::baseline("rebuild-orders-history", words, needed.measured()?)
            }
        };
        report.add(&needed.entry(entry.with_value(of_scan, "of the scan rate")))?;
    }
    Ok(())
}

fn rebuilt(log: &OrderLog, history: History) -> Result<Needed> {
    let views = log.views("views-rebuilt")?;
    let settings = ProjectionSettings::new(&views, log.views("reactors")?);
    let (catalog, view, events) = (orders_backend().catalog()?, orders(history), log.log());
    Needed::of(events.head().get(), &views, || {
        let options = RebuildOptions::default();
        rebuild_offline(events.as_ref(), &catalog, &view, &settings, options, &mut |_| {})?;
        Ok(())
    })
}

/// A worker that has read the first group only, until it has read everything.
pub(super) async fn catch_up(log: &OrderLog, report: &mut Report) -> Result<()> {
    let rebuilt = rebuilt(log, History::Off)?;
    let views = log.views("views-caught-up")?;
    copy(&log.behind(), &views)?;
    let settings = ProjectionSettings::new(&views, log.views("reactors")?);
    let (begin, before) = (Instant::now(), processor_time());
    let projections = Projections::start(
        log.log(),
        orders_backend().catalog()?,
        vec![orders(History::Off)],
        Vec::new(),
        None,
        settings,
    )?;
    let behind = projections.statuses().iter().map(|status| status.lag_events).sum();
    wait_for(&projections, log.log().head()).await?;
    let needed = Needed {
        events: behind,
        took: begin.elapsed(),
        processor: processor_time().zip(before).map(|(now, before)| now - before),
        bytes: bytes_in(&views),
    };
    stop(projections).await?;
    let of_rebuild = needed.rate() / rebuilt.rate();
    let entry = Entry::measured(What::CatchUp, needed.measured()?).with_value(of_rebuild, "of the rebuild's rate");
    let entry = match rebuilt.nanos_of_event() {
        Some(nanos) => entry.with("rebuild_processor_ns_of_event", nanos),
        None => entry,
    };
    report.add(&needed.entry(entry))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target).with_context(|| format!("cannot write {}", target.display()))?;
        }
    }
    Ok(())
}

async fn stop(projections: Projections) -> Result<()> {
    tokio::task::spawn_blocking(move || projections.shutdown())
        .await
        .context("the views could not be stopped")
}

/// Commands in an open loop at half of the rate that is possible, or at that of `pace`: first alone, then while the view
/// of the orders is rebuilt again and again.
pub(super) async fn rebuild_live(log: &OrderLog, connections: usize, pace: Pace, report: &mut Report) -> Result<()> {
    let following = Following::start(&log.store, &orders_backend()).await?;
    let rate = match pace.rate {
        Some(rate) => rate,
        None => following.orders(connections, pace).await?.measured.rate() / 2.0,
    };
    let pace = Pace {
        rate: Some(rate),
        ..pace
    };
    let without = following.commands(connections, pace).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let rebuilding = tokio::spawn(rebuild_again_and_again(
        following.projections().clone(),
        Arc::clone(&stop),
    ));
    let with = following.commands(connections, pace).await;
    stop.store(true, Ordering::Relaxed);
    let (rebuilt, seconds) = rebuilding.await.context("a rebuild could not be watched")??;
    following.stop().await?;
    let with = with?;
    let (before, after) = (without.micros(0.99), with.micros(0.99));
    let words = "the same commands without a rebuild";
    report.add(&Entry::baseline("rebuild-live-without", words, without))?;
    let entry = Entry::measured(What::RebuildLive, with).with_value(after / before.max(0.001), "of p99 without");
    let entry = entry.with("p99_without_us", before.round());
    report.add(&entry.with("rebuilt_events_per_second", (rebuilt as f64 / seconds).round()))
}

/// How many events were folded, and in how many seconds.
async fn rebuild_again_and_again(projections: Projections, stop: Arc<AtomicBool>) -> Result<(u64, f64)> {
    let (mut done, begin) = (0, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        projections.rebuild("orders")?;
        let mut reached = 0;
        loop {
            tokio::time::sleep(LOOK).await;
            let status = projections.rebuild_status("orders").context("there is no rebuild")?;
            if status.state != annals_projections::RebuildState::Running {
                // It was swapped in, or failed: which one shows when the next one begins.
                done += status.position.get();
                break;
            }
            reached = reached.max(status.position.get());
            if stop.load(Ordering::Relaxed) {
                projections.cancel_rebuild("orders")?;
                return Ok((done + reached, begin.elapsed().as_secs_f64()));
            }
        }
    }
    Ok((done, begin.elapsed().as_secs_f64()))
}

/// The same orders as they are and as they were before their second event, in turns over one connection.
pub(super) async fn as_of(log: &OrderLog, time: Duration, report: &mut Report) -> Result<()> {
    let backend = orders_backend();
    let appender = log.appender();
    let commands = backend.commands(Arc::clone(&appender))?;
    let projections = Projections::start(
        log.log(),
        Arc::clone(commands.catalog()),
        vec![orders(History::Kept)],
        Vec::new(),
        None,
        projection_settings(log.store.dir()),
    )?;
    wait_for(&projections, appender.head()).await?;
    let mut state = ApiState::new(commands);
    state.projections = Some(projections.clone());
    let server = CommandServer::serve(query_api(state)).await?;
    let sampled: Arc<Vec<(String, Position)>> = Arc::new(log.sample(SAMPLED)?);
    let read = read_in_turns(&server, &sampled, time).await;
    server.stop().await?;
    stop(projections).await?;
    let (now, then) = read?;
    let ratio = then.micros(0.5) / now.micros(0.5).max(0.001);
    let words = "the same orders as they are now";
    report.add(&Entry::baseline("as-of-now", words, now))?;
    report.add(&Entry::measured(What::AsOf, then).with_value(ratio, "of p50 now"))
}

async fn read_in_turns(
    server: &CommandServer,
    sampled: &Arc<Vec<(String, Position)>>,
    time: Duration,
) -> Result<(Measured, Measured)> {
    let mut connection = rest::Connection::open(server.address(), OrderReads::of(sampled)).await?;
    // Once without measuring, so that neither of the two finds the disk colder than the other.
    for _ in 0..2 * sampled.len() {
        connection.turn().await?;
    }
    let (mut now, mut then) = (Measured::none()?, Measured::none()?);
    let begin = Instant::now();
    while begin.elapsed() < time {
        for measured in [&mut now, &mut then] {
            let asked = Instant::now();
            connection.turn().await?;
            measured.record(1, asked.elapsed());
            measured.elapsed += asked.elapsed();
        }
    }
    Ok((now, then))
}

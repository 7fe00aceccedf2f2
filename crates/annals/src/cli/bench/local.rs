//! The scenarios in this process, one after the other: first those that leave the log small, then those that want it large.

use super::child::ChildServer;
use super::domain::{backend, commerce_backend};
use super::entry::Entry;
use super::measure::Measured;
use super::order_log::OrderLog;
use super::pace::Pace;
use super::payloads::EVENT_BYTES;
use super::report::Report;
use super::scenario::What;
use super::{Settings, calls, log, machine, raw, rebuilds, rest, storage, sustained, views};
use crate::cli::note;
use crate::node::Store;
use crate::remote_log::RemoteLog;
use annals_core::{Appender, EventLog, History};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Events that reads and scans want to find: enough for a tenth of a second of each.
const EVENTS_MIN: u64 = 400_000;
const CONNECTIONS: usize = 64;
/// How long the load goes on that a server is killed under.
const KILLED_AFTER: Duration = Duration::from_secs(2);

/// Events of the log of orders: by itself, and at most.
const ORDER_EVENTS: u64 = 300_000;
const ORDER_EVENTS_MAX: u64 = 10_000_000;

/// A run of the benchmark on one data directory.
pub(super) struct Local<'a> {
    pub(super) settings: &'a Settings,
    pub(super) dir: &'a Path,
    pub(super) report: &'a mut Report,
}

/// The raw disk, measured when it is first compared with.
#[derive(Default)]
struct Raws {
    one: Option<Measured>,
    hundred: Option<Measured>,
}

impl Local<'_> {
    /// Everything that is wanted. `store` is the log in the directory.
    pub(super) async fn all(&mut self, store: Store) -> Result<()> {
        let ended = self.opened(&store).await;
        // Closing writes what is not indexed yet, as the end of a server would.
        store.close();
        drop(store);
        ended?;
        self.orders().await?;
        self.closed().await
    }

    /// Those on a log of orders.
    async fn orders(&mut self) -> Result<()> {
        let rebuilds = [What::RebuildOrders, What::CatchUp, What::RebuildLive, What::AsOf];
        if !rebuilds.into_iter().any(|what| self.settings.wants(what)) {
            return Ok(());
        }
        let events = self.settings.events_min.or(self.settings.events);
        let events = events.unwrap_or(ORDER_EVENTS).min(ORDER_EVENTS_MAX);
        let behind = rebuilds::orders(History::Off);
        let log = OrderLog::open(self.dir, &behind, events).await?;
        if self.wants(What::RebuildOrders) {
            rebuilds::rebuild_orders(&log, self.report)?;
        }
        if self.wants(What::CatchUp) {
            rebuilds::catch_up(&log, self.report).await?;
        }
        if self.wants(What::AsOf) {
            rebuilds::as_of(&log, self.settings.time, self.report).await?;
        }
        if self.wants(What::RebuildLive) {
            rebuilds::rebuild_live(&log, self.clients(CONNECTIONS), self.pace(), self.report).await?;
        }
        log.close();
        Ok(())
    }

    fn wants(&self, what: What) -> bool {
        let wanted = self.settings.wants(what);
        if wanted {
            note(format_args!("{}: {}", what.name(), what.words()));
        }
        wanted
    }

    async fn opened(&mut self, store: &Store) -> Result<()> {
        let log = Arc::clone(store.log()) as Arc<dyn Appender>;
        let mut raws = Raws::default();
        self.appends(&log, &mut raws).await?;
        self.commands(&log, &mut raws).await?;
        if self.wants(What::RestViews) {
            let followed = views::follow(store, &commerce_backend(), self.clients(CONNECTIONS), self.pace()).await?;
            let entry = Entry::measured(What::RestViews, followed.measured);
            let entry = entry.with("lag_events", followed.lag_events);
            self.report.add(&entry.with("lag_seconds", followed.lag_seconds))?;
        }
        if self.wants(What::ViewLag) {
            let (seen, load) = views::lag(store, &commerce_backend(), self.clients(CONNECTIONS), self.pace()).await?;
            let entry = Entry::measured(What::ViewLag, seen);
            self.report
                .add(&entry.with("commands_per_second", load.rate().round()))?;
        }
        if self.wants(What::AppendSustained) {
            self.sustained(&log).await?;
        }
        self.reads(store, &log).await
    }

    /// Those that need the log closed or in another process.
    async fn closed(&mut self) -> Result<()> {
        if self.wants(What::OpenKilled) {
            self.open_killed().await?;
        }
        if self.wants(What::Rss) {
            let (dir, server) = (self.dir, ChildServer::start(self.dir)?);
            let (now, most, events) = tokio::task::spawn_blocking(move || read_all_of(server))
                .await
                .context("the server could not be read")??;
            let entry = Entry::found(What::Rss, now as f64 / 1024.0, "MiB").with("events", events);
            self.report.add(
                &entry
                    .with("most_mib", most / 1024)
                    .with("in", dir.display().to_string()),
            )?;
        }
        if self.wants(What::Disk) {
            let store = Store::open(self.dir, &backend())?;
            store.log().seal_now()?;
            let settled = storage::settle(self.dir)?;
            let events = store.log().head().get();
            store.close();
            drop(store);
            let bytes = storage::disk_bytes(self.dir)?;
            let entry = Entry::found(What::Disk, bytes as f64 / events.max(1) as f64, "bytes/event");
            let entry = entry.with("events", events).with("bytes", bytes);
            self.report.add(&entry.with("settled", settled))?;
        }
        Ok(())
    }

    fn pace(&self) -> Pace {
        self.settings.pace()
    }

    fn clients(&self, usual: usize) -> usize {
        self.settings.in_flight.unwrap_or(usual)
    }

    async fn appends(&mut self, log: &Arc<dyn Appender>, raws: &mut Raws) -> Result<()> {
        for (what, tasks, events) in [
            (What::Append1, 1, 1),
            (What::Append64, CONNECTIONS, 1),
            (What::AppendBatches, 8, 100),
        ] {
            if self.wants(what) {
                let measured = log::appends(log, self.clients(tasks), events, self.pace()).await?;
                let raw = if events == 1 {
                    self.raw_one(raws)?
                } else {
                    self.raw_hundred(raws)?
                };
                self.report.add(&Entry::measured(what, measured).beside(raw))?;
            }
        }
        Ok(())
    }

    async fn commands(&mut self, log: &Arc<dyn Appender>, raws: &mut Raws) -> Result<()> {
        if !self.settings.wants(What::Rest1) && !self.settings.wants(What::Rest64) {
            return Ok(());
        }
        let server = super::server::CommandServer::start(backend().commands(Arc::clone(log))?).await?;
        let closed = self.settings.closed_pace();
        let hello = rest::load(server.address(), CONNECTIONS, closed, |_| calls::Health).await?;
        let words = "GET /healthz, 64 connections: what HTTP alone can do here";
        self.report.add(&Entry::baseline("raw-http-64", words, hello))?;
        for (what, connections) in [(What::Rest1, 1), (What::Rest64, CONNECTIONS)] {
            if self.wants(what) {
                let connections = self.clients(connections);
                let load = rest::load(server.address(), connections, self.pace(), calls::Commands::of);
                let measured = load.await?;
                let raw = self.raw_one(raws)?;
                self.report.add(&Entry::measured(what, measured).beside(raw))?;
            }
        }
        server.stop().await
    }

    fn raw_one<'r>(&mut self, raws: &'r mut Raws) -> Result<&'r Measured> {
        self.raw(&mut raws.one, "raw-1", "1 event: pwrite and fdatasync, 1 thread", 1)
    }

    fn raw_hundred<'r>(&mut self, raws: &'r mut Raws) -> Result<&'r Measured> {
        self.raw(
            &mut raws.hundred,
            "raw-100",
            "100 events: pwrite and fdatasync, 1 thread",
            100,
        )
    }

    fn raw<'r>(
        &mut self,
        known: &'r mut Option<Measured>,
        name: &str,
        words: &str,
        events: u64,
    ) -> Result<&'r Measured> {
        if known.is_none() {
            let measured = raw::baseline(self.dir, EVENT_BYTES * events as usize, events, self.settings.time)?;
            let entry = Entry::baseline(name, words, measured);
            self.report.add(&entry)?;
            *known = entry.measured;
        }
        known.as_ref().context("the raw disk was not measured")
    }

    async fn sustained(&mut self, log: &Arc<dyn Appender>) -> Result<()> {
        let Some(events) = self.settings.events.filter(|events| *events > log.head().get()) else {
            note("append-sustained is left out: the log has its events already, or --events does not say how many");
            return Ok(());
        };
        let sustained = sustained::append_until(log, events).await?;
        let (steps, last) = (sustained.steps_json(), sustained.last_of_first());
        let entry = Entry::measured(What::AppendSustained, sustained.measured).with("steps", steps);
        self.report.add(&match last {
            Some(last) => entry.with_value(last, "of the first million's rate"),
            None => entry,
        })
    }

    async fn reads(&mut self, store: &Store, log: &Arc<dyn Appender>) -> Result<()> {
        let time = self.settings.time;
        let reads = [
            What::Scan,
            What::Verify,
            What::StreamReads,
            What::RestStreamReads,
            What::Rebuild,
            What::Rss,
        ];
        if !reads.into_iter().any(|what| self.settings.wants(what)) {
            return Ok(());
        }
        log::fill(log, self.settings.events_min.unwrap_or(EVENTS_MIN)).await?;
        if self.wants(What::Scan) || self.settings.wants(What::Verify) {
            let scan = log::scan(log.as_ref(), time)?;
            let rate = scan.rate();
            self.report.add(&Entry::measured(What::Scan, scan))?;
            if self.wants(What::Verify) {
                let verified = log::verify(store.log())?;
                let of_scan = verified.rate() / rate;
                self.report
                    .add(&Entry::measured(What::Verify, verified).with_value(of_scan, "of the scan rate"))?;
            }
        }
        if self.settings.wants(What::StreamReads) || self.settings.wants(What::RestStreamReads) {
            log::fill_tens(log).await?;
        }
        if self.wants(What::StreamReads) {
            let measured = log::stream_reads(log.as_ref(), time)?;
            self.report.add(&Entry::measured(What::StreamReads, measured))?;
        }
        if self.wants(What::RestStreamReads) {
            let server = super::server::CommandServer::start(backend().commands(Arc::clone(log))?).await?;
            let load = rest::load(server.address(), 1, self.settings.closed_pace(), calls::StreamReads);
            self.report.add(&Entry::measured(What::RestStreamReads, load.await?))?;
            server.stop().await?;
        }
        if self.wants(What::Rebuild) {
            let measured = views::rebuild(log.as_ref(), &backend(), store.dir())?;
            self.report.add(&Entry::measured(What::Rebuild, measured))?;
        }
        Ok(())
    }

    /// Kills a server under load, drops what the system has cached, and opens the log.
    async fn open_killed(&mut self) -> Result<()> {
        let server = ChildServer::start(self.dir)?;
        let address = rest::resolve(server.url())?;
        let pace = Pace {
            time: KILLED_AFTER * 10,
            rate: None,
        };
        let load = tokio::spawn(rest::load(address, CONNECTIONS, pace, calls::Commands::of));
        tokio::time::sleep(KILLED_AFTER).await;
        server.kill()?;
        let load = load.await.context("the load failed")?;
        ensure!(load.is_err(), "the load ended before the server was killed");
        storage::drop_cache(self.dir)?;
        let begin = Instant::now();
        let store = Store::open(self.dir, &backend())?;
        let took = begin.elapsed();
        let entry = Entry::found(What::OpenKilled, took.as_secs_f64(), "s");
        self.report.add(&entry.with("events", store.log().head().get()))?;
        store.close();
        Ok(())
    }
}

/// Memory of a server after its whole log was read: now and at most, KiB; and how many events that were.
fn read_all_of(server: ChildServer) -> Result<(u64, u64, u64)> {
    let events = log::scan_once(&RemoteLog::connect(server.url())?)?;
    let (now, most) = machine::memory_of(server.process()).context("the server's memory is not known")?;
    server.stop()?;
    Ok((now, most, events))
}

//! Views under measurement: a rebuild, and all views of the reference domain following commands.

use super::calls::Orders;
use super::measure::{Measured, repeat};
use super::pace::{Pace, Worker as _};
use super::rest;
use super::server::CommandServer;
use crate::backend::Backend;
use crate::node::{Store, projection_settings};
use annals_core::{Appender, EventLog, Position};
use annals_event_store::DataDir;
use annals_projections::{Projections, RebuildOptions, ViewHandle, rebuild_offline};
use anyhow::{Context, Result, bail, ensure};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// How long views may take to read what there is.
const FOLLOW_MAX: Duration = Duration::from_secs(1_800);
const POLL: Duration = Duration::from_millis(5);
/// How often a command is looked for in the views.
const PROBE_EVERY: Duration = Duration::from_millis(2);
/// How long it may take until a command is seen.
const SEEN_MAX: Duration = Duration::from_secs(60);

/// One rebuild of the backend's first view from the whole log.
pub(super) fn rebuild(log: &dyn EventLog, backend: &Backend, dir: &DataDir) -> Result<Measured> {
    let view = backend.views().first().context("there is no view to rebuild")?;
    let (catalog, settings) = (backend.catalog()?, projection_settings(dir));
    let options = RebuildOptions::default();
    repeat(Duration::from_nanos(1), || {
        let report = rebuild_offline(log, &catalog, view, &settings, options, &mut |_| {})?;
        Ok(report.position.get())
    })
}

/// Commands while views follow.
pub(super) struct Followed {
    /// Commands, until the last view had read their last event.
    pub(super) measured: Measured,
    /// Events that the slowest view had not read when the last command was answered.
    pub(super) lag_events: u64,
    /// How long it took to read them.
    pub(super) lag_seconds: f64,
}

/// Orders over REST by so many connections, with all views of `backend` at work. The views' catching up counts: what
/// they cannot keep up with is not a rate that can be sustained.
pub(super) async fn follow(store: &Store, backend: &Backend, connections: usize, pace: Pace) -> Result<Followed> {
    let following = Following::start(store, backend).await?;
    let followed = following.orders(connections, pace).await?;
    following.stop().await?;
    Ok(followed)
}

/// From the answer to a command until every view shows it, under orders at half of the rate that the views can follow,
/// or at the rate of `pace`. Returns what the answers took as well.
pub(super) async fn lag(
    store: &Store,
    backend: &Backend,
    connections: usize,
    pace: Pace,
) -> Result<(Measured, Measured)> {
    let following = Following::start(store, backend).await?;
    let rate = match pace.rate {
        Some(rate) => rate,
        None => following.orders(connections, pace).await?.measured.rate() / 2.0,
    };
    let probe = Probe::open(&following).await?;
    let rate = Some(rate);
    let load = following.orders(connections, Pace { rate, ..pace });
    let (load, seen) = tokio::join!(load, probe.watch(pace.time));
    following.stop().await?;
    Ok((seen?, load?.measured))
}

/// A command API, with all views of a backend following.
pub(super) struct Following {
    log: Arc<dyn Appender>,
    projections: Projections,
    server: CommandServer,
    next_order: Arc<AtomicU64>,
}

impl Following {
    pub(super) async fn start(store: &Store, backend: &Backend) -> Result<Self> {
        let log = Arc::clone(store.log()) as Arc<dyn Appender>;
        let commands = backend.commands(Arc::clone(&log))?;
        let projections = Projections::start(
            Arc::clone(store.log()) as Arc<dyn EventLog>,
            Arc::clone(commands.catalog()),
            backend.views().to_vec(),
            Vec::new(),
            None,
            projection_settings(store.dir()),
        )?;
        wait_for(&projections, log.head()).await?;
        Ok(Self {
            // Every order appends at least two events, so that no run comes upon the orders of one before.
            next_order: Arc::new(AtomicU64::new(log.head().get() + 1)),
            server: CommandServer::start(commands).await?,
            projections,
            log,
        })
    }

    pub(super) fn projections(&self) -> &Projections {
        &self.projections
    }

    /// Commands alone, whether or not the views follow.
    pub(super) async fn commands(&self, connections: usize, pace: Pace) -> Result<Measured> {
        let calls = |_| Orders::of(&self.next_order);
        rest::load(self.server.address(), connections, pace, calls).await
    }

    /// Commands until all views have followed.
    pub(super) async fn orders(&self, connections: usize, pace: Pace) -> Result<Followed> {
        let begin = Instant::now();
        let mut measured = self.commands(connections, pace).await?;
        let (answered, lag_events) = (Instant::now(), lag_events(&self.projections));
        wait_for(&self.projections, self.log.head()).await?;
        measured.elapsed = begin.elapsed();
        Ok(Followed {
            measured,
            lag_events,
            lag_seconds: answered.elapsed().as_secs_f64(),
        })
    }

    pub(super) async fn stop(self) -> Result<()> {
        self.server.stop().await?;
        let projections = self.projections;
        tokio::task::spawn_blocking(move || projections.shutdown())
            .await
            .context("the views could not be stopped")
    }
}

/// A client that looks how long it takes until its commands are seen.
struct Probe {
    connection: rest::Connection<Orders>,
    views: Vec<ViewHandle>,
}

impl Probe {
    async fn open(following: &Following) -> Result<Self> {
        Ok(Self {
            connection: rest::Connection::open(following.server.address(), Orders::of(&following.next_order)).await?,
            views: following.projections.views(),
        })
    }

    async fn watch(mut self, time: Duration) -> Result<Measured> {
        let (mut measured, begin) = (Measured::none()?, Instant::now());
        while begin.elapsed() < time {
            self.connection.turn().await?;
            let answered = Instant::now();
            let position = self.connection.position()?;
            for view in &self.views {
                let reached = view.wait_for(position, SEEN_MAX).await;
                let name = view.definition().name();
                ensure!(reached >= position, "view {name} did not read up to {position} in time");
            }
            measured.record(1, answered.elapsed());
            tokio::time::sleep(PROBE_EVERY).await;
        }
        measured.elapsed = begin.elapsed();
        Ok(measured)
    }
}

fn lag_events(projections: &Projections) -> u64 {
    let statuses = projections.statuses();
    statuses.iter().map(|status| status.lag_events).max().unwrap_or(0)
}

/// Waits until every view has read up to `head`.
pub(super) async fn wait_for(projections: &Projections, head: Position) -> Result<()> {
    let begin = Instant::now();
    loop {
        let statuses = projections.statuses();
        if let Some(failed) = statuses.iter().find(|status| status.error.is_some()) {
            bail!("view {}: {}", failed.name, failed.error.as_deref().unwrap_or_default());
        }
        if statuses.iter().all(|status| status.position >= head) {
            return Ok(());
        }
        if begin.elapsed() > FOLLOW_MAX {
            bail!(
                "the views did not read up to position {head} in {} s",
                FOLLOW_MAX.as_secs()
            );
        }
        tokio::time::sleep(POLL).await;
    }
}

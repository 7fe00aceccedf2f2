//! Views under measurement: a rebuild, and all views of the reference domain following commands.

use super::calls::Orders;
use super::measure::{Measured, repeat};
use super::pace::Pace;
use super::rest;
use super::server::CommandServer;
use crate::backend::Backend;
use crate::node::{Store, projection_settings};
use annals_core::{Appender, EventLog, Position};
use annals_event_store::DataDir;
use annals_projections::{Projections, RebuildOptions, rebuild_offline};
use anyhow::{Context, Result, bail};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// How long views may take to read what there is.
const FOLLOW_MAX: Duration = Duration::from_secs(1_800);
const POLL: Duration = Duration::from_millis(5);

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
    let server = CommandServer::start(commands).await?;
    // Every order appends at least two events, so that no run comes upon the orders of one before.
    let next_order = Arc::new(AtomicU64::new(log.head().get() + 1));
    let begin = Instant::now();
    let calls = |_| Orders::of(&next_order);
    let mut measured = rest::load(server.address(), connections, pace, calls).await?;
    let (answered, lag_events) = (Instant::now(), lag(&projections));
    wait_for(&projections, log.head()).await?;
    measured.elapsed = begin.elapsed();
    let lag_seconds = answered.elapsed().as_secs_f64();
    server.stop().await?;
    tokio::task::spawn_blocking(move || projections.shutdown())
        .await
        .context("the views could not be stopped")?;
    Ok(Followed {
        measured,
        lag_events,
        lag_seconds,
    })
}

fn lag(projections: &Projections) -> u64 {
    let statuses = projections.statuses();
    statuses.iter().map(|status| status.lag_events).max().unwrap_or(0)
}

/// Waits until every view has read up to `head`.
async fn wait_for(projections: &Projections, head: Position) -> Result<()> {
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

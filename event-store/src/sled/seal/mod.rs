//! Sealing: closed volumes are rewritten into files of full blocks, which take their place. A thread of its own does it,
//! slowly while there are appends.
//!
//! A volume of small groups takes several times the space of its records, and sled about doubles what it stores. The new
//! file is written beside, synced, read back and compared, renamed, named in the manifest, and only then shown to
//! readers; the old volumes go when their last readers let go of them. A crash at any step leaves the old or the new.

mod pace;
mod plan;
mod rewrite;
#[cfg(test)]
mod tests;

use super::background::yield_to_requests;
use super::manifest::{PARTIAL, VolumeEntry};
use super::shared::Shared;
use crate::files::sync_dir;
use annals_core::LogError;
pub(super) use pace::Pace;
use plan::Plan;
use rewrite::{compare, rewrite};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the thread looks whether a volume was closed.
const LOOK: Duration = Duration::from_millis(250);
/// How long it waits after a failure before it tries again.
const RETRY: Duration = Duration::from_secs(60);

/// Where a sealing is; what is done at that moment survives a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The new file is synced, under a name that counts for nothing.
    Written,
    /// It was read back: it holds the same records.
    Compared,
    /// It has its name.
    Renamed,
    /// The manifest names it, readers see it, and the old volumes are removed as their readers let go.
    Replaced,
}

/// Why a sealing did not come to its end. Nothing is lost by it.
#[derive(Debug)]
pub(super) enum SealError {
    /// The log is being closed.
    Stopped,
    /// Reading or writing failed.
    Failed(LogError),
}

impl From<LogError> for SealError {
    fn from(error: LogError) -> Self {
        Self::Failed(error)
    }
}

fn storage(error: impl std::fmt::Display) -> SealError {
    SealError::Failed(LogError::Storage(format!("sealing: {error}")))
}

/// Seals closed volumes until there is nothing to seal; gives how many were replaced. The first that turned out to be damaged is
/// the error, once all others are sealed; it is not tried again.
pub(super) fn seal_all(shared: &Shared, stop: &AtomicBool, pace: &mut Pace) -> Result<u64, SealError> {
    // One at a time, whoever asks.
    let mut damaged = shared.volumes.sealing();
    let (mut replaced, mut first) = (0, None);
    while let Some(plan) = Plan::next(shared, &damaged)? {
        plan.check_space(shared)?;
        match seal(shared, &plan, stop, pace, &mut |_| Ok(())) {
            Ok(()) => replaced += plan.old.len() as u64,
            Err(SealError::Failed(error @ LogError::Damaged { position, .. })) => {
                let before = plan.old.partition_point(|entry| entry.first <= position);
                let entry = before.checked_sub(1).and_then(|at| plan.old.get(at));
                // Of one that cannot be told, all are left alone.
                let names = entry.map_or(&plan.old[..], std::slice::from_ref);
                damaged.extend(names.iter().map(|entry| entry.name.clone()));
                first.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    first.map_or(Ok(replaced), |error| Err(error.into()))
}

/// Carries out one plan. `at` is called after each step; tests stop there, as a crash would.
fn seal(
    shared: &Shared,
    plan: &Plan,
    stop: &AtomicBool,
    pace: &mut Pace,
    at: &mut dyn FnMut(Step) -> Result<(), SealError>,
) -> Result<(), SealError> {
    let dir = shared.volumes.dir();
    let partial = dir.join(format!("{}{PARTIAL}", plan.new.name));
    let digest = match rewrite(shared, plan, &partial, stop, pace) {
        Ok(digest) => digest,
        Err(error) => {
            // What cannot be removed now is removed when the log is opened.
            let _ = std::fs::remove_file(&partial);
            return Err(error);
        }
    };
    at(Step::Written)?;
    compare(&partial, plan, digest, stop, pace)?;
    at(Step::Compared)?;
    let path = plan.new.path(dir);
    std::fs::rename(&partial, &path)
        .and_then(|()| sync_dir(dir))
        .map_err(storage)?;
    at(Step::Renamed)?;
    let bytes = std::fs::metadata(&path).map_err(storage)?.len();
    let new = VolumeEntry {
        bytes: Some(bytes),
        ..plan.new.clone()
    };
    shared.volumes.replace(&plan.old, new)?;
    at(Step::Replaced)?;
    tracing::info!(
        volume = plan.new.name,
        of = plan.old.len(),
        events = plan.end.since(plan.new.first) + 1,
        bytes_before = plan.bytes,
        bytes,
        "sealed"
    );
    Ok(())
}

/// The thread that seals.
pub(super) struct Sealer {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Stop {
    now: AtomicBool,
    waiting: Mutex<()>,
    said: Condvar,
}

impl Stop {
    /// Waits; true if it is time to stop.
    fn wait(&self, time: Duration) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.now.load(Ordering::Acquire) {
            drop(self.said.wait_timeout(waiting, time));
        }
        self.now.load(Ordering::Acquire)
    }
}

impl Sealer {
    pub(super) fn start(shared: Arc<Shared>) -> io::Result<Self> {
        let stop = Arc::new(Stop::default());
        let thread = std::thread::Builder::new().name("annals-sealer".into()).spawn({
            let stop = stop.clone();
            move || {
                yield_to_requests();
                run(&shared, &stop);
            }
        })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Stops at the next block; what was begun is given up.
    pub(super) fn finish(&mut self) {
        {
            let _waiting = self.stop.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            self.stop.now.store(true, Ordering::Release);
        }
        self.stop.said.notify_all();
        if let Some(thread) = self.thread.take() {
            // One that panicked has left everything as it was.
            let _ = thread.join();
        }
    }
}

impl Drop for Sealer {
    fn drop(&mut self) {
        self.finish();
    }
}

fn run(shared: &Arc<Shared>, stop: &Stop) {
    let mut wait = LOOK;
    while !stop.wait(wait) && shared.fatal.get().is_none() {
        wait = match seal_all(shared, &stop.now, &mut Pace::beside(shared)) {
            Ok(_) => LOOK,
            Err(SealError::Stopped) => return,
            Err(SealError::Failed(error)) => {
                tracing::warn!(%error, "a closed volume could not be sealed; it stays as it is, readers do not notice");
                RETRY
            }
        };
    }
}

//! Checks everything that is stored: every block, gaplessness, stream versions, times, places in appends, and the index
//! against the log. Goes on after a problem, so that all of them are named.
//!
//! The log is checked in stretches, side by side, and what they found is joined in its order. In memory are the stretches
//! under way (two for each thread, each of about 250,000 events) and about 100 bytes for each stream of the log.

mod digest;
mod index;
mod join;
mod plan;
mod walk;

#[cfg(test)]
mod tests;

use super::shared::Shared;
use annals_core::{LogError, Position};
use digest::StreamKeys;
use join::Joined;
use plan::{ClosedByPanic, Plan};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;
use walk::{Walk, Walked};

/// Most problems that a report lists; further ones are counted.
const PROBLEMS_MAX: usize = 1000;
/// Most threads: each has a stretch in memory.
const THREADS_MAX: usize = 8;
/// Events that a thread checks at once, about.
const STRETCH_EVENTS: u64 = 250_000;
/// How often progress is said.
const TICK: Duration = Duration::from_millis(50);

/// How far a verification is.
#[derive(Debug, Clone, Copy)]
pub struct VerifyProgress {
    /// Events checked.
    pub events: u64,
    /// Events there are.
    pub total: u64,
}

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyProblem {
    /// Where.
    pub position: Position,
    /// What.
    pub what: String,
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Events checked.
    pub events: u64,
    /// Blocks checked.
    pub blocks: u64,
    /// Volumes checked.
    pub volumes: u64,
    /// The log's head.
    pub head: Position,
    /// Streams found.
    pub streams: u64,
    /// How far the index has read.
    pub indexed: Position,
    /// Everything that does not hold, in the order found; at most 1,000 are listed.
    pub problems: Vec<VerifyProblem>,
    /// How many problems there are.
    pub problem_count: u64,
}

/// What a thread hands over: a stretch's number in the order of the log, and what was found there.
type Found = Result<(u64, Walked), LogError>;

pub(super) fn verify(shared: &Shared, progress: &mut dyn FnMut(VerifyProgress)) -> Result<VerifyReport, LogError> {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get().min(THREADS_MAX));
    verify_by(shared, STRETCH_EVENTS, threads, progress)
}

fn verify_by(
    shared: &Shared,
    stretch_events: u64,
    threads: usize,
    progress: &mut dyn FnMut(VerifyProgress),
) -> Result<VerifyReport, LogError> {
    let head = shared.settle()?;
    let indexed = shared
        .index
        .checkpoint()?
        .map_or(Position::ZERO, |(_, position)| position);
    let plan = Plan::new(shared, head, stretch_events, threads);
    let (keys, seen) = (StreamKeys::default(), AtomicU64::new(0));
    let report = VerifyReport {
        head,
        indexed,
        volumes: plan.volume_count(),
        ..VerifyReport::default()
    };
    let mut joined = Joined::new(shared, report);
    let (found, all_found) = mpsc::channel();
    std::thread::scope(|scope| {
        let _closed = ClosedByPanic(&plan);
        for _ in 0..threads {
            let (plan, keys, seen, found) = (&plan, &keys, &seen, found.clone());
            scope.spawn(move || check(plan, indexed, keys, seen, &found));
        }
        drop(found);
        let mut early = BTreeMap::new();
        let mut next = 0;
        let mut failed = Ok(());
        loop {
            match all_found.recv_timeout(TICK) {
                Ok(Ok((number, walked))) => drop(early.insert(number, walked)),
                Ok(Err(error)) => failed = failed.and(Err(error)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return failed,
            }
            while let Some(walked) = early.remove(&next) {
                joined.add(walked);
                plan.joined();
                next += 1;
            }
            progress(VerifyProgress {
                events: seen.load(Ordering::Relaxed),
                total: head.get(),
            });
        }
    })?;
    joined.finish();
    let of_the_log = joined.report.problem_count;
    if let Err(error) = index::check(shared, &keys, &mut joined) {
        // The log is what it is: an index that cannot be read is one more problem.
        joined.report.problem(joined.report.indexed, error.to_string());
    }
    // An index that does not say what a whole log says is built anew; a damaged log is not read anew for that.
    if of_the_log == 0 && joined.report.problem_count > 0 {
        shared.index.distrust();
    }
    Ok(joined.report)
}

/// One thread: stretch after stretch. However it ends, the others end too and wait for nobody.
fn check(plan: &Plan<'_>, indexed: Position, keys: &StreamKeys, seen: &AtomicU64, found: &Sender<Found>) {
    let _closed = ClosedByPanic(plan);
    loop {
        let task = match plan.next() {
            Ok(Some(task)) => task,
            Ok(None) => return,
            Err(error) => {
                plan.close();
                // Whoever does not listen any more has failed.
                let _ = found.send(Err(error));
                return;
            }
        };
        let walk = Walk::new(task.stretch, indexed, keys, seen);
        let volume = task.volume.as_deref().map_err(Clone::clone);
        if found.send(Ok((task.number, walk.over(volume)))).is_err() {
            return;
        }
    }
}

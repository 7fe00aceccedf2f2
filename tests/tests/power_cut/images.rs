//! Images of a record, each opened and checked in a process of its own.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use annals_tests::cli;
use annals_tests::power_cut::record::Entry;
use annals_tests::power_cut::workload::Marks;
use annals_tests::power_cut::{Disk, SyncsCounted, image};
use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::scenario::Recorded;

/// Workers that build and check images at once.
const WORKERS: usize = 2;
/// The driver's exit code for a log that does not open.
const DOES_NOT_OPEN: i32 = 5;

/// One cut: after how many entries, and what the disk's whims are drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    pub(crate) entries: usize,
    pub(crate) seed: u64,
}

/// What came of an image.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// All that was acknowledged is there: so many appends.
    Whole(usize),
    /// The log does not open and says why, and nothing had been acknowledged.
    Unborn,
    /// Something acknowledged is lost, or something is there that must not be.
    Broken(String),
}

/// An image that was checked.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    pub(crate) point: Point,
    /// What was not durable: paths, and how many changes of each.
    pub(crate) unsynced: Vec<(String, usize)>,
    pub(crate) outcome: Outcome,
    /// Where the image is, if it was kept.
    pub(crate) kept: Option<PathBuf>,
}

/// Points over the whole record. Half of them stand where names changed or a sync returned, or close to it: there the
/// order of things matters most.
pub(crate) fn points(recorded: &Recorded, count: usize, seed: u64) -> Vec<Point> {
    let mut random = StdRng::seed_from_u64(seed);
    let delicate: Vec<usize> = recorded
        .entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| is_delicate(entry))
        .map(|(at, _)| at)
        .collect();
    let mut points: Vec<Point> = (0..count)
        .map(|number| {
            let anywhere = random.random_range(0..=recorded.entries.len());
            let close = delicate.get(random.random_range(0..delicate.len().max(1)));
            let close = close.map(|at| at + random.random_range(0..3));
            let entries = if number % 2 == 0 {
                anywhere
            } else {
                close.unwrap_or(anywhere)
            };
            let entries = entries.min(recorded.entries.len());
            let seed = random.random();
            Point { entries, seed }
        })
        .collect();
    points.sort_unstable();
    points
}

fn is_delicate(entry: &Entry) -> bool {
    matches!(
        entry,
        Entry::Mkdir { .. }
            | Entry::Rename { .. }
            | Entry::Remove { .. }
            | Entry::Truncate { .. }
            | Entry::SyncEnd { .. }
    )
}

/// Builds and checks the image of every point, in a directory for each below `work`. What is broken is kept. Stops after
/// the first broken one, if told so.
pub(crate) fn check_all(
    recorded: &Recorded,
    counted: SyncsCounted,
    points: &[Point],
    work: &Path,
    stop_at_broken: bool,
) -> Result<Vec<Checked>> {
    let (checked, stop) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let (checked, stop) = (&checked, &stop);
                scope.spawn(move || -> Result<()> {
                    let mut replay = Replay::new(recorded, counted)?;
                    for point in points.iter().skip(worker).step_by(WORKERS) {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let one = replay.check(*point, &work.join(format!("{}-{}", point.entries, point.seed)))?;
                        let broken = matches!(one.outcome, Outcome::Broken(_));
                        stop.fetch_or(broken && stop_at_broken, Ordering::Relaxed);
                        checked
                            .lock()
                            .map_err(|_| anyhow::anyhow!("a worker panicked"))?
                            .push(one);
                    }
                    Ok(())
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?)
    })?;
    let mut checked = checked.into_inner().map_err(|_| anyhow::anyhow!("a worker panicked"))?;
    checked.sort_by_key(|one| one.point);
    Ok(checked)
}

/// A disk that moves forward through the record.
struct Replay<'a> {
    recorded: &'a Recorded,
    disk: Disk,
    done: usize,
}

impl<'a> Replay<'a> {
    fn new(recorded: &'a Recorded, counted: SyncsCounted) -> Result<Self> {
        let disk = recorded.disk(counted)?;
        Ok(Self {
            recorded,
            disk,
            done: 0,
        })
    }

    fn check(&mut self, point: Point, directory: &Path) -> Result<Checked> {
        for entry in &self.recorded.entries[self.done..point.entries] {
            self.disk.apply(entry)?;
        }
        self.done = point.entries;
        std::fs::create_dir_all(directory)?;
        let (data, marks) = (directory.join("data"), directory.join("marks"));
        image::build(&self.disk, point.seed, &data)?;
        std::fs::write(&marks, self.disk.marks())?;
        let outcome = judge(self.recorded, &data, &marks)?;
        let broken = matches!(outcome, Outcome::Broken(_));
        if broken {
            // Checking changes it: what is kept is as the cut left it.
            std::fs::remove_dir_all(&data)?;
            image::build(&self.disk, point.seed, &data)?;
        } else {
            std::fs::remove_dir_all(directory)?;
        }
        Ok(Checked {
            point,
            unsynced: self.disk.unsynced(),
            outcome,
            kept: broken.then(|| directory.to_owned()),
        })
    }
}

fn judge(recorded: &Recorded, data: &Path, marks: &Path) -> Result<Outcome> {
    let said = Marks::read(&std::fs::read_to_string(marks)?).context("the marks of the record")?;
    let mut command = recorded.scenario.check(data, marks, recorded.seed);
    Ok(match cli::run(&mut command) {
        Ok(run) if run.code == 0 => Outcome::Whole(said.acknowledged.len()),
        Ok(run) if run.code == DOES_NOT_OPEN && said.acknowledged.is_empty() => Outcome::Unborn,
        Ok(run) => Outcome::Broken(format!("exit code {}: {}", run.code, run.stderr.trim())),
        Err(error) => Outcome::Broken(format!("{error:#}")),
    })
}

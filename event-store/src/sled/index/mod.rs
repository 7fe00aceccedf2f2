//! The index on disk: derived from the log, in immutable sorted runs that are written behind it and merged in the
//! background. A manifest names the runs and how far they have read.
//!
//! Keys: `s` stream -> versions and positions; `t` tag -> positions; `k`, `e`, `i` hash -> positions of commands, of
//! appended events, and of events with an id. Hashes are short: whoever asks looks at the record. Lost or damaged, all is
//! built anew from the log. `docs/format.md` has the bytes, `docs/decisions/0005-index-in-sorted-runs.md` the reasons.

mod alter;
mod block;
mod filter;
mod heads;
mod lookup;
mod manifest;
mod merge;
mod run;
mod scan;
mod write;

#[cfg(test)]
mod tests;

pub use alter::{alter_index, decode_index_block};

use super::generation::Generation;
use crate::files::sync_dir;
use crate::metrics::CacheMetrics;
use annals_core::{Epoch, LogError, Position, Version};
use block::{STREAM, TAG};
use manifest::Manifest;
use run::{BlockCache, Run, Weight, storage};
use scan::Scan;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use write::{RunWriter, Stretch};

/// Most runs: merging keeps them far below this, so that more say that it does not work.
const RUNS_MAX: usize = 256;

/// After how many entries a run that is being written has moved on.
const MOVED_ON_ENTRIES: usize = 512;

/// How far the index in `dir` has read, and of which history, if it says so. Only what is durable is indexed.
pub(crate) fn indexed(dir: &Path) -> Option<(Epoch, Position)> {
    let manifest = Manifest::read(dir).ok()??;
    Some((manifest.epoch, manifest.position))
}

pub(super) struct Index {
    dir: PathBuf,
    /// What readers see: the runs in the order of their positions.
    runs: RwLock<Arc<[Arc<Run>]>>,
    /// What the manifest says; held while it is replaced.
    committed: Mutex<Option<(Epoch, Position)>>,
    next_number: AtomicU64,
    cache: BlockCache,
    /// Whether something in it could not be read: it is not named any more, and built anew when it is opened again.
    distrusted: AtomicBool,
}

/// Kinds of entries that point from a hash to a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Command,
    Appended,
    Id,
}

impl Entry {
    const ALL: [Self; 3] = [Self::Command, Self::Appended, Self::Id];

    pub(super) const fn prefix(self) -> u8 {
        match self {
            Self::Command => b'k',
            Self::Appended => b'e',
            Self::Id => b'i',
        }
    }
}

fn key(kind: u8, name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + 1);
    key.push(kind);
    key.extend_from_slice(name);
    key
}

fn run_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016}.run"))
}

fn positions(numbers: &[u64]) -> Vec<Position> {
    numbers.iter().copied().map(Position::new).collect()
}

impl Index {
    /// Opens the index. The error says that it cannot be used as it is, not that anything is lost.
    pub(super) fn open(dir: &Path, cache_bytes: u64) -> Result<Self, LogError> {
        std::fs::create_dir_all(dir).map_err(storage)?;
        let manifest = Manifest::read(dir)?;
        let named = manifest.as_ref().map_or(&[][..], |manifest| &manifest.runs);
        remove_orphans(dir, named)?;
        let mut runs = Vec::with_capacity(named.len());
        for (number, level) in named {
            runs.push(Arc::new(Run::open(&run_path(dir, *number), *level)?));
        }
        if let Some(manifest) = &manifest {
            check_runs(manifest, &runs)?;
        }
        let last = named.iter().map(|(number, _)| *number).max().unwrap_or_default();
        Ok(Self {
            dir: dir.to_owned(),
            runs: RwLock::new(runs.into()),
            committed: Mutex::new(manifest.map(|manifest| (manifest.epoch, manifest.position))),
            next_number: AtomicU64::new(last + 1),
            cache: BlockCache::with_weighter((cache_bytes >> 13) as usize, cache_bytes, Weight),
            distrusted: AtomicBool::new(false),
        })
    }

    /// How far it has read; `None` if it was never written.
    #[allow(clippy::unnecessary_wraps, reason = "an index that is asked on disk could fail")]
    pub(super) fn checkpoint(&self) -> Result<Option<(Epoch, Position)>, LogError> {
        Ok(*self.committed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the cache of blocks and filters is doing.
    pub(super) fn cache_metrics(&self) -> CacheMetrics {
        CacheMetrics {
            name: "index",
            used: self.cache.weight(),
            capacity: self.cache.capacity(),
            hits: self.cache.hits(),
            misses: self.cache.misses(),
        }
    }

    fn runs(&self) -> Arc<[Arc<Run>]> {
        self.runs.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has the index built anew when it is opened again: what it holds is damaged, or not what the records say.
    pub(super) fn distrust(&self) {
        if !self.distrusted.swap(true, Ordering::SeqCst) {
            tracing::error!("the index is damaged; it is built anew when the log is opened again");
        }
        Manifest::forget(&self.dir);
    }

    /// An index that could not be read is not trusted any more.
    fn noticed<T>(&self, result: Result<T, LogError>) -> Result<T, LogError> {
        result.inspect_err(|_| self.distrust())
    }

    /// Checks what only lookups read: the filters of all runs.
    pub(super) fn check_filters(&self) -> Result<(), LogError> {
        self.noticed(self.runs().iter().try_for_each(|run| run.check_filter()))
    }

    fn new_number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds a generation as a new run; everything up to `position` is then indexed. `moved_on` is told every now and then
    /// while the entries are written, when they are, and when they are synced.
    pub(super) fn write(
        &self,
        generation: &Generation,
        epoch: Epoch,
        position: Position,
        moved_on: &dyn Fn(),
    ) -> Result<(), LogError> {
        if self.runs().len() >= RUNS_MAX {
            return Err(storage("its runs are not merged any more"));
        }
        let number = self.new_number();
        let stretch = Stretch {
            epoch,
            number,
            after: self.checkpoint()?.map_or(Position::ZERO, |(_, position)| position),
            last: position,
            level: 0,
            keys_max: generation.key_count() as u64,
        };
        let mut writer = RunWriter::create(&run_path(&self.dir, number), stretch)?;
        let mut pushed = 0_usize;
        generation.for_each_sorted(|kind, name, first, positions| {
            pushed += 1;
            if pushed.is_multiple_of(MOVED_ON_ENTRIES) {
                moved_on();
            }
            writer.push(&key(kind, name), first, positions)
        })?;
        moved_on();
        let run = Arc::new(writer.finish()?);
        moved_on();
        self.commit(Some((epoch, position)), |runs| runs.push(run))
    }

    /// Replaces the manifest, then shows readers what it names. Runs that it does not name any more are removed.
    fn commit(
        &self,
        checkpoint: Option<(Epoch, Position)>,
        change: impl FnOnce(&mut Vec<Arc<Run>>),
    ) -> Result<(), LogError> {
        let mut committed = self.committed.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.runs();
        let mut runs = old.to_vec();
        change(&mut runs);
        let Some((epoch, position)) = checkpoint.or(*committed) else {
            return Ok(());
        };
        let manifest = Manifest {
            epoch,
            position,
            runs: runs.iter().map(|run| (run.footer.number, run.level)).collect(),
        };
        // The names of new runs first: a manifest must not name a file that a power cut takes away.
        sync_dir(&self.dir).map_err(storage)?;
        manifest.write(&self.dir)?;
        // Asked afterwards: whoever lost trust meanwhile may have removed the manifest before this one.
        if self.distrusted.load(Ordering::SeqCst) {
            Manifest::forget(&self.dir);
        }
        *committed = Some((epoch, position));
        *self.runs.write().unwrap_or_else(PoisonError::into_inner) = runs.into();
        let kept = |run: &Arc<Run>| manifest.runs.iter().any(|(number, _)| *number == run.footer.number);
        for gone in old.iter().filter(|run| !kept(run)) {
            // Readers keep the open file. One that cannot be removed is removed when the index is opened again.
            let _ = std::fs::remove_file(run_path(&self.dir, gone.footer.number));
        }
        Ok(())
    }

    /// All chunks in order: stream, version of the first, positions. For verification.
    pub(super) fn chunks(&self) -> impl Iterator<Item = Result<(String, Version, Vec<Position>), LogError>> {
        self.scan(STREAM)
            .map(|entry| entry.map(|(name, first, positions)| (text(&name), Version::new(first), positions)))
    }

    /// All tags in order, with their positions; a tag may come several times. For verification.
    pub(super) fn tags(&self) -> impl Iterator<Item = Result<(String, Vec<Position>), LogError>> {
        self.scan(TAG)
            .map(|entry| entry.map(|(name, _, positions)| (text(&name), positions)))
    }

    /// All entries of every kind: kind, hash, position. For verification.
    pub(super) fn entries(&self) -> impl Iterator<Item = Result<(Entry, Vec<u8>, Position), LogError>> {
        Entry::ALL.into_iter().flat_map(|kind| {
            self.scan(kind.prefix()).flat_map(move |entry| {
                let (hash, positions, error) = match entry {
                    Ok((hash, _, positions)) => (hash, positions, None),
                    Err(error) => (Vec::new(), Vec::new(), Some(Err(error))),
                };
                let told = positions
                    .into_iter()
                    .map(move |position| Ok((kind, hash.clone(), position)));
                told.chain(error)
            })
        })
    }

    fn scan(&self, kind: u8) -> impl Iterator<Item = Result<(Vec<u8>, u64, Vec<Position>), LogError>> + use<> {
        let mut scan = Some(Scan::new(&self.runs(), &[kind]));
        std::iter::from_fn(move || {
            let next = match scan.as_mut()? {
                Ok(entries) => entries.next_entry().map(|entry| {
                    let entry = entry.filter(|entry| entry.key[0] == kind)?;
                    Some((entry.key[1..].to_vec(), entry.order, positions(&entry.positions)))
                }),
                Err(_) => match scan.take()? {
                    Err(error) => Err(error),
                    Ok(_) => Ok(None),
                },
            };
            if !matches!(next, Ok(Some(_))) {
                scan = None;
            }
            next.transpose()
        })
    }
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// Removes what a crash left beside the runs that count.
fn remove_orphans(dir: &Path, named: &[(u64, u32)]) -> Result<(), LogError> {
    let kept: Vec<PathBuf> = named.iter().map(|(number, _)| run_path(dir, *number)).collect();
    for entry in std::fs::read_dir(dir).map_err(storage)? {
        let path = entry.map_err(storage)?.path();
        let ours = path
            .extension()
            .is_some_and(|extension| extension == "run" || extension == "tmp");
        if ours && !kept.contains(&path) {
            std::fs::remove_file(&path).map_err(storage)?;
        }
    }
    Ok(())
}

/// The runs must be those of the manifest and cover all positions from the first to the checkpoint, without a gap.
fn check_runs(manifest: &Manifest, runs: &[Arc<Run>]) -> Result<(), LogError> {
    let mut end = Position::ZERO;
    for (run, (number, _)) in runs.iter().zip(&manifest.runs) {
        let footer = &run.footer;
        if footer.number != *number || footer.epoch != manifest.epoch || footer.after != end || footer.last <= end {
            return Err(storage(format!("run {number} is not the one that the manifest names")));
        }
        end = footer.last;
    }
    if end == manifest.position {
        return Ok(());
    }
    Err(storage("its runs end before the position that the manifest names"))
}

//! One store on the crate `lsm-tree` 3: a table in memory, spilled from time to time as sorted tables, which are merged
//! in the background. The only file that names the crate.
//!
//! The engine has no journal, because the log is one. A batch is written under the number of its [`Moment`], checkpoint included, into
//! one table in memory; a table in memory is only closed between two batches, and spilled as a whole. So a kill shows the
//! store as it was after some batch, and what is missing is folded again. The engine's spills and merges are handed the
//! moments that are being read, and a reader sees the rows, the index and the checkpoint of one moment.
//!
//! What is handled on purpose: each new set of tables gets a number from the counter that the tree was opened with, and
//! readers below that number go on with the set before it, so the counter is never below what is written and far from
//! what comes next; damage may be a panic instead of an error; the engine believes a few bytes without a checksum, which
//! are checked before it is opened (see `files`).

use super::in_use::{InUse, Moment};
use super::{Batch, Bytes, KeyRange, Scan, StoreError, Visit, files};
use crate::progress::locked;
use crate::threads::Threads;
use annals_core::Position;
use lsm_tree::compaction::Leveled;
use lsm_tree::config::{BlockSizePolicy, CompressionPolicy};
use lsm_tree::{
    AbstractTree, AnyTree, Cache, CompressionType, Config, DescriptorTable, Error, Guard, InternalValue, IterGuardImpl,
    Memtable, SequenceNumberCounter, Tree, ValueType,
};
use std::fs::File;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Closed tables in memory that wait to be spilled; who writes waits when there are as many.
const SEALED_MAX: usize = 2;
/// Who writes waits this long for a spill that fails again and again.
const SPILL_WAIT: Duration = Duration::from_secs(10);
const BLOCK_BYTES: u32 = 8 * 1024;
/// Tables of the first level that are merged, and the size of those that come of it.
const MERGED_AT: u8 = 4;
const TABLE_BYTES: u64 = 32 * 1024 * 1024;
/// Larger than any moment; the engine keeps the highest bit for itself.
const NEWEST: u64 = u64::MAX >> 1;

/// What all stores of a process share: blocks read from the disk, and open files.
pub(super) struct Caches {
    blocks: Arc<Cache>,
    files: Arc<DescriptorTable>,
}

impl Caches {
    pub(super) fn new(cache_bytes: u64, files_max: usize) -> Self {
        Self {
            blocks: Arc::new(Cache::with_capacity_bytes(cache_bytes)),
            files: Arc::new(DescriptorTable::new(files_max)),
        }
    }
}

/// The table in memory that is written.
struct Writing {
    table: Arc<Memtable>,
    /// When the first batch was written into it.
    since: Option<Instant>,
    /// Closed ones that are not spilled yet.
    sealed: usize,
    /// Since when spilling fails, and why.
    failing: Option<(Instant, String)>,
}

/// See the module. Written by one thread at a time, read by many.
pub(super) struct LsmStore {
    tree: Tree,
    counter: SequenceNumberCounter,
    dir: PathBuf,
    in_use: InUse,
    writing: Mutex<Writing>,
    /// Told when closed tables were spilled.
    spilled: Condvar,
    /// Held while tables are spilled or merged, so that who closes the store can wait for it.
    spilling: Mutex<()>,
    merging: Mutex<()>,
    closed: AtomicBool,
    // Dropped last.
    _lock: File,
}

impl LsmStore {
    /// A new store in a directory that has none.
    pub(super) fn create(dir: &Path, caches: &Caches) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir)
            .map_err(|error| StoreError::Failed(format!("{} cannot be created: {error}", dir.display())))?;
        let lock = files::lock(dir)?;
        if files::exists(dir) {
            return Err(StoreError::Failed(format!("{} has a store already", dir.display())));
        }
        Self::start(dir, caches, lock)
    }

    /// Opens the store in a directory.
    pub(super) fn open(dir: &Path, caches: &Caches) -> Result<Self, StoreError> {
        if !dir.is_dir() {
            return Err(StoreError::Damaged("it is missing".into()));
        }
        let lock = files::lock(dir)?;
        if !files::exists(dir) {
            return Err(StoreError::Damaged(
                "it is of an older format, or was never finished".into(),
            ));
        }
        files::check(dir)?;
        Self::start(dir, caches, lock)
    }

    fn start(dir: &Path, caches: &Caches, lock: File) -> Result<Self, StoreError> {
        let counter = SequenceNumberCounter::default();
        let config = Config::new(dir, counter.clone(), SequenceNumberCounter::default())
            .use_cache(Arc::clone(&caches.blocks))
            .use_descriptor_table(Some(Arc::clone(&caches.files)))
            .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
            .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4));
        let tree = match guarded(|| config.open())? {
            AnyTree::Standard(tree) => tree,
            AnyTree::Blob(_) => return Err(StoreError::Damaged("it keeps values apart".into())),
        };
        let number = guarded(|| Ok(tree.get_highest_persisted_seqno()))?.unwrap_or(0);
        let writing = Writing {
            table: tree.active_memtable(),
            since: None,
            sealed: 0,
            failing: None,
        };
        Ok(Self {
            tree,
            counter,
            dir: dir.to_owned(),
            in_use: InUse::new(Moment::of(number, Position::ZERO)),
            writing: Mutex::new(writing),
            spilled: Condvar::new(),
            spilling: Mutex::new(()),
            merging: Mutex::new(()),
            closed: AtomicBool::new(false),
            _lock: lock,
        })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Says where the last batch of a store that was opened ends.
    pub(super) fn stands_at(&self, position: Position) {
        let number = self.in_use.now().number();
        self.in_use.publish(Moment::of(number, position));
    }

    pub(super) fn in_use(&self) -> &InUse {
        &self.in_use
    }

    /// Writes batches as one, whose last event stands at `position`, not before that of the one before: all or nothing of it
    /// is seen. Of several changes to one key in one of the batches the last one counts; no key is in two of them. Waits
    /// while spills do not keep up. Returns the bytes in the table in memory.
    pub(super) fn commit(&self, batches: Vec<Batch>, position: Position, threads: &Threads) -> Result<u64, StoreError> {
        let mut writing = self.room()?;
        let now = self.in_use.now();
        check_order(now, position)?;
        let moment = now.next(position);
        let table = &writing.table;
        let insert = |batch: Batch| {
            guarded(|| {
                for (key, value) in batch.changes {
                    table.insert(value_of(key, value, moment));
                }
                Ok(())
            })
        };
        threads
            .each(batches, insert, || {})
            .into_iter()
            .collect::<Result<(), _>>()?;
        writing.since.get_or_insert_with(Instant::now);
        self.in_use.publish(moment);
        Ok(writing.table.size())
    }

    /// Writes sorted batches as one, as [`LsmStore::commit`] does, but as tables on the disk without a table in memory
    /// before: for batches that would fill one. No key is there twice, and all of a batch are below those of the next.
    /// Returns when they are on the disk.
    pub(super) fn commit_sorted(
        &self,
        batches: Vec<Batch>,
        position: Position,
        threads: &Threads,
    ) -> Result<(), StoreError> {
        // Whoever reads finds what is in memory before what is in tables: nothing older may be left there.
        self.spill()?;
        let _spilling = locked(&self.spilling);
        let now = self.in_use.now();
        check_order(now, position)?;
        let moment = now.next(position);
        let write = |batch: Batch| {
            let changes = batch.changes.into_iter().filter(|_| !self.is_closed());
            guarded(|| {
                self.tree
                    .flush_to_tables(changes.map(|(key, value)| Ok(value_of(key, value, moment))))
            })
        };
        let mut tables = Vec::new();
        for written in threads.each(batches, write, || {}) {
            tables.extend(written?.into_iter().flat_map(|(tables, _)| tables));
        }
        if self.is_closed() {
            return Err(StoreError::Failed(format!("{} is closed", self.dir.display())));
        }
        self.counter.fetch_max(moment.number());
        let unseen = self.in_use.lowest_end();
        guarded(|| self.tree.register_tables(&tables, None, None, &[], unseen))?;
        self.in_use.publish(moment);
        Ok(())
    }

    fn room(&self) -> Result<MutexGuard<'_, Writing>, StoreError> {
        let mut writing = locked(&self.writing);
        while writing.sealed >= SEALED_MAX {
            if let Some((since, why)) = &writing.failing
                && since.elapsed() > SPILL_WAIT
            {
                return Err(StoreError::Failed(format!(
                    "{} cannot be written: {why}",
                    self.dir.display()
                )));
            }
            if self.closed.load(Ordering::Relaxed) {
                return Err(StoreError::Failed(format!("{} is closed", self.dir.display())));
            }
            let waited = self.spilled.wait_timeout(writing, Duration::from_millis(100));
            writing = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(writing)
    }

    /// Closes the table in memory, so that it is spilled next.
    pub(super) fn seal(&self) -> Result<(), StoreError> {
        let mut writing = locked(&self.writing);
        if writing.since.is_none() {
            return Ok(());
        }
        guarded(|| Ok(self.tree.rotate_memtable()))?;
        writing.table = self.tree.active_memtable();
        writing.since = None;
        writing.sealed += 1;
        Ok(())
    }

    /// Whether there is something to spill: what is closed, or what was written longer ago than `age`.
    pub(super) fn is_due(&self, age: Duration) -> bool {
        let writing = locked(&self.writing);
        !self.is_closed() && (writing.sealed > 0 || writing.since.is_some_and(|since| since.elapsed() >= age))
    }

    /// Returns when all that was written before is on the disk.
    pub(super) fn spill(&self) -> Result<(), StoreError> {
        let _spilling = locked(&self.spilling);
        let result = self.seal().and_then(|()| self.spill_sealed());
        let mut writing = locked(&self.writing);
        match &result {
            Ok(()) => writing.failing = None,
            Err(error) => {
                let since = writing.failing.as_ref().map_or_else(Instant::now, |(since, _)| *since);
                writing.failing = Some((since, error.to_string()));
            }
        }
        if let Ok(sealed) = guarded(|| Ok(self.tree.sealed_memtable_count())) {
            writing.sealed = sealed;
        }
        drop(writing);
        self.spilled.notify_all();
        result
    }

    fn spill_sealed(&self) -> Result<(), StoreError> {
        let threshold = self.threshold();
        guarded(|| {
            let lock = self.tree.get_flush_lock();
            self.tree.flush(&lock, threshold).map(drop)
        })
    }

    /// Merges tables while there are too many of them.
    pub(super) fn merge(&self) -> Result<(), StoreError> {
        let _merging = locked(&self.merging);
        let strategy = Arc::new(
            Leveled::default()
                .with_l0_threshold(MERGED_AT)
                .with_table_target_size(TABLE_BYTES),
        );
        while !self.is_closed() {
            let threshold = self.threshold();
            let merged = guarded(|| {
                let before = self.tree.current_version().id();
                self.tree.compact(Arc::<Leveled>::clone(&strategy), threshold)?;
                Ok(self.tree.current_version().id() != before)
            })?;
            if !merged {
                break;
            }
        }
        Ok(())
    }

    /// What may be dropped of older versions; the number of the next set of tables is put beyond what is written.
    fn threshold(&self) -> u64 {
        self.counter.fetch_max(self.in_use.now().number());
        self.in_use.lowest_end()
    }

    pub(super) fn get(&self, key: &[u8], end: u64) -> Result<Option<Bytes>, StoreError> {
        guarded(|| self.tree.get(key, end)).map(|value| value.map(|value| value.to_vec()))
    }

    /// The value as it was written last, not as of a moment.
    pub(super) fn get_newest(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.get(key, NEWEST)
    }

    pub(super) fn scan(
        &self,
        range: KeyRange,
        end: u64,
        backwards: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        let mut entries = self.entries(range, end, backwards)?;
        while let Some((key, value)) = entries.next()? {
            if visit(&key, &value)? == Scan::Stop {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Entries to be taken one by one.
    pub(super) fn entries(&self, range: KeyRange, end: u64, backwards: bool) -> Result<Entries, StoreError> {
        let entries = if is_empty(&range) {
            None
        } else {
            Some(guarded(|| Ok(self.tree.range::<Bytes, _>(range, end, None)))?)
        };
        Ok(Entries { entries, backwards })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Nothing is spilled or merged from now on; returns when what has begun is over.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        drop(locked(&self.spilling));
        drop(locked(&self.merging));
    }

    /// How many tables there are on the disk.
    #[cfg(test)]
    pub(super) fn tables(&self) -> usize {
        self.tree.table_count()
    }
}

/// Entries of a range, in the order of their keys or backwards.
pub(super) struct Entries {
    entries: Option<Box<dyn DoubleEndedIterator<Item = IterGuardImpl> + Send>>,
    backwards: bool,
}

impl Entries {
    pub(super) fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, StoreError> {
        let Some(entries) = &mut self.entries else {
            return Ok(None);
        };
        let backwards = self.backwards;
        let next = guarded(|| {
            let entry = if backwards { entries.next_back() } else { entries.next() };
            entry.map(Guard::into_inner).transpose()
        })?;
        Ok(next.map(|(key, value)| (key.to_vec(), value.to_vec())))
    }
}

fn value_of(key: Bytes, value: Option<Bytes>, moment: Moment) -> InternalValue {
    match value {
        Some(value) => InternalValue::from_components(key, value, moment.number(), ValueType::Value),
        None => InternalValue::new_tombstone(key, moment.number()),
    }
}

fn check_order(now: Moment, position: Position) -> Result<(), StoreError> {
    let last = now.position();
    if position < last {
        return Err(StoreError::Failed(format!(
            "a batch at {position} comes after one at {last}"
        )));
    }
    Ok(())
}

/// The engine takes a range that ends before it begins for a fault of its caller.
fn is_empty(range: &KeyRange) -> bool {
    match (range.start_bound(), range.end_bound()) {
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) => low >= high,
        _ => false,
    }
}

/// Calls into the engine. A panic in there is damage that it did not expect.
fn guarded<T>(call: impl FnOnce() -> lsm_tree::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Error::Io(error))) => Err(match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => {
                StoreError::Damaged(format!("its files are not whole: {error}"))
            }
            _ => StoreError::Failed(error.to_string()),
        }),
        Ok(Err(Error::ChecksumMismatch { .. })) => Err(StoreError::Damaged("a checksum does not match".into())),
        Ok(Err(error)) => Err(StoreError::Damaged(error.to_string())),
        Err(_) => Err(StoreError::Damaged("the engine gave up on its files".into())),
    }
}

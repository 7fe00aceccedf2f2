//! All stores of a process: what they share, how much they keep in memory together, and the two threads that spill and
//! merge for them in the background.

use super::lsm::{Caches, LsmStore};
use super::rows::RowStore;
use super::{Batch, StoreError};
use crate::ProjectionSettings;
use crate::progress::locked;
use crate::threads::Threads;
use annals_core::Position;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often it is looked whether something was written too long ago, at most.
const TICK: Duration = Duration::from_millis(500);
const TICK_MIN: Duration = Duration::from_millis(10);
/// A table in memory is not closed before it has as much, however many stores there are.
const TABLE_BYTES_MIN: u64 = 256 * 1024;

/// See the module. When it is dropped the threads end; stores that are still open can be read.
pub(crate) struct Stores {
    pool: Arc<Pool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the threads share with the stores.
pub(super) struct Pool {
    caches: Caches,
    threads: Arc<Threads>,
    table_bytes_max: u64,
    all_tables_bytes_max: u64,
    spill_every: Duration,
    /// Stores that are open, about.
    open: AtomicUsize,
    stopped: AtomicBool,
    work: Mutex<Work>,
    changed: Condvar,
}

#[derive(Default)]
struct Work {
    stores: Vec<Weak<LsmStore>>,
    spill: bool,
    merge: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Job {
    Spill,
    Merge,
}

impl Stores {
    pub(crate) fn new(settings: &ProjectionSettings) -> Self {
        Self {
            pool: Arc::new(Pool {
                caches: Caches::new(settings.cache_bytes, settings.open_files_max),
                threads: Arc::new(Threads::new(settings.fold_threads)),
                table_bytes_max: settings.spill_bytes,
                all_tables_bytes_max: settings.spill_bytes_all,
                spill_every: settings.spill_every,
                open: AtomicUsize::new(0),
                stopped: AtomicBool::new(false),
                work: Mutex::new(Work::default()),
                changed: Condvar::new(),
            }),
            threads: Mutex::new(Vec::new()),
        }
    }

    /// The threads that all views fold with.
    pub(crate) fn threads(&self) -> Arc<Threads> {
        Arc::clone(&self.pool.threads)
    }

    /// A new store in a directory that has none.
    pub(crate) fn create(&self, dir: &Path) -> Result<RowStore, StoreError> {
        self.start(LsmStore::create(dir, &self.pool.caches)?)
    }

    /// Opens the store in a directory.
    pub(crate) fn open(&self, dir: &Path) -> Result<RowStore, StoreError> {
        let rows = self.start(LsmStore::open(dir, &self.pool.caches)?)?;
        if let Some(checkpoint) = rows.checkpoint()? {
            rows.stands_at(&checkpoint);
        }
        Ok(rows)
    }

    fn start(&self, store: LsmStore) -> Result<RowStore, StoreError> {
        let mut threads = locked(&self.threads);
        if threads.is_empty() {
            for (job, name) in [(Job::Spill, "stores-spill"), (Job::Merge, "stores-merge")] {
                let pool = Arc::clone(&self.pool);
                let thread = std::thread::Builder::new()
                    .name(name.into())
                    .spawn(move || pool.run(job))
                    .map_err(|error| StoreError::Failed(format!("no thread for {name}: {error}")))?;
                threads.push(thread);
            }
        }
        let store = Arc::new(store);
        let mut work = locked(&self.pool.work);
        work.stores.retain(|other| other.strong_count() > 0);
        work.stores.push(Arc::downgrade(&store));
        work.merge = true;
        self.pool.open.store(work.stores.len(), Ordering::Relaxed);
        drop(work);
        self.pool.changed.notify_all();
        Ok(RowStore::new(Arc::clone(&self.pool), store))
    }
}

impl Drop for Stores {
    fn drop(&mut self) {
        // Under the lock, so that nobody misses it between looking and waiting.
        let work = locked(&self.pool.work);
        self.pool.stopped.store(true, Ordering::Relaxed);
        drop(work);
        self.pool.changed.notify_all();
        for thread in locked(&self.threads).drain(..) {
            // A panic in there was told by the thread itself.
            let _ = thread.join();
        }
    }
}

impl Pool {
    pub(super) fn threads(&self) -> &Threads {
        &self.threads
    }

    /// Writes batches as one, and closes the table in memory when it is large enough.
    pub(super) fn commit(&self, store: &LsmStore, batches: Vec<Batch>, position: Position) -> Result<(), StoreError> {
        let bytes = store.commit(batches, position, &self.threads)?;
        if bytes < self.bytes_max() {
            return Ok(());
        }
        if self.stopped.load(Ordering::Relaxed) {
            // Nobody spills in the background any more.
            return store.spill();
        }
        store.seal()?;
        locked(&self.work).spill = true;
        self.changed.notify_all();
        Ok(())
    }

    /// Writes a batch that would fill a table in memory past it.
    pub(super) fn commit_sorted(
        &self,
        store: &LsmStore,
        batches: Vec<Batch>,
        position: Position,
    ) -> Result<(), StoreError> {
        store.commit_sorted(batches, position, &self.threads)?;
        self.want_merge();
        Ok(())
    }

    /// One table of each store is written while another is spilled.
    pub(super) fn bytes_max(&self) -> u64 {
        let stores = self.open.load(Ordering::Relaxed).max(1) as u64;
        let share = self.all_tables_bytes_max / (2 * stores);
        self.table_bytes_max.min(share).max(TABLE_BYTES_MIN)
    }

    fn run(&self, job: Job) {
        while let Some(stores) = self.wait(job) {
            for store in stores {
                if store.is_closed() {
                    continue;
                }
                let done = match job {
                    Job::Spill if store.is_due(self.spill_every) => store.spill().inspect(|()| self.want_merge()),
                    Job::Spill => Ok(()),
                    Job::Merge => store.merge(),
                };
                if let Err(error) = done {
                    tracing::warn!(dir = %store.dir().display(), %error, "a store could not be spilled or merged");
                    // Whoever waits is not served sooner by trying without a pause.
                    std::thread::sleep(TICK);
                }
            }
        }
    }

    fn want_merge(&self) {
        locked(&self.work).merge = true;
        self.changed.notify_all();
    }

    /// Waits until there may be something to do; the stores that there are then, `None` at the end.
    fn wait(&self, job: Job) -> Option<Vec<Arc<LsmStore>>> {
        let mut work = locked(&self.work);
        loop {
            if self.stopped.load(Ordering::Relaxed) {
                return None;
            }
            let wanted = match job {
                Job::Spill => std::mem::take(&mut work.spill),
                Job::Merge => std::mem::take(&mut work.merge),
            };
            if wanted {
                break;
            }
            let (next, waited) = self
                .changed
                .wait_timeout(work, (self.spill_every / 4).clamp(TICK_MIN, TICK))
                .unwrap_or_else(PoisonError::into_inner);
            work = next;
            if waited.timed_out() && job == Job::Spill {
                break;
            }
        }
        Some(work.stores.iter().filter_map(Weak::upgrade).collect())
    }
}

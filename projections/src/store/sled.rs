//! The store on sled 0.34, one database for each view version or reactor state. The only file that names sled here.
//!
//! What is kept here can be built anew from the log, so sled's own flusher does the syncing (and with it collects
//! garbage, which nothing else does). Traps that are handled on purpose: values that grow beyond a quarter of a segment
//! become files in `blobs/` that are never synced, so such a file means that the store is not to be trusted; damage
//! may be a panic instead of an error; an atomic batch holds a lock that all databases of the process share, so
//! callers keep batches small.

use super::{Batch, Bytes, KeyRange, Scan, Store, StoreError, Visit};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A leaf holds about 20 values of at most 16 KiB: far below a quarter of this.
const SEGMENT_BYTES: usize = 2 * 1024 * 1024;
const FLUSH_EVERY_MS: u64 = 1_000;
/// A database that was just closed lets go of its lock when its background work ends.
const LOCK_WAIT: Duration = Duration::from_secs(3);

/// A store in a directory of its own.
#[derive(Debug)]
pub(crate) struct SledStore {
    db: sled::Db,
    dir: PathBuf,
}

impl SledStore {
    /// Opens the store in a directory; creates it if there is none.
    pub(crate) fn open(dir: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        check_blobs(dir)?;
        let begun = Instant::now();
        let db = loop {
            let config = sled::Config::new()
                .path(dir)
                .cache_capacity(cache_bytes)
                .segment_size(SEGMENT_BYTES)
                .flush_every_ms(Some(FLUSH_EVERY_MS));
            match guarded(|| config.open()) {
                Err(error) if is_locked(&error) => {
                    if begun.elapsed() > LOCK_WAIT {
                        return Err(StoreError::InUse(dir.display().to_string()));
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
                other => break other?,
            }
        };
        check_blobs(dir)?;
        Ok(Self {
            db,
            dir: dir.to_owned(),
        })
    }
}

impl Store for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        guarded(|| self.db.get(key)).map(|value| value.map(|value| value.to_vec()))
    }

    fn scan(&self, range: KeyRange, backwards: bool, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let mut entries = guarded(|| Ok(self.db.range::<Bytes, _>(range)))?;
        loop {
            let next = guarded(|| {
                let entry = if backwards { entries.next_back() } else { entries.next() };
                entry.transpose()
            })?;
            let Some((key, value)) = next else {
                return Ok(());
            };
            if visit(&key, &value)? == Scan::Stop {
                return Ok(());
            }
        }
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        let mut writes = sled::Batch::default();
        for (key, value) in batch.changes {
            match value {
                Some(value) => writes.insert(key, value),
                None => writes.remove(key),
            }
        }
        guarded(|| self.db.apply_batch(writes))
    }

    fn sync(&self) -> Result<(), StoreError> {
        guarded(|| self.db.flush())?;
        // sled's flush leaves out what only the file system knows; a sync of the file brings it along.
        std::fs::File::open(self.dir.join("db"))
            .and_then(|file| file.sync_all())
            .map_err(|error| StoreError::Failed(format!("{} cannot be synced: {error}", self.dir.display())))?;
        check_blobs(&self.dir)
    }
}

fn check_blobs(dir: &Path) -> Result<(), StoreError> {
    let blobs = dir.join("blobs");
    let Ok(mut files) = std::fs::read_dir(&blobs) else {
        return Ok(());
    };
    match files.next() {
        None => Ok(()),
        Some(_) => Err(StoreError::Damaged(format!(
            "{} is not empty, its files are never synced",
            blobs.display()
        ))),
    }
}

/// Calls into sled. A panic in there is damage that sled did not expect.
fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Corruption { .. })) => Err(StoreError::Damaged("the engine finds its file corrupt".into())),
        Ok(Err(error @ sled::Error::ReportableBug(_))) => Err(StoreError::Damaged(error.to_string())),
        Ok(Err(error)) => Err(StoreError::Failed(error.to_string())),
        Err(_) => Err(StoreError::Damaged("the engine gave up on its file".into())),
    }
}

fn is_locked(error: &StoreError) -> bool {
    matches!(error, StoreError::Failed(text) if text.contains("could not acquire lock"))
}

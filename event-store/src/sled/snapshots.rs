//! Snapshots of aggregates' states, in a sled database of their own: derived, written behind, never waited for.
//!
//! Keys: `stream 0 part(u16 BE)`; the first part begins with what the snapshot is of (see [`Head`]). Key `0` says which
//! build of the program wrote them: another build may fold events to other states, so it begins anew. What is damaged,
//! of another epoch or ahead of the log is ignored, and overwritten some day.

use super::volume::remove_unfinished;
use crate::data_dir::DataDir;
use annals_core::{Epoch, EventLog, Position, SNAPSHOT_LEN_MAX, Snapshot, SnapshotStore, StreamId, Version};
use std::fs::{self, File};
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::Duration;
use uuid::Uuid;

/// Layout of keys and values; another one means that all begins anew.
const LAYOUT: u8 = 1;
const BUILD: &[u8] = &[0];
/// Parts are small, so that no leaf of sled comes near the quarter of a segment, where it would become a file.
const PART_LEN: usize = 16 * 1024;
const SEGMENT_BYTES: usize = 2 << 20;
const CACHE_BYTES: u64 = 4 << 20;
const FLUSH_EVERY_MS: u64 = 2_000;
/// How many snapshots may wait to be written, and how many bytes of them.
const WAITING_MAX: usize = 256;
const WAITING_BYTES_MAX: usize = 4 << 20;
/// After how many writes the size on disk is looked at.
const WRITES_PER_LOOK: u64 = 256;
/// How many entries a sample is drawn from.
const SAMPLED_FROM_MAX: usize = 10_000;
/// How long closing waits for the thread: a damaged file may keep sled busy for ever.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// What is at the beginning of a snapshot's first part: checksum, version, position, schema, epoch, length.
struct Head {
    crc: u32,
    version: u64,
    position: u64,
    schema: u64,
    epoch: Epoch,
    len: usize,
}

const HEAD_LEN: usize = 4 + 8 + 8 + 8 + 16 + 4;

impl Head {
    /// The checksum covers the stream's name, this head and the state.
    fn crc(&self, stream: &str, state: &[u8]) -> u32 {
        let crc = crc32c::crc32c(stream.as_bytes());
        crc32c::crc32c_append(crc32c::crc32c_append(crc, &self.bytes()[4..]), state)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_LEN);
        bytes.extend_from_slice(&self.crc.to_be_bytes());
        for number in [self.version, self.position, self.schema] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(self.epoch.as_bytes());
        bytes.extend_from_slice(&(self.len as u32).to_be_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (crc, rest) = bytes.split_first_chunk()?;
        let (version, rest) = rest.split_first_chunk()?;
        let (position, rest) = rest.split_first_chunk()?;
        let (schema, rest) = rest.split_first_chunk()?;
        let (epoch, rest) = rest.split_first_chunk()?;
        let (len, rest) = rest.split_first_chunk()?;
        let head = Self {
            crc: u32::from_be_bytes(*crc),
            version: u64::from_be_bytes(*version),
            position: u64::from_be_bytes(*position),
            schema: u64::from_be_bytes(*schema),
            epoch: Epoch::from_bytes(*epoch),
            len: u32::from_be_bytes(*len) as usize,
        };
        (head.len <= SNAPSHOT_LEN_MAX).then_some((head, rest))
    }
}

fn part_key(stream: &str, part: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(stream.len() + 3);
    key.extend_from_slice(stream.as_bytes());
    key.push(0);
    key.extend_from_slice(&(part as u16).to_be_bytes());
    key
}

struct Inner {
    dir: PathBuf,
    log: Arc<dyn EventLog>,
    bytes_max: u64,
    /// `None` until there is something to keep, and for good once the database failed.
    db: RwLock<Option<sled::Db>>,
    ready: Mutex<bool>,
    became_ready: Condvar,
    waiting_bytes: AtomicUsize,
    closed: AtomicBool,
}

/// The snapshots of a data directory.
pub struct SledSnapshots {
    inner: Arc<Inner>,
    line: Mutex<Option<SyncSender<Snapshot>>>,
}

impl SledSnapshots {
    /// The snapshots beside the log of a data directory, of at most about `bytes_max` bytes on disk: when they outgrow
    /// that, they begin anew. Opens them in a thread of its own; until that is done there are none.
    pub fn open(dir: &DataDir, log: Arc<dyn EventLog>, bytes_max: u64) -> std::io::Result<Self> {
        let inner = Arc::new(Inner {
            dir: dir.snapshots_path(),
            log,
            bytes_max,
            db: RwLock::new(None),
            ready: Mutex::new(false),
            became_ready: Condvar::new(),
            waiting_bytes: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        });
        let (line, waiting) = sync_channel(WAITING_MAX);
        let owned = Arc::clone(&inner);
        std::thread::Builder::new()
            .name("annals-snapshots".into())
            .spawn(move || owned.run(&waiting))?;
        Ok(Self {
            inner,
            line: Mutex::new(Some(line)),
        })
    }

    /// Writes what waits and closes the database. Afterwards there are no snapshots.
    pub fn close(&self) {
        self.line.lock().unwrap_or_else(PoisonError::into_inner).take();
        let ready = self.inner.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let closing = |_: &mut bool| !self.inner.closed.load(Ordering::Acquire);
        // Left alone when it does not end: nothing depends on it.
        let _ = self.inner.became_ready.wait_timeout_while(ready, CLOSE_MAX, closing);
    }
}

impl Drop for SledSnapshots {
    fn drop(&mut self) {
        self.close();
    }
}

impl SnapshotStore for SledSnapshots {
    fn find(&self, stream: &StreamId) -> Option<Snapshot> {
        self.inner.with_db(|db| self.inner.read(db, stream)).flatten()
    }

    fn keep(&self, snapshot: Snapshot) {
        let len = snapshot.state.len();
        let line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(line) = line.as_ref().filter(|_| len <= SNAPSHOT_LEN_MAX) else {
            return;
        };
        let waiting = &self.inner.waiting_bytes;
        if waiting.fetch_add(len, Ordering::Relaxed) + len > WAITING_BYTES_MAX {
            waiting.fetch_sub(len, Ordering::Relaxed);
            return;
        }
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = line.try_send(snapshot) {
            waiting.fetch_sub(len, Ordering::Relaxed);
        }
    }

    fn sample(&self, category: &str, limit: usize) -> Vec<Snapshot> {
        let mut ready = self.inner.ready.lock().unwrap_or_else(PoisonError::into_inner);
        while !*ready {
            ready = self
                .inner
                .became_ready
                .wait(ready)
                .unwrap_or_else(PoisonError::into_inner);
        }
        drop(ready);
        self.inner
            .with_db(|db| {
                let streams = drawn(db, category, limit);
                streams
                    .iter()
                    .filter_map(|stream| self.inner.read(db, stream))
                    .collect()
            })
            .unwrap_or_default()
    }

    fn discard(&self, category: &str) {
        self.inner.with_db(|db| {
            for entry in db.scan_prefix(format!("{category}/")) {
                let removed = entry.and_then(|(key, _)| db.remove(key));
                if let Err(error) = removed {
                    return self.inner.give_up(&error.to_string());
                }
            }
        });
    }
}

/// At most `limit` streams of the category, each of those looked at as likely as any other.
fn drawn(db: &sled::Db, category: &str, limit: usize) -> Vec<StreamId> {
    let (mut drawn, mut random) = (Vec::new(), Uuid::new_v4().as_u64_pair().0 | 1);
    let streams = db.scan_prefix(format!("{category}/")).keys().filter_map(|key| {
        let key = key.ok()?;
        let stream = key.strip_suffix(&[0, 0, 0])?;
        std::str::from_utf8(stream).ok()?.parse::<StreamId>().ok()
    });
    for (seen, stream) in streams.take(SAMPLED_FROM_MAX).enumerate() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let place = (random % (seen as u64 + 1)) as usize;
        if drawn.len() < limit {
            drawn.push(stream);
        } else if let Some(drawn) = drawn.get_mut(place) {
            *drawn = stream;
        }
    }
    drawn
}

impl Inner {
    /// Runs with the database if there is one. A panic of sled is damage: then there is none any more.
    fn with_db<T>(&self, work: impl FnOnce(&sled::Db) -> T) -> Option<T> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        catch_unwind(AssertUnwindSafe(|| work(&db)))
            .inspect_err(|_| self.give_up("its files are damaged"))
            .ok()
    }

    fn give_up(&self, why: &str) {
        tracing::warn!(
            why,
            dir = %self.dir.display(),
            "snapshots cannot be kept until the server is restarted; states are folded from the log, which takes longer"
        );
        *self.db.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn read(&self, db: &sled::Db, stream: &StreamId) -> Option<Snapshot> {
        let first = db.get(part_key(stream.as_str(), 0)).ok()??;
        let (head, begin) = Head::read(&first)?;
        let mut state = begin.to_vec();
        for part in 1..=head.len / PART_LEN {
            if state.len() >= head.len {
                break;
            }
            state.extend_from_slice(&db.get(part_key(stream.as_str(), part)).ok()??);
        }
        let whole = state.len() == head.len && head.crc == head.crc(stream.as_str(), &state);
        let position = Position::new(head.position);
        (whole && head.epoch == self.log.epoch() && position <= self.log.head()).then(|| Snapshot {
            stream: stream.clone(),
            version: Version::new(head.version),
            position,
            schema: head.schema,
            state,
        })
    }

    fn run(&self, waiting: &Receiver<Snapshot>) {
        let build = build();
        let opened = self.open_last(build);
        *self.db.write().unwrap_or_else(PoisonError::into_inner) = opened;
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.became_ready.notify_all();
        let (mut writes, mut failed) = (0u64, false);
        while let Ok(snapshot) = waiting.recv() {
            self.waiting_bytes.fetch_sub(snapshot.state.len(), Ordering::Relaxed);
            if failed {
                continue;
            }
            if self.db.read().unwrap_or_else(PoisonError::into_inner).is_none() || self.is_too_large(writes) {
                failed = !self.begin_anew(build);
            }
            writes += 1;
            if self
                .with_db(|db| self.write(db, &snapshot))
                .is_some_and(|done| done.is_err())
            {
                self.give_up("a write failed");
            }
            failed |= self.db.read().unwrap_or_else(PoisonError::into_inner).is_none();
        }
        self.db.write().unwrap_or_else(PoisonError::into_inner).take();
        let _ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        self.closed.store(true, Ordering::Release);
        self.became_ready.notify_all();
    }

    fn is_too_large(&self, writes: u64) -> bool {
        writes % WRITES_PER_LOOK == WRITES_PER_LOOK - 1
            && self.with_db(|db| db.size_on_disk().unwrap_or_default() > self.bytes_max) == Some(true)
    }

    /// Each part by itself: one that is missing or of another snapshot is found by the checksum, and a batch of sled
    /// would hold a lock that the log's writer needs.
    fn write(&self, db: &sled::Db, snapshot: &Snapshot) -> sled::Result<()> {
        if snapshot.position > self.log.head() {
            return Ok(());
        }
        let stream = snapshot.stream.as_str();
        let mut head = Head {
            crc: 0,
            version: snapshot.version.get(),
            position: snapshot.position.get(),
            schema: snapshot.schema,
            epoch: self.log.epoch(),
            len: snapshot.state.len(),
        };
        head.crc = head.crc(stream, &snapshot.state);
        let old = db.get(part_key(stream, 0))?;
        let old_parts = old.and_then(|old| Head::read(&old).map(|(head, _)| parts(head.len)));
        for part in parts(head.len)..old_parts.unwrap_or_default() {
            db.remove(part_key(stream, part))?;
        }
        for (part, bytes) in snapshot.state.chunks(PART_LEN).enumerate().skip(1) {
            db.insert(part_key(stream, part), bytes)?;
        }
        let mut first = head.bytes();
        first.extend_from_slice(snapshot.state.get(..PART_LEN).unwrap_or(&snapshot.state));
        db.insert(part_key(stream, 0), first).map(drop)
    }

    /// What the same build of the program left here, if it can be used.
    fn open_last(&self, build: u64) -> Option<sled::Db> {
        let last = self.numbers().into_iter().max()?;
        let db = open(&self.dir.join(last.to_string()))
            .inspect_err(|error| tracing::warn!(error, "the snapshots cannot be used; they begin anew"))
            .ok()?;
        let stamped = catch_unwind(AssertUnwindSafe(|| db.get(BUILD)));
        matches!(stamped, Ok(Ok(Some(found))) if *found == stamp(build)).then_some(db)
    }

    /// Numbers of the directories that are there.
    fn numbers(&self) -> Vec<u64> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    }

    /// A new database in a directory of a new number: the one before may still be closing. False if there is none.
    fn begin_anew(&self, build: u64) -> bool {
        self.db.write().unwrap_or_else(PoisonError::into_inner).take();
        let numbers = self.numbers();
        let next = numbers.iter().max().map_or(1, |last| last + 1);
        for number in numbers {
            // What cannot be removed now is removed the next time.
            let _ = fs::remove_dir_all(self.dir.join(number.to_string()));
        }
        let path = self.dir.join(next.to_string());
        let opened = fs::create_dir_all(&path)
            .map_err(|error| error.to_string())
            .and_then(|()| open(&path))
            .and_then(|db| {
                db.insert(BUILD, &stamp(build))
                    .map(|_| db)
                    .map_err(|error| error.to_string())
            });
        match opened {
            Ok(db) => {
                *self.db.write().unwrap_or_else(PoisonError::into_inner) = Some(db);
                true
            }
            Err(error) => {
                self.give_up(&error);
                false
            }
        }
    }
}

fn parts(len: usize) -> usize {
    len.div_ceil(PART_LEN).max(1)
}

fn stamp(build: u64) -> [u8; 9] {
    let mut bytes = [LAYOUT; 9];
    bytes[1..].copy_from_slice(&build.to_be_bytes());
    bytes
}

fn open(path: &Path) -> Result<sled::Db, String> {
    if path.exists() {
        remove_unfinished(path).map_err(|error| error.to_string())?;
    }
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(CACHE_BYTES)
        .segment_size(SEGMENT_BYTES)
        .flush_every_ms(Some(FLUSH_EVERY_MS));
    catch_unwind(AssertUnwindSafe(|| config.open()))
        .map_err(|_| "its files are damaged".to_owned())?
        .map_err(|error| error.to_string())
}

/// Which build of the program this is: a number made of its file. One that cannot be read is like no other.
fn build() -> u64 {
    let read = || -> std::io::Result<u64> {
        let running = Path::new("/proc/self/exe");
        let mut file = File::open(running).or_else(|_| File::open(std::env::current_exe()?))?;
        let (mut crc, mut len, mut piece) = (0, 0u64, vec![0; 256 * 1024]);
        loop {
            let read = file.read(&mut piece)?;
            if read == 0 {
                return Ok(u64::from(crc) << 32 | (len & 0xffff_ffff));
            }
            crc = crc32c::crc32c_append(crc, &piece[..read]);
            len += read as u64;
        }
    };
    read().unwrap_or_else(|_| Uuid::new_v4().as_u64_pair().0)
}

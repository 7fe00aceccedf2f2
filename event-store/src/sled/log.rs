//! The log on sled as the house uses it: opened, read, appended to, closed.

use super::counters;
use super::matching::{Checked, append_on_condition};
use super::open;
use super::queue::{Queued, Taker};
use super::seal::{Pace, SealError, Sealer, seal_all};
use super::settings::{LogSettings, OpenError};
use super::shared::Shared;
use super::turn::{Desk, Turn};
use super::verify::{VerifyProgress, VerifyReport, verify};
use crate::admission::check_bounds;
use crate::clock::LogClock;
use crate::data_dir::DataDir;
use crate::metrics::LogMetrics;
use annals_core::{
    Append, AppendError, Appended, Appender, Block, BoxFuture, Direction, Epoch, EventId, EventLog, EventQuery,
    Fingerprint, LogError, Matching, Position, Record, StreamHead, StreamId, Version,
};
use chrono::{DateTime, Utc};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// How often closing looks whether the writer has ended.
const CLOSE_POLL: Duration = Duration::from_millis(1);

/// A log on sled. Closed when dropped; [`SledLog::close`] says when that is done.
pub struct SledLog {
    pub(super) shared: Arc<Shared>,
    desk: Arc<Desk>,
    writer: Mutex<Option<JoinHandle<()>>>,
    sealer: Mutex<Option<Sealer>>,
    /// The writer has one of its own, which sees the same.
    pub(super) clock: Mutex<LogClock>,
}

impl SledLog {
    /// Opens the log of a data directory, creating it if there is none. What a crash left of an append that was never
    /// acknowledged is dropped. The directory must stay held as long as the log is open.
    pub fn open(dir: &DataDir, settings: LogSettings) -> Result<Self, OpenError> {
        let (shared, desk, writer) = open::open(dir, settings)?;
        let sealer = shared.settings.seal.then(|| Sealer::start(shared.clone())).transpose();
        let log = Self {
            shared,
            desk,
            writer: Mutex::new(Some(writer)),
            sealer: Mutex::new(None),
            clock: Mutex::new(LogClock::new(0)),
        };
        let sealer = sealer.map_err(|error| OpenError::storage(dir.path(), error))?;
        *log.sealer.lock().unwrap_or_else(PoisonError::into_inner) = sealer;
        Ok(log)
    }

    /// Accepts no more appends, writes those that wait, completes the index, and returns when all is synced.
    pub fn close(&self) {
        self.shared.queue.close("the log is shutting down");
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(writer) = writer else { return };
        // A writer that waits for a disk that does not answer may never end.
        while !writer.is_finished() && !self.shared.syncs.given_up() {
            std::thread::sleep(CLOSE_POLL);
        }
        if writer.is_finished() {
            // A writer that panicked has said so in the log's fatal state.
            let _ = writer.join();
        }
        let sealer = self.sealer.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(sealer);
    }

    /// Seals every closed volume, at full speed, and returns how many were replaced. What the background thread is at
    /// is waited for.
    pub fn seal_now(&self) -> Result<u64, LogError> {
        self.shared.settle()?;
        match seal_all(&self.shared, &AtomicBool::new(false), &mut Pace::full()) {
            Ok(replaced) => Ok(replaced),
            Err(SealError::Failed(error)) => Err(error),
            // Nobody asks this one to stop.
            Err(SealError::Stopped) => Ok(0),
        }
    }

    /// The secret that keys fingerprints of commands.
    pub(crate) fn secret(&self) -> &[u8; 32] {
        self.shared.secret.as_bytes()
    }

    /// How many times the log was opened for writing.
    pub(crate) fn boot(&self) -> u64 {
        self.shared.volumes.boot()
    }

    /// Why the log failed, if it did: appends are then refused until it is opened again.
    pub fn fatal(&self) -> Option<String> {
        self.shared.fatal.get().cloned()
    }

    /// Waits until everything that is durable now is in the volumes too, and not only in the journal; the position up to
    /// which. For who reads the volumes past the log.
    pub fn settle(&self) -> Result<Position, LogError> {
        self.shared.settle()
    }

    /// Numbers for whoever watches the log: counters since it was opened, and gauges.
    pub fn metrics(&self) -> LogMetrics {
        counters::read(&self.shared)
    }

    /// Checks everything that is stored: blocks, gaplessness, stream versions, times, indexes. Problems are in the
    /// report; an error means that checking itself was not possible.
    pub fn verify(&self, progress: &mut dyn FnMut(VerifyProgress)) -> Result<VerifyReport, LogError> {
        verify(&self.shared, progress)
    }
}

impl Drop for SledLog {
    fn drop(&mut self) {
        self.close();
    }
}

impl EventLog for SledLog {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn engine(&self) -> &'static str {
        "sled"
    }

    fn epoch(&self) -> Epoch {
        self.shared.epoch
    }

    fn head(&self) -> Position {
        self.shared.head.get()
    }

    fn wait_beyond(&self, position: Position, timeout: Duration) -> Position {
        self.shared.head.wait_beyond(position, timeout)
    }

    fn read(&self, after: Position, bytes_max: usize) -> Result<Vec<Block>, LogError> {
        self.noted(self.shared.read(after, bytes_max))
    }

    fn read_one(&self, position: Position) -> Result<Option<Record>, LogError> {
        self.noted(self.shared.record(position))
    }

    fn read_stream(
        &self,
        stream: &StreamId,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Record>, LogError> {
        self.noted(self.shared.read_stream(stream, from, direction, limit))
    }

    fn stream_head(&self, stream: &StreamId) -> Result<Option<StreamHead>, LogError> {
        self.noted(self.shared.stream_head(stream))
    }

    fn find_command(&self, stream: &StreamId, key: &str) -> Result<Option<Position>, LogError> {
        let found = self.noted(self.shared.find_command(stream, key))?;
        Ok(found.filter(|position| *position <= self.head()))
    }

    fn find_event(&self, id: &EventId) -> Result<Option<Position>, LogError> {
        self.noted(self.shared.find_event(id))
    }

    fn now(&self) -> Option<DateTime<Utc>> {
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        clock.now().ok().map(annals_core::time)
    }

    fn position_at(&self, time: DateTime<Utc>) -> Result<Position, LogError> {
        self.noted(self.shared.position_at(time.timestamp_micros()))
    }

    fn read_matching(&self, query: &EventQuery, after: Position, limit: usize) -> Result<Matching, LogError> {
        self.noted(self.shared.read_matching(query, after, limit))
    }
}

impl Appender for SledLog {
    fn append(&self, append: Append) -> BoxFuture<'static, Result<Appended, AppendError>> {
        if self.shared.settings.only_read {
            let refused = AppendError::Closed("it was opened to be read".into());
            return Box::pin(std::future::ready(Err(refused)));
        }
        if append.condition.is_some() {
            return Box::pin(append_on_condition(self.shared.clone(), append));
        }
        let (answer, answered) = oneshot::channel();
        let queued = check_bounds(&append).and_then(|bytes| {
            let queued = Queued::new(append, bytes, Checked::UpTo(Position::ZERO), answer);
            self.shared.queue.push(queued, Turn::is_for)
        });
        match &queued {
            Ok(Taker::Thread) => {}
            Ok(Taker::Caller) => Turn::begin(&self.desk),
            Err(error) => self.shared.counters.refused(error),
        }
        Box::pin(async move {
            queued?;
            let unknown = || AppendError::OutcomeUnknown("the writer ended before it answered".into());
            answered.await.unwrap_or_else(|_| Err(unknown()))
        })
    }

    fn fingerprint(&self, command: &[u8]) -> Fingerprint {
        self.shared.secret.fingerprint(command)
    }
}

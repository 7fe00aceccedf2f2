//! A log whose appends fail as they are told to.

use annals_core::*;
use annals_event_store::MemoryLog;
use chrono::{DateTime, Utc};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) struct FailingLog {
    log: MemoryLog,
    next: Mutex<Option<AppendError>>,
    slow: Duration,
    unreachable: AtomicBool,
}

impl FailingLog {
    pub(crate) fn new() -> Arc<Self> {
        Self::slow(Duration::ZERO)
    }

    /// A log that takes this long to acknowledge.
    pub(crate) fn slow(slow: Duration) -> Arc<Self> {
        Arc::new(Self {
            log: MemoryLog::new("bank"),
            next: Mutex::new(None),
            slow,
            unreachable: AtomicBool::new(false),
        })
    }

    /// Whether its blocks can be read, as those of a log that is elsewhere.
    pub(crate) fn reachable(&self, reachable: bool) {
        self.unreachable.store(!reachable, Ordering::SeqCst);
    }

    fn reached(&self) -> Result<(), LogError> {
        if self.unreachable.load(Ordering::SeqCst) {
            return Err(LogError::Unreachable("the node of a test".into()));
        }
        Ok(())
    }

    /// The next append fails with this error.
    pub(crate) fn fail(&self, error: AppendError) {
        *self.next.lock().unwrap() = Some(error);
    }
}

impl EventLog for FailingLog {
    fn name(&self) -> &str {
        self.log.name()
    }

    fn engine(&self) -> &'static str {
        self.log.engine()
    }

    fn epoch(&self) -> Epoch {
        self.log.epoch()
    }

    fn head(&self) -> Position {
        self.log.head()
    }

    fn wait_beyond(&self, position: Position, timeout: Duration) -> Position {
        self.log.wait_beyond(position, timeout)
    }

    fn read(&self, after: Position, bytes_max: usize) -> Result<Vec<Block>, LogError> {
        self.reached()?;
        self.log.read(after, bytes_max)
    }

    fn read_stream(
        &self,
        stream: &StreamId,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Record>, LogError> {
        if stream.id() == "damaged" {
            return Err(LogError::Damaged {
                position: Position::new(7),
                detail: "secret of the inside".into(),
            });
        }
        self.log.read_stream(stream, from, direction, limit)
    }

    fn stream_head(&self, stream: &StreamId) -> Result<Option<StreamHead>, LogError> {
        if stream.id() == "damaged" {
            let (version, position) = (Version::new(1), Position::new(7));
            return Ok(Some(StreamHead { version, position }));
        }
        self.log.stream_head(stream)
    }

    fn find_command(&self, stream: &StreamId, key: &str) -> Result<Option<Position>, LogError> {
        self.log.find_command(stream, key)
    }

    fn find_event(&self, id: &EventId) -> Result<Option<Position>, LogError> {
        self.log.find_event(id)
    }

    fn read_one(&self, position: Position) -> Result<Option<Record>, LogError> {
        self.reached()?;
        self.log.read_one(position)
    }

    fn position_at(&self, time: DateTime<Utc>) -> Result<Position, LogError> {
        self.reached()?;
        self.log.position_at(time)
    }
}

impl Appender for FailingLog {
    fn append(&self, append: Append) -> BoxFuture<'static, Result<Appended, AppendError>> {
        let failed = self.next.lock().unwrap().take();
        let result = failed.map_or_else(|| Ok(self.log.append(append)), Err);
        let slow = self.slow;
        Box::pin(async move {
            tokio::time::sleep(slow).await;
            match result {
                Ok(appended) => appended.await,
                Err(error) => Err(error),
            }
        })
    }

    fn fingerprint(&self, command: &[u8]) -> Fingerprint {
        self.log.fingerprint(command)
    }
}

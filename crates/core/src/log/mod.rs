//! The log as the rest of the house sees it: [`EventLog`] to read, [`Appender`] to append. No engine is named here.

mod append;
mod block;

pub use append::{
    APPEND_BYTES_MAX, APPEND_EVENTS_MAX, Append, AppendError, Appended, AppendedEvent, CommandKey, Expected, Metadata,
    NewEvent,
};
pub use block::Block;

use crate::record::{Fingerprint, MalformedRecord, Record};
use crate::{Epoch, EventId, Position, StreamId, Version};
use chrono::{DateTime, Utc};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// A future that can be named behind a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Which way a stream is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// From the first version on.
    #[default]
    Forward,
    /// From the last version back.
    Backward,
}

/// Where a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamHead {
    /// Version of its last event.
    pub version: Version,
    /// Position of its last event.
    pub position: Position,
}

/// Why the log could not be read.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// Stored bytes are not what was written: never a guess, always the position.
    #[error("the log is damaged at position {position}: {detail}; run `annals verify` to see how much")]
    Damaged {
        /// Where.
        position: Position,
        /// What is wrong there.
        detail: String,
    },
    /// The storage failed.
    #[error("the log could not be read: {0}")]
    Storage(String),
}

impl From<MalformedRecord> for LogError {
    fn from(error: MalformedRecord) -> Self {
        Self::Damaged {
            position: error.position,
            detail: error.detail,
        }
    }
}

/// Reads a log. Calls may block on the disk: call them from a thread that may block.
///
/// Nothing after the durable head is ever returned, so no reader sees an event that a crash could take back.
pub trait EventLog: Send + Sync + 'static {
    /// Name of the log, fixed at its creation.
    fn name(&self) -> &str;

    /// Name of the engine, for people to read.
    fn engine(&self) -> &'static str;

    /// Which history this log tells.
    fn epoch(&self) -> Epoch;

    /// The durable head: position of the last event that is synced; zero for an empty log.
    fn head(&self) -> Position;

    /// Waits until the durable head is beyond `position`, at most for `timeout`; returns the head.
    fn wait_beyond(&self, position: Position, timeout: Duration) -> Position;

    /// Blocks of records after `after`, in order, up to the durable head: as many as fit in about `bytes_max` bytes of
    /// records, and at least one record if there is one. Empty at the head.
    fn read(&self, after: Position, bytes_max: usize) -> Result<Vec<Block>, LogError>;

    /// The record at a position; `None` beyond the head and for position zero.
    fn read_one(&self, position: Position) -> Result<Option<Record>, LogError> {
        if position == Position::ZERO || position > self.head() {
            return Ok(None);
        }
        let blocks = self.read(position.previous(), 1)?;
        blocks
            .first()
            .and_then(|block| block.records().next())
            .transpose()
            .map_err(LogError::from)
    }

    /// Records of one stream from version `from` on (that version included), at most `limit`. Backward reads return
    /// the latest first; a backward read from a version beyond the end begins at the end.
    fn read_stream(
        &self,
        stream: &StreamId,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Record>, LogError>;

    /// Where a stream ends; `None` if it has no events.
    fn stream_head(&self, stream: &StreamId) -> Result<Option<StreamHead>, LogError>;

    /// Position of the first event that the command with this idempotency key appended to this stream.
    fn find_command(&self, stream: &StreamId, key: &str) -> Result<Option<Position>, LogError>;

    /// Position of the first event in the log with this id.
    fn find_event(&self, id: &EventId) -> Result<Option<Position>, LogError>;

    /// Position of the last event recorded at or before `time`; zero if there is none.
    fn position_at(&self, time: DateTime<Utc>) -> Result<Position, LogError>;
}

/// Appends to a log.
pub trait Appender: EventLog {
    /// Appends the events, all or none, and resolves when they are synced. See [`AppendError`] for what may happen
    /// instead. Dropping the future does not take the append back.
    fn append(&self, append: Append) -> BoxFuture<'static, Result<Appended, AppendError>>;

    /// Keyed hash of a command, so that the log shows that two commands are equal without showing their content.
    fn fingerprint(&self, command: &[u8]) -> Fingerprint;
}

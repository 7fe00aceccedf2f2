//! The log as the rest of the house sees it: [`EventLog`] to read, [`Appender`] to append. No engine is named here.

mod append;
mod block;
mod query;

pub use append::{
    APPEND_BYTES_MAX, APPEND_EVENTS_MAX, Append, AppendError, Appended, AppendedEvent, CommandKey, Expected, Metadata,
    NewEvent,
};
pub use block::Block;
pub use query::{AppendCondition, EventQuery, InvalidQuery, Matching, QUERY_TAGS_MAX, QUERY_TYPES_MAX};

use crate::record::{Fingerprint, MalformedRecord, Record};
use crate::{Epoch, EventId, InvalidTag, Position, StreamId, Tag, Version};
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
    /// The log is elsewhere, and out of reach at present: nothing is wrong with it, and it may be asked again.
    #[error("the log cannot be reached: {0}")]
    Unreachable(String),
}

impl From<MalformedRecord> for LogError {
    fn from(error: MalformedRecord) -> Self {
        Self::Damaged {
            position: error.position,
            detail: error.detail,
        }
    }
}

/// How many bytes of records are read at a time where a query has no index.
const MATCHING_READ_LEN: usize = 256 * 1024;

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
    /// records, and at least one record if there is one. Empty at the head. Of a log that is elsewhere it may be empty
    /// before the head as well, while that cannot be reached: it has waited a moment then, and may be asked again.
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

    /// The recorded time that an append would get now; none while the clock is refused, see [`AppendError::ClockJumped`].
    fn now(&self) -> Option<DateTime<Utc>> {
        Some(Utc::now())
    }

    /// Position of the last event recorded at or before `time`; zero if there is none.
    fn position_at(&self, time: DateTime<Utc>) -> Result<Position, LogError>;

    /// The first events after `after` that match the query, at most `limit`, up to the durable head. Engines find tags
    /// by an index; without one, and for a query that names types alone, the log is read through.
    fn read_matching(&self, query: &EventQuery, after: Position, limit: usize) -> Result<Matching, LogError> {
        let (records, reached) = (Vec::new(), after);
        let mut matching = Matching { records, reached };
        loop {
            let blocks = self.read(matching.reached, MATCHING_READ_LEN)?;
            if blocks.is_empty() {
                return Ok(matching);
            }
            for block in &blocks {
                if matching.take(query, block.records(), limit)? {
                    return Ok(matching);
                }
            }
        }
    }
}

/// Appends to a log.
pub trait Appender: EventLog {
    /// Appends the events, all or none, and resolves when they are synced. See [`AppendError`] for what may happen
    /// instead. Dropping the future does not take the append back.
    fn append(&self, append: Append) -> BoxFuture<'static, Result<Appended, AppendError>>;

    /// Keyed hash of a command, so that the log shows that two commands are equal without showing their content.
    fn fingerprint(&self, command: &[u8]) -> Fingerprint;

    /// The tag that stands for a personal value: `key=` and a keyed hash of both in hexadecimal, so that equal values
    /// have equal tags in this log and none of them can be read or guessed without the log's secret.
    fn personal_tag(&self, key: &str, value: &str) -> Result<Tag, InvalidTag> {
        // What a command says begins with its category and a slash, so no command has the fingerprint of a tag.
        let hash = self.fingerprint(format!("tag\n{key}\n{value}").as_bytes());
        Tag::new(key, format_args!("{:032x}", u128::from_be_bytes(hash)))
    }
}

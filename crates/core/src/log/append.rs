//! What is appended, under which conditions, and what comes of it.

use super::LogError;
use super::query::AppendCondition;
use crate::record::{CONTENT_TYPE_MSGPACK, Fingerprint};
use crate::{EventId, Position, StreamId, Tag, Version};
use chrono::{DateTime, Utc};
use std::borrow::Cow;
use std::time::Duration;

/// Most events in one append.
pub const APPEND_EVENTS_MAX: usize = 1_000;
/// Most bytes in one append, payloads and headers together.
pub const APPEND_BYTES_MAX: usize = 1024 * 1024;

/// What the appender expects of the stream; checked in the writer, in the order of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expected {
    /// Anything.
    #[default]
    Any,
    /// That it has no events.
    None,
    /// That its last event has exactly this version.
    Exact(Version),
}

/// Who appends, on whose behalf, and why.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Who; absent means anonymous.
    pub actor: Option<String>,
    /// What the events belong to; absent means that the first event begins a correlation of its own.
    pub correlation_id: Option<String>,
    /// Id of what caused the events.
    pub causation_id: Option<String>,
    /// W3C trace context of the request.
    pub traceparent: Option<String>,
}

/// A command's idempotency key and the fingerprint of what the command says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandKey {
    /// At most 255 printable ASCII characters; its scope is the stream.
    pub key: String,
    /// See [`crate::Appender::fingerprint`].
    pub fingerprint: Fingerprint,
}

/// One event to be appended.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// Its id if it has one already; the log gives it a uuid v7 otherwise. An event that comes with an id is not
    /// appended twice to the same stream under the same `source`.
    pub id: Option<EventId>,
    /// Its type, such as `OrderPlaced`.
    pub event_type: Cow<'static, str>,
    /// Version of the type's schema.
    pub schema_version: u32,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// Content type of the payload.
    pub content_type: Cow<'static, str>,
    /// The payload.
    pub payload: Vec<u8>,
    /// When it occurred in the business; absent means when it was recorded.
    pub occurred_at: Option<DateTime<Utc>>,
    /// CloudEvents `source`, if it is not this log.
    pub source: Option<String>,
    /// CloudEvents `dataschema`.
    pub dataschema: Option<String>,
    /// CloudEvents extensions that Annals does not know: name and JSON text of the value.
    pub extensions: Vec<(String, String)>,
}

impl NewEvent {
    /// An event of this type with a MessagePack payload and nothing else.
    pub fn new(event_type: impl Into<Cow<'static, str>>, payload: Vec<u8>) -> Self {
        Self {
            id: None,
            event_type: event_type.into(),
            schema_version: 1,
            tags: Vec::new(),
            content_type: CONTENT_TYPE_MSGPACK.into(),
            payload,
            occurred_at: None,
            source: None,
            dataschema: None,
            extensions: Vec::new(),
        }
    }
}

/// Events for one stream, appended all or none.
#[derive(Debug, Clone, PartialEq)]
pub struct Append {
    /// The stream.
    pub stream: StreamId,
    /// What it must be like.
    pub expected: Expected,
    /// 1 to 1,000 events.
    pub events: Vec<NewEvent>,
    /// Who and why; the same for all events.
    pub metadata: Metadata,
    /// The command's idempotency key, if it has one.
    pub command: Option<CommandKey>,
    /// What must not have happened meanwhile, in any stream. Looked at after the key and the expected version.
    pub condition: Option<AppendCondition>,
}

impl Append {
    /// Events for a stream without any condition.
    pub fn new(stream: StreamId, events: Vec<NewEvent>) -> Self {
        Self {
            stream,
            expected: Expected::Any,
            events,
            metadata: Metadata::default(),
            command: None,
            condition: None,
        }
    }

    /// With an expectation.
    #[must_use]
    pub fn expecting(mut self, expected: Expected) -> Self {
        self.expected = expected;
        self
    }

    /// With a condition.
    #[must_use]
    pub fn on_condition(mut self, condition: AppendCondition) -> Self {
        self.condition = Some(condition);
        self
    }
}

/// One event of an accepted append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendedEvent {
    /// Its id.
    pub id: EventId,
    /// Its type.
    pub event_type: Cow<'static, str>,
    /// Where it stands.
    pub position: Position,
}

/// An accepted append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The stream's version after the append.
    pub version: Version,
    /// Position of the append's last event.
    pub position: Position,
    /// Its events in order.
    pub events: Vec<AppendedEvent>,
    /// Whether this was appended before, under the same idempotency key or event ids.
    pub duplicate: bool,
}

/// Why an append was not accepted. Unless it says otherwise, nothing was appended.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The stream is not at the expected version.
    #[error("stream {stream} is at version {actual}, not at {}: read it again and decide anew", expected_text(*expected))]
    VersionConflict {
        /// The stream.
        stream: StreamId,
        /// What was expected.
        expected: Expected,
        /// The stream's version.
        actual: Version,
    },
    /// The idempotency key was used for another command in that stream.
    #[error("idempotency key {key:?} was used for another command in {stream}, at position {position}: use a new key")]
    KeyReused {
        /// The stream.
        stream: StreamId,
        /// The key.
        key: String,
        /// Where the first command's events begin.
        position: Position,
    },
    /// An event that matches the condition's query came after its position.
    #[error(
        "the event at position {position} matches the append's condition, which allows none after {after}: read what \
         matches up to the head, and decide anew"
    )]
    ConditionFailed {
        /// Where such an event stands: one of them, not always the first.
        position: Position,
        /// The condition's position.
        after: Position,
    },
    /// The log grew faster than the condition could be checked.
    #[error("the log grew faster than the append's condition could be checked, {attempts} times: try again")]
    ConditionOutrun {
        /// How often it was tried.
        attempts: u32,
    },
    /// The append itself is outside the bounds.
    #[error("{0}")]
    Invalid(String),
    /// Larger than one append may be.
    #[error("an append has at most {APPEND_BYTES_MAX} bytes, this one has {bytes}: append in several parts")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The queue is full. Try again after the given time.
    #[error("the append queue is full: try again in {} s", retry_after.as_secs().max(1))]
    Overloaded {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The disk's free space is down to the reserve. Appends go on by themselves once there is space again.
    #[error("the disk has {free} bytes left and {reserve} are kept in reserve: free some space")]
    StorageFull {
        /// Free bytes.
        free: u64,
        /// Bytes kept in reserve.
        reserve: u64,
    },
    /// The wall clock jumped ahead.
    #[error("the clock jumped {seconds} s ahead: set it right, then restart the server")]
    ClockJumped {
        /// How far.
        seconds: u64,
    },
    /// What the append depends on cannot be read: its stream's head, a known key or id, events that its condition is about.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log is read-only or shutting down.
    #[error("the log is closed for appends: {0}")]
    Closed(String),
    /// This node follows a log that another node has, and that one gives no answer. The text says whether the events may
    /// be in the log.
    #[error("the node that has the log gives no answer: {0}")]
    Unreachable(String),
    /// The storage failed; the events may or may not be in the log. Appends stay refused until it is re-opened.
    #[error("the storage failed, whether the events were appended is unknown: {0}")]
    OutcomeUnknown(String),
}

fn expected_text(expected: Expected) -> String {
    match expected {
        Expected::Any => "any version".into(),
        Expected::None => "version 0 (no events)".into(),
        Expected::Exact(version) => format!("version {version}"),
    }
}

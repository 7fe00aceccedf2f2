//! The fields of a record's canonical header, and their bounds.

use crate::event_id::EventId;
use std::fmt;
use uuid::Uuid;

/// Largest header in bytes.
pub const HEADER_LEN_MAX: usize = 32 * 1024;
/// Content type of typed events; the one that is not written into the header.
pub const CONTENT_TYPE_MSGPACK: &str = "application/msgpack";
/// Content type of events appended as JSON; their bytes are kept as they came.
pub const CONTENT_TYPE_JSON: &str = "application/json";

/// First 16 bytes of a keyed hash (HMAC-SHA-256 with the log's secret) over a command without its personal fields.
pub type Fingerprint = [u8; 16];

/// Which event of its append a record is: `index` of `count`, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaceInAppend {
    /// From 1.
    pub index: u32,
    /// How many events the append has.
    pub count: u32,
}

impl PlaceInAppend {
    /// The place of the only event of an append.
    pub const ONLY: Self = Self { index: 1, count: 1 };

    /// Whether this is the last event of its append.
    pub const fn is_last(self) -> bool {
        self.index == self.count
    }
}

/// An event id, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventIdRef<'a> {
    /// A uuid's 16 bytes.
    Uuid([u8; 16]),
    /// Any other text.
    Text(&'a str),
}

impl EventIdRef<'_> {
    /// The id, owned.
    pub fn to_owned(&self) -> EventId {
        match *self {
            Self::Uuid(bytes) => EventId::Uuid(Uuid::from_bytes(bytes)),
            Self::Text(text) => EventId::Text(text.into()),
        }
    }
}

impl<'a> From<&'a EventId> for EventIdRef<'a> {
    fn from(id: &'a EventId) -> Self {
        match id {
            EventId::Uuid(uuid) => Self::Uuid(*uuid.as_bytes()),
            EventId::Text(text) => Self::Text(text),
        }
    }
}

impl fmt::Display for EventIdRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Uuid(bytes) => Uuid::from_bytes(bytes).hyphenated().fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// Everything about an event except its position and payload. Times are microseconds since 1970, UTC.
#[derive(Debug, Clone, PartialEq)]
pub struct Header<'a> {
    /// Name of the stream, `category/id`.
    pub stream: &'a str,
    /// Place in the stream, from 1.
    pub version: u64,
    /// The event's id.
    pub id: EventIdRef<'a>,
    /// The event's type, such as `OrderPlaced`.
    pub event_type: &'a str,
    /// Version of the type's schema, from 1.
    pub schema: u32,
    /// When the log recorded it.
    pub recorded: i64,
    /// When it occurred in the business, if that was said.
    pub occurred: Option<i64>,
    /// Tags, each `key=value`.
    pub tags: Vec<&'a str>,
    /// Correlation id, if it is not the event's own id.
    pub correlation: Option<&'a str>,
    /// Id of what caused the event.
    pub causation: Option<&'a str>,
    /// Who did it; absent means anonymous.
    pub actor: Option<&'a str>,
    /// The command's idempotency key; on the first event of an append only.
    pub key: Option<&'a str>,
    /// Fingerprint of that command.
    pub fingerprint: Option<Fingerprint>,
    /// W3C trace context of the request.
    pub traceparent: Option<&'a str>,
    /// Which event of its append it is.
    pub place: PlaceInAppend,
    /// Content type of the payload.
    pub content_type: &'a str,
    /// CloudEvents `source`, if it is not this log.
    pub source: Option<&'a str>,
    /// CloudEvents `dataschema`.
    pub dataschema: Option<&'a str>,
    /// CloudEvents extensions that Annals does not know: name and JSON text of the value.
    pub extensions: Vec<(&'a str, &'a str)>,
}

impl<'a> Header<'a> {
    /// A header with what every event has, and nothing else.
    pub fn new(stream: &'a str, version: u64, id: EventIdRef<'a>, event_type: &'a str, recorded: i64) -> Self {
        Self {
            stream,
            version,
            id,
            event_type,
            schema: 1,
            recorded,
            occurred: None,
            tags: Vec::new(),
            correlation: None,
            causation: None,
            actor: None,
            key: None,
            fingerprint: None,
            traceparent: None,
            place: PlaceInAppend::ONLY,
            content_type: CONTENT_TYPE_MSGPACK,
            source: None,
            dataschema: None,
            extensions: Vec::new(),
        }
    }

    /// The stream's category.
    pub fn category(&self) -> &'a str {
        crate::stream::split(self.stream).0
    }

    /// The stream's id.
    pub fn stream_id(&self) -> &'a str {
        crate::stream::split(self.stream).1
    }
}

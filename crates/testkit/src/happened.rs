//! Events as a story tells them: what happened, in which stream, and when.

use annals_core::{Event, EventIdRef, EventTag, Header, Position, RecordRef, StreamId, Tag};
use chrono::{DateTime, Utc};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// The stream of an event that does not say where it stands.
pub const DEFAULT_STREAM: &str = "accounts/acc-1";

/// Recorded time of the event at position 0 (2024-01-01T00:00:00Z); each event is recorded a second after the last.
const RECORDED_FROM: i64 = 1_704_067_200_000_000;

/// An event in its stream. Any event of a derived enum becomes one, in [`DEFAULT_STREAM`].
#[derive(Debug, Clone)]
pub struct Happened {
    stream: StreamId,
    event_type: &'static str,
    schema_version: u32,
    tags: Vec<String>,
    payload: Vec<u8>,
    occurred_at: Option<DateTime<Utc>>,
}

/// The event in the stream `category/id`; an id alone stands in the category of [`DEFAULT_STREAM`].
///
/// # Panics
///
/// When the stream's name, or one of the event's tags, breaks the rules.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a story reads better without borrowing its parts"
)]
pub fn on<E: Event>(stream: &str, event: E) -> Happened {
    let full = if stream.contains('/') {
        stream.to_owned()
    } else {
        format!("accounts/{stream}")
    };
    let stream: StreamId = full.parse().unwrap_or_else(|error| panic!("{error}"));
    let known = event.event_type();
    Happened {
        stream,
        event_type: known.name,
        schema_version: known.version,
        tags: event.tags().iter().map(written).collect(),
        payload: event.encode().unwrap_or_else(|error| panic!("{error}")),
        occurred_at: None,
    }
}

/// The tag as a log would write it; another hash stands for the keyed one.
pub(crate) fn written(tag: &EventTag) -> String {
    let keyed = |key: &str, value: &str| {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        Tag::new(key, format_args!("{:016x}", hasher.finish()))
    };
    let tag = tag.to_tag(keyed).unwrap_or_else(|error| panic!("{error}"));
    tag.to_string()
}

impl Happened {
    pub(crate) fn tags(&self) -> &[String] {
        &self.tags
    }

    pub(crate) fn event_type(&self) -> &'static str {
        self.event_type
    }

    /// The same event with the business time `time`, RFC 3339.
    ///
    /// # Panics
    ///
    /// When `time` is not RFC 3339.
    #[must_use]
    pub fn at(mut self, time: &str) -> Self {
        let parsed = DateTime::parse_from_rfc3339(time);
        let parsed = parsed.unwrap_or_else(|error| panic!("{time:?} is not RFC 3339: {error}"));
        self.occurred_at = Some(parsed.to_utc());
        self
    }
}

impl<E: Event> From<E> for Happened {
    fn from(event: E) -> Self {
        on(DEFAULT_STREAM, event)
    }
}

/// Gives events their places, as a log would.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    position: u64,
    versions: HashMap<StreamId, u64>,
    /// Microseconds that went by beside the seconds between events.
    passed: i64,
}

impl Recorder {
    /// The log's time, microseconds since 1970.
    fn now(&self) -> i64 {
        RECORDED_FROM + self.position as i64 * 1_000_000 + self.passed
    }

    /// So much time goes by; returns the log's time.
    pub(crate) fn pass(&mut self, time: Duration) -> i64 {
        let micros = i64::try_from(time.as_micros()).unwrap_or_else(|_| panic!("{time:?} is too long for a clock"));
        self.passed += micros;
        self.now()
    }

    /// Hands the event to `read` as a record of the log.
    pub(crate) fn record<T>(&mut self, happened: &Happened, read: impl FnOnce(&RecordRef<'_>) -> T) -> T {
        self.position += 1;
        let recorded = self.now();
        let version = self.versions.entry(happened.stream.clone()).or_default();
        *version += 1;
        let id = format!("event-{}", self.position);
        let stream = happened.stream.as_str();
        let mut header = Header::new(stream, *version, EventIdRef::Text(&id), happened.event_type, recorded);
        header.schema = happened.schema_version;
        header.occurred = happened.occurred_at.map(|time| time.timestamp_micros());
        header.tags = happened.tags.iter().map(String::as_str).collect();
        let mut header_bytes = Vec::new();
        header.encode(&mut header_bytes);
        let record = RecordRef::decode(Position::new(self.position), &header_bytes, &happened.payload);
        read(&record.unwrap_or_else(|error| panic!("{stream}: {error}")))
    }
}

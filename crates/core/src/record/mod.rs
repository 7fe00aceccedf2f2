//! A record: one event as it stands in the log. Canonical header (MessagePack map), then the payload's bytes.
//!
//! The header's bytes together with the SHA-256 of the payload are what is hashed for proofs, so their form cannot
//! change: `docs/format.md` defines it byte by byte. The position is not in the record: it is where the record stands.

mod decode;
mod encode;
mod header;
mod payload;

pub use decode::{EXTENSIONS_MAX, MalformedRecord};
pub use header::{
    CONTENT_TYPE_JSON, CONTENT_TYPE_MSGPACK, EventIdRef, Fingerprint, HEADER_LEN_MAX, Header, PlaceInAppend,
};
pub(crate) use payload::{is_json, is_text};
pub use payload::{payload_to_json, to_json, without_personal};

use crate::Position;
use bytes::Bytes;
use chrono::{DateTime, Utc};

/// One event of the log, borrowed from the block it was read from.
#[derive(Debug, Clone)]
pub struct RecordRef<'a> {
    /// Where the record stands in the log.
    pub position: Position,
    /// The decoded header.
    pub header: Header<'a>,
    /// The header's canonical bytes.
    pub header_bytes: &'a [u8],
    /// The payload, of the header's content type.
    pub payload: &'a [u8],
}

impl RecordRef<'_> {
    /// When the log recorded the event.
    pub fn recorded_at(&self) -> DateTime<Utc> {
        time(self.header.recorded)
    }

    /// When the event occurred in the business; the recorded time if nothing else was said.
    pub fn occurred_at(&self) -> DateTime<Utc> {
        time(self.header.occurred.unwrap_or(self.header.recorded))
    }

    /// The correlation id: what was said, else the event's own id, because the event then begins a correlation.
    pub fn correlation_id(&self) -> String {
        self.header
            .correlation
            .map_or_else(|| self.header.id.to_string(), str::to_owned)
    }
}

/// One event of the log, sharing the memory of the block it was read from.
#[derive(Debug, Clone)]
pub struct Record {
    position: Position,
    header: Bytes,
    payload: Bytes,
}

impl Record {
    /// A record of these parts. They are checked when the record is looked into, see [`Record::view`].
    pub fn new(position: Position, header: Bytes, payload: Bytes) -> Self {
        Self {
            position,
            header,
            payload,
        }
    }

    /// Where the record stands in the log.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The decoded record.
    pub fn view(&self) -> Result<RecordRef<'_>, MalformedRecord> {
        RecordRef::decode(self.position, &self.header, &self.payload)
    }
}

impl<'a> RecordRef<'a> {
    /// Decodes the header of a record. The error names the field that is wrong.
    pub fn decode(position: Position, header: &'a [u8], payload: &'a [u8]) -> Result<Self, MalformedRecord> {
        let decoded = Header::decode(header).map_err(|error| error.at(position))?;
        Ok(Self {
            position,
            header: decoded,
            header_bytes: header,
            payload,
        })
    }
}

/// The time that is this many microseconds after 1970 (UTC); times beyond chrono's range become its limits.
pub fn time(microseconds: i64) -> DateTime<Utc> {
    let limit = if microseconds < 0 {
        DateTime::<Utc>::MIN_UTC
    } else {
        DateTime::<Utc>::MAX_UTC
    };
    DateTime::from_timestamp_micros(microseconds).unwrap_or(limit)
}

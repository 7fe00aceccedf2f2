//! Events: typed facts, stored under a name and a schema version, upcast whenever an older version is read.

use super::boundary::EventTag;
use crate::plain::plain_error;
use crate::record::{CONTENT_TYPE_MSGPACK, payload_to_json};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// One type of event as a binary knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventType {
    /// Name in the log.
    pub name: &'static str,
    /// Newest schema version that this binary knows.
    pub version: u32,
    /// Names it had before.
    pub was: &'static [&'static str],
}

/// A stored payload with what is needed to read it.
#[derive(Debug, Clone, Copy)]
pub struct Payload<'a> {
    /// Content type.
    pub content_type: &'a str,
    /// Schema version it was written with.
    pub schema_version: u32,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// Brings the JSON of an older schema version to the newest one; the error says why that is impossible.
pub type Upcast = fn(from_version: u32, data: serde_json::Value) -> Result<serde_json::Value, String>;

/// A recorded event that this binary cannot read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// It was written by a newer binary.
    #[error("{event_type} has schema version {found}, this binary knows up to {known}: upgrade it")]
    Newer {
        /// The event's type.
        event_type: String,
        /// Version in the log.
        found: u32,
        /// Newest version known here.
        known: u32,
    },
    /// It was written by an older binary and nothing says how to read that.
    #[error(
        "{event_type} has schema version {found}, this binary has {known} and no upcaster: add #[event(upcast = …)]"
    )]
    NoUpcaster {
        /// The event's type.
        event_type: String,
        /// Version in the log.
        found: u32,
        /// Version known here.
        known: u32,
    },
    /// Its payload does not have the fields that it should.
    #[error("the payload of {event_type} cannot be read: {detail}")]
    Payload {
        /// The event's type.
        event_type: String,
        /// What is wrong.
        detail: String,
    },
}

/// Events of one aggregate. Derive it on an enum: `#[derive(Event)]`; names are the variants.
///
/// Attributes on a variant: `#[event(name = "…")]`, `#[event(was = "OldName")]`, `#[event(version = 2, upcast = path)]`
/// (a [`Upcast`] function), `#[event(tags(field, key = other_field, key = function(field)))]`. A tag of a
/// [`crate::Personal`] field is stored as a keyed hash.
pub trait Event: Sized + Send + Sync + 'static {
    /// All types of this enum.
    const TYPES: &'static [EventType];

    /// The type of this event.
    fn event_type(&self) -> &'static EventType;

    /// Its tags. Whether their values hold to the rules shows when they are written, see [`EventTag::to_tag`].
    fn tags(&self) -> Vec<EventTag>;

    /// Its fields as MessagePack.
    fn encode(&self) -> Result<Vec<u8>, DecodeError>;

    /// The event of type `name`; `None` if this enum has no such type.
    fn decode(name: &str, payload: Payload<'_>) -> Result<Option<Self>, DecodeError>;
}

/// Reads the fields of an event, upcast to `known.version` if they are older.
#[doc(hidden)]
pub fn decode_fields<F: DeserializeOwned>(
    known: &'static EventType,
    upcast: Option<Upcast>,
    payload: Payload<'_>,
) -> Result<F, DecodeError> {
    let wrong = |detail: String| DecodeError::Payload {
        event_type: known.name.into(),
        detail,
    };
    let (found, known_version) = (payload.schema_version, known.version);
    if found == known_version {
        if payload.content_type == CONTENT_TYPE_MSGPACK {
            return rmp_serde::from_slice(payload.bytes).map_err(|error| wrong(plain_error(&error)));
        }
        return serde_json::from_slice(payload.bytes).map_err(|error| wrong(plain_error(&error)));
    }
    if found > known_version {
        return Err(DecodeError::Newer {
            event_type: known.name.into(),
            found,
            known: known_version,
        });
    }
    let upcast = upcast.ok_or_else(|| DecodeError::NoUpcaster {
        event_type: known.name.into(),
        found,
        known: known_version,
    })?;
    let old = payload_to_json(payload.content_type, payload.bytes).ok_or_else(|| wrong("malformed payload".into()))?;
    let new = upcast(found, old).map_err(wrong)?;
    serde_json::from_value(new).map_err(|error| wrong(plain_error(&error)))
}

/// Writes the fields of an event as a MessagePack map.
#[doc(hidden)]
pub fn encode_fields<F: Serialize>(known: &'static EventType, fields: &F) -> Result<Vec<u8>, DecodeError> {
    let mut bytes = Vec::with_capacity(128);
    rmp_serde::encode::write_named(&mut bytes, fields).map_err(|error| DecodeError::Payload {
        event_type: known.name.into(),
        detail: error.to_string(),
    })?;
    Ok(bytes)
}

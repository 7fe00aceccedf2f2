//! Identity of events: [`EventId`], and tags that events carry.

use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

/// Longest event id in bytes.
pub const EVENT_ID_LEN_MAX: usize = 128;
/// Longest tag in bytes, `key=value` together.
pub const TAG_LEN_MAX: usize = 512;
/// Most tags on one event.
pub const TAGS_MAX: usize = 32;

/// Identity of an event. Ours are uuid v7; appended events keep the text they came with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EventId {
    /// A uuid; stored in 16 bytes.
    Uuid(Uuid),
    /// Any other text, at most 128 bytes.
    Text(Box<str>),
}

impl EventId {
    /// The id with this text. A text that is a uuid in its usual form (lower case, hyphens) becomes one.
    pub fn parse(text: &str) -> Result<Self, InvalidEventId> {
        if text.is_empty() || text.len() > EVENT_ID_LEN_MAX {
            return Err(InvalidEventId { len: text.len() });
        }
        match Uuid::try_parse(text) {
            // Only the usual form: other spellings of a uuid must come back as they were written.
            Ok(uuid) if uuid.hyphenated().encode_lower(&mut [0; 36]) == text => Ok(Self::Uuid(uuid)),
            _ => Ok(Self::Text(text.into())),
        }
    }
}

/// An event id that is empty or too long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an event id has 1 to {EVENT_ID_LEN_MAX} bytes, this one has {len}")]
pub struct InvalidEventId {
    len: usize,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(uuid) => uuid.hyphenated().fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl From<Uuid> for EventId {
    fn from(uuid: Uuid) -> Self {
        Self::Uuid(uuid)
    }
}

impl Serialize for EventId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// A tag `key=value` on an event, for finding it and for conditions on appends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Tag(Box<str>);

impl Tag {
    /// The tag `key=value`. The key is 1 to 64 characters `a-z`, `0-9`, `_`, `-`; the value holds neither comma nor
    /// control characters; both together at most 512 bytes.
    pub fn new(key: &str, value: impl fmt::Display) -> Result<Self, InvalidTag> {
        Self::parse(&format!("{key}={value}"))
    }

    /// The tag written as `key=value`.
    pub fn parse(text: &str) -> Result<Self, InvalidTag> {
        let invalid = || InvalidTag {
            shown: text.chars().take(80).collect(),
        };
        let (key, value) = text.split_once('=').ok_or_else(invalid)?;
        let key_ok = (1..=64).contains(&key.len())
            && key
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'));
        let value_ok = !value.is_empty() && !value.chars().any(|c| c == ',' || c.is_control());
        if key_ok && value_ok && text.len() <= TAG_LEN_MAX {
            Ok(Self(text.into()))
        } else {
            Err(invalid())
        }
    }

    /// `key=value`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Tag {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A tag that is not `key=value` within the rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tag {shown:?} is not valid: write key=value, key of a-z 0-9 _ -, value without comma, at most 512 bytes")]
pub struct InvalidTag {
    shown: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_as_they_were_written() {
        for text in [
            "018f0000-0000-7000-8000-000000000001",
            "018F0000-0000-7000-8000-000000000001",
            "A234-1234-1234",
        ] {
            assert_eq!(EventId::parse(text).unwrap().to_string(), text);
        }
        assert!(EventId::parse("").is_err());
        assert!(EventId::parse(&"x".repeat(129)).is_err());
    }

    #[test]
    fn tags_hold_to_their_form() {
        assert_eq!(Tag::new("order", "ord-1").unwrap().as_str(), "order=ord-1");
        for bad in ["order", "=x", "order=", "Order=x", "order=a,b", "order=a\nb"] {
            assert!(Tag::parse(bad).is_err(), "{bad}");
        }
    }
}

//! What a command comes in as, and what comes of it.

use crate::CommandError;
use annals_core::{AppendedEvent, Expected, Metadata, Position, StreamId, Version};
use bytes::Bytes;
use chrono::{DateTime, Utc};

/// Longest idempotency key in characters.
pub const COMMAND_KEY_LEN_MAX: usize = 255;

/// A command to one stream of an aggregate. Everything in it is still unchecked.
#[derive(Debug, Clone)]
pub struct CommandRequest {
    /// Category of the aggregate, such as `orders`.
    pub category: String,
    /// Id of the stream, such as `ord-17`.
    pub id: String,
    /// Name of the command, such as `place`.
    pub command: String,
    /// Its fields.
    pub body: CommandBody,
    /// Its idempotency key, bare or in double quotes; the same key in the same stream is done once.
    pub key: Option<String>,
    /// What the caller expects of the stream.
    pub expected: Expected,
    /// When it occurred in the business; absent means when it is recorded.
    pub occurred_at: Option<DateTime<Utc>>,
    /// Who and why.
    pub metadata: Metadata,
}

/// The fields of a command.
#[derive(Debug, Clone)]
pub enum CommandBody {
    /// A JSON object; empty is `{}`.
    Json(Bytes),
    /// What [`annals_core::Command::to_msgpack`] wrote.
    MsgPack(Bytes),
}

/// An accepted command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutcome {
    /// The stream.
    pub stream: StreamId,
    /// Its version after the command; zero if it has no events.
    pub version: Version,
    /// Position of the last of `events`, or of the stream's last event if there are none; zero if it has no events.
    pub position: Position,
    /// What was appended, in order. Empty if the command changed nothing.
    pub events: Vec<AppendedEvent>,
    /// Whether the command was known by its key and this is the answer it got the first time.
    pub duplicate: bool,
}

/// The idempotency key in its bare form: 1 to 255 printable ASCII characters, double quotes around it left out. A quote at
/// one end only is an error: whether it belongs to the key cannot be told.
pub fn command_key(text: &str) -> Result<&str, CommandError> {
    let bare = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(text);
    let printable = bare.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let lone_quote = bare.starts_with('"') || bare.ends_with('"');
    if printable && !lone_quote && (1..=COMMAND_KEY_LEN_MAX).contains(&bare.len()) {
        Ok(bare)
    } else {
        Err(CommandError::InvalidKey(text.chars().take(80).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_with_and_without_quotes() {
        assert_eq!(command_key("\"k-1\"").unwrap(), "k-1");
        assert_eq!(command_key("k-1").unwrap(), "k-1");
        assert_eq!(command_key(&"k".repeat(255)).unwrap().len(), 255);
        assert_eq!(command_key("k\"1").unwrap(), "k\"1");
        for bad in [
            "",
            "\"\"",
            "\"",
            "\"k",
            "k\"",
            "\"\"k\"\"",
            "a\tb",
            "é",
            &"k".repeat(256),
        ] {
            assert!(command_key(bad).is_err(), "{bad}");
        }
    }
}

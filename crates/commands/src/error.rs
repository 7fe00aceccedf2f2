//! Why a command was not accepted. Unless an error says otherwise, nothing was appended.

use annals_core::{
    AppendError, DecodeError, Expected, InvalidCommand, InvalidId, LogError, Position, Rejection, StreamId, Version,
};

/// Why a command was not accepted.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// No aggregate has this category.
    #[error("there is no aggregate {category:?}; there are: {}", known.join(", "))]
    UnknownAggregate {
        /// What was asked for, shortened.
        category: String,
        /// What there is.
        known: Vec<&'static str>,
    },
    /// The stream's name breaks a rule.
    #[error(transparent)]
    InvalidId(#[from] InvalidId),
    /// The aggregate has no such command, or its body cannot be read.
    #[error(transparent)]
    Invalid(#[from] InvalidCommand),
    /// The idempotency key breaks a rule; the text is the key, shortened.
    #[error("idempotency key {0:?} is not valid: 1 to 255 printable ASCII characters, bare or in double quotes")]
    InvalidKey(String),
    /// The domain does not accept it: final.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The stream is not at the version that the caller expected.
    #[error("stream {stream} is at version {actual}, not at {}: read it again and decide anew", expected_text(*.expected))]
    VersionConflict {
        /// The stream.
        stream: StreamId,
        /// What the caller expected.
        expected: Expected,
        /// The stream's version.
        actual: Version,
    },
    /// Others were faster, every time.
    #[error("stream {stream}, or what its command depends on, changed under the command {attempts} times: try again")]
    Contended {
        /// The stream.
        stream: StreamId,
        /// How often it was tried.
        attempts: u32,
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
    /// An event of the stream cannot be read by this binary, so its state is not known.
    #[error("the state of {stream} is unknown, because of its event at position {position}: {error}")]
    Undecodable {
        /// The stream.
        stream: StreamId,
        /// The event's position.
        position: Position,
        /// Why it cannot be read.
        error: DecodeError,
    },
    /// The stream holds an event of a type that the aggregate does not know.
    #[error(
        "the state of {stream} is unknown: the event at position {position} has the type {event_type:?}, which this \
         binary does not know; upgrade it, or name the type in the aggregate's events (#[event(was = \"…\")] if it was \
         renamed)"
    )]
    UnknownEvent {
        /// The stream.
        stream: StreamId,
        /// The event's position.
        position: Position,
        /// The event's type.
        event_type: String,
    },
    /// An event that the domain decided cannot be written.
    #[error("an event that {command} decided in {stream} cannot be written: {detail}")]
    Unwritable {
        /// The stream.
        stream: StreamId,
        /// The command.
        command: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Domain code panicked.
    #[error("{code} of {stream} panicked: {detail}; domain code must return a rejection instead")]
    Panicked {
        /// The stream.
        stream: StreamId,
        /// Which code: `prepare`, `beside`, `decide` or `evolve`.
        code: &'static str,
        /// The panic's message.
        detail: String,
    },
    /// The log did not accept the events.
    #[error(transparent)]
    Append(AppendError),
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl From<AppendError> for CommandError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::VersionConflict {
                stream,
                expected,
                actual,
            } => Self::VersionConflict {
                stream,
                expected,
                actual,
            },
            AppendError::KeyReused { stream, key, position } => Self::KeyReused { stream, key, position },
            AppendError::Log(error) => Self::Log(error),
            other => Self::Append(other),
        }
    }
}

fn expected_text(expected: Expected) -> String {
    match expected {
        Expected::Any => "any version".into(),
        Expected::None => "version 0 (no events)".into(),
        Expected::Exact(version) => format!("version {version}"),
    }
}

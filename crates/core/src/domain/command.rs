//! Commands: what a caller asks an aggregate to do, with JSON from outside and MessagePack inside.

use serde::de::DeserializeOwned;

/// A command that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCommand {
    /// The aggregate has no command of this name.
    #[error("there is no command {name:?}; there are: {}", known.join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: &'static [&'static str],
    },
    /// The body is not JSON, or not what this command takes.
    #[error("the body of {command} is not valid: {detail}")]
    Body {
        /// The command.
        command: String,
        /// What is wrong and where.
        detail: String,
    },
}

/// Commands of one aggregate. Derive it on an enum: `#[derive(Command)]`; names are the variants in kebab-case.
pub trait Command: Sized + Send + 'static {
    /// Names of all commands.
    const NAMES: &'static [&'static str];

    /// Name of this command.
    fn name(&self) -> &'static str;

    /// Reads the command of this name from a JSON object; unknown fields are errors, an empty body is `{}`.
    fn from_json(name: &str, body: &[u8]) -> Result<Self, InvalidCommand>;

    /// Reads the command of this name from what [`Command::to_msgpack`] wrote.
    fn from_msgpack(name: &str, body: &[u8]) -> Result<Self, InvalidCommand>;

    /// The command's fields as a MessagePack map.
    fn to_msgpack(&self) -> Result<Vec<u8>, InvalidCommand>;
}

/// Reads the fields of the command `name` from JSON.
#[doc(hidden)]
pub fn command_from_json<F: DeserializeOwned>(name: &str, body: &[u8]) -> Result<F, InvalidCommand> {
    let body = if body.trim_ascii().is_empty() { b"{}" } else { body };
    let detail = match body.trim_ascii_start().first() {
        Some(b'{') => match serde_json::from_slice(body) {
            Ok(fields) => return Ok(fields),
            Err(error) => crate::plain_error(&error),
        },
        _ => "a JSON object expected, as in {\"field\": value}".into(),
    };
    Err(InvalidCommand::Body {
        command: name.to_owned(),
        detail,
    })
}

/// Reads the fields of the command `name` from MessagePack.
#[doc(hidden)]
pub fn command_from_msgpack<F: DeserializeOwned>(name: &str, body: &[u8]) -> Result<F, InvalidCommand> {
    rmp_serde::from_slice(body).map_err(|error| InvalidCommand::Body {
        command: name.to_owned(),
        detail: crate::plain_error(&error),
    })
}

/// Writes the fields of the command `name` as MessagePack.
#[doc(hidden)]
pub fn command_to_msgpack<F: serde::Serialize>(name: &str, fields: &F) -> Result<Vec<u8>, InvalidCommand> {
    rmp_serde::to_vec_named(fields).map_err(|error| InvalidCommand::Body {
        command: name.to_owned(),
        detail: error.to_string(),
    })
}

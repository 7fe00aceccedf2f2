//! States folded from records without the Rust type at hand, for replays.

use crate::guard::caught;
use annals_core::{Aggregate, DecodeError, Event, Payload, RecordRef};
use serde_json::Value;

/// A state that is folded record by record.
pub trait StateFold: Send {
    /// Folds one record of the stream into the state; `false` if the aggregate does not know its type (the state is
    /// then as before).
    fn apply(&mut self, record: &RecordRef<'_>) -> Result<bool, DecodeError>;

    /// The state as JSON. The error says why it cannot be shown.
    fn state_json(&self) -> Result<Value, String>;
}

pub(crate) struct TypedFold<A>(A);

impl<A: Aggregate> Default for TypedFold<A> {
    fn default() -> Self {
        Self(A::default())
    }
}

impl<A: Aggregate> StateFold for TypedFold<A> {
    fn apply(&mut self, record: &RecordRef<'_>) -> Result<bool, DecodeError> {
        let Some(event) = decode::<A::Event>(record)? else {
            return Ok(false);
        };
        caught(|| self.0.evolve(&event)).map_err(|panic| DecodeError::Payload {
            event_type: record.header.event_type.to_owned(),
            detail: format!("evolve panicked: {panic}"),
        })?;
        Ok(true)
    }

    fn state_json(&self) -> Result<Value, String> {
        serde_json::to_value(&self.0).map_err(|error| error.to_string())
    }
}

/// The event of a record; `None` if `E` does not know its type.
pub(crate) fn decode<E: Event>(record: &RecordRef<'_>) -> Result<Option<E>, DecodeError> {
    let payload = Payload {
        content_type: record.header.content_type,
        schema_version: record.header.schema,
        bytes: record.payload,
    };
    E::decode(record.header.event_type, payload)
}

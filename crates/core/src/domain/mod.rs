//! What a user of Annals writes: pure domain code against these traits. Nothing here reads a clock, draws a random
//! number or does I/O; time, ids and actor come in with the command.

mod aggregate;
mod boundary;
mod command;
mod event;
mod event_set;
mod reactor;
mod view;

pub use aggregate::{Aggregate, Decision, Rejection, State, accept, accept_nothing, reject};
pub use boundary::{Beside, Boundary, DecisionModel, EventTag};
pub use command::{Command, InvalidCommand};
pub use event::{DecodeError, Event, EventType, Payload, Upcast};
pub use event_set::{Catalog, EventSet, Recorded};
pub use reactor::{CommandCall, Reactor, Timer, after, cancel_timers};
pub use view::{
    FailurePolicy, History, INDEX_TEXT_LEN_MAX, IndexKind, IndexValue, Indexed, KEY_LEN_MAX, Key, Keys, Row, View,
};

/// What the derives expand to. Not for use by hand.
#[doc(hidden)]
pub mod derive_support {
    pub use super::boundary::TagValue;
    pub use super::command::{command_from_json, command_from_msgpack, command_to_msgpack};
    pub use super::event::{decode_fields, encode_fields};
    pub use serde;
}

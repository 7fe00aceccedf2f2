//! Decides commands: from a request to the events that it appends, once per idempotency key, whatever races it.
//!
//! Knows the log only through core's traits; knows nothing of HTTP, views or engines.

mod beside;
mod cache;
mod commands;
mod deciding;
mod definition;
mod error;
mod fold;
mod guard;
mod handler;
mod known;
mod request;
mod snapshots;
mod state;

pub use commands::{CommandSettings, Commands, SetupError};
pub use definition::AggregateDefinition;
pub use error::CommandError;
pub use fold::StateFold;
pub use request::{COMMAND_KEY_LEN_MAX, CommandBody, CommandOutcome, CommandRequest, command_key};

//! Reactors at work: a worker for each follows the log, keeps state, outbox and checkpoint, and dispatches commands.

mod decide;
mod directory;
mod dispatch;
mod fold;
mod journal;
mod open;
mod pending;
mod running;
mod send;
mod timers;
mod worker;

pub use dispatch::{DispatchError, DispatchRequest, Dispatcher};

pub(crate) use directory::{ReactorsDir, resume};
pub(crate) use open::{parked_commands, peek};
pub(crate) use running::RunningReactor;
pub(crate) use worker::spawn;

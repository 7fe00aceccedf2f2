//! Annals: an event-sourced backend from pure functions. A user writes aggregates, views and reactors, names them in a
//! [`Backend`], and [`run`] makes of it a server, a query API, a replay and a whole command line:
//!
//! ```no_run
//! use annals::prelude::*;
//!
//! fn main() -> std::process::ExitCode {
//!     annals::run(Backend::new("empty"))
//! }
//! ```
//!
//! `docs/tutorial.md` builds one from nothing. Only this crate knows all the others.

mod backend;
mod banner;
mod bounded;
mod cli;
mod config;
mod dispatcher;
mod failure_config;
mod follow;
mod http;
mod node;
mod notary;
mod query_dir;
mod query_node;
mod remote_log;
mod server;
mod source;

#[doc(hidden)]
pub use annals_core as __core;
pub use backend::{Backend, Sample, SetupError};
pub use cli::run;

/// What domain code needs: `use annals::prelude::*`.
pub mod prelude {
    pub use crate::Backend;
    pub use annals_core::{
        Aggregate, Beside, Boundary, Command, CommandCall, Decision, DecisionModel, Event, EventSet, EventTag,
        FailurePolicy, History, Indexed, InvalidCommand, Key, Keys, Personal, Reactor, Recorded, Rejection, Row, State,
        Timer, View, accept, accept_nothing, after, cancel_timers, reject,
    };
    pub use std::process::ExitCode;
}

//! HTTP: the command API and the query API, and the server under them.
//!
//! Translates between HTTP and what commands, log and projections offer; decides nothing itself. Paths, headers and
//! problems are the contract's. Knows no engine.

mod accept;
mod answer;
mod backup;
mod body;
mod bounds;
mod bulk;
mod closing;
mod events;
mod execute;
mod failure;
mod headers;
mod health;
mod live;
mod log;
mod metrics;
mod middleware;
mod object;
mod operations;
mod origin;
mod parameters;
mod path;
mod paths;
mod patient;
mod problem;
mod proofs;
mod query;
mod reading;
mod routers;
mod server;
mod state;
mod tail;
mod unread;

pub use backup::Backups;
pub use bounds::ApiBounds;
pub use middleware::Api;
#[doc(hidden)]
pub use reading::{read_cloud_events, read_command_line};
pub use routers::{command_api, query_api};
pub use server::{NotLoopback, ServeLimits, check_loopback, serve, serve_within};
pub use state::{ApiState, ContactNow, LogContact, LogFailure, LogNumbers};

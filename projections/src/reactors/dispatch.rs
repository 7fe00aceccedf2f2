//! How a reactor's commands leave the house: to a [`Dispatcher`], which is told what, under which key, on whose behalf.

use annals_core::{CommandCall, Metadata, Rejection};
use chrono::{DateTime, Utc};

/// Executes the commands of reactors. Called from threads that may block, several at a time, in order per key.
pub trait Dispatcher: Send + Sync + 'static {
    /// Executes a command and returns when its events are synced. The same request may come again after a crash, under
    /// the same key: it must not have its effect twice.
    fn dispatch(&self, request: DispatchRequest) -> Result<(), DispatchError>;
}

/// A command of a reactor.
#[derive(Debug, Clone, PartialEq)]
pub struct DispatchRequest {
    /// The command.
    pub call: CommandCall,
    /// Its idempotency key: `reactor:position of the causing event:number of the command`.
    pub key: String,
    /// When the causing event occurred.
    pub occurred_at: Option<DateTime<Utc>>,
    /// Actor `reactor:NAME`, the causing event's id as causation, and its correlation.
    pub metadata: Metadata,
}

/// Why a command had no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DispatchError {
    /// The domain does not accept it. Final, recorded.
    #[error("rejected: {0}")]
    Rejected(Rejection),
    /// The command failed. Tried again, a bounded number of times; then it is a dead letter.
    #[error("{0}")]
    Failed(String),
    /// Nothing can be carried out at the moment, whatever it is: the disk is full, the log is busy. Tried again for ever.
    #[error("{0}")]
    Unavailable(String),
}

//! What becomes of events that fail: tried again, parked with their key, stopped at, told of, skipped by a person.
//! Knows nothing of threads; what is said about failures stands in the log, see [`operations`].

mod asked;
mod backoff;
mod board;
mod letters;
mod offline;
mod operations;
mod skips;

pub use board::{DeadLetter, DeadLetterState};
pub use offline::{dead_letters_offline, stored_row};
pub use operations::{Operation, OperationError, Verb, What, operation_stream};

pub(crate) use backoff::Backoff;
pub(crate) use board::{Board, dead_letter, event_letter};
pub(crate) use letters::{Bounds, Letters, letter};
pub(crate) use operations::{Decided, Operations};
pub(crate) use skips::Skips;

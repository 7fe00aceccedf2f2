//! Views and reactors: workers that follow the log, fold events into rows, and answer events with commands.
//!
//! The log is read through `annals_core::EventLog` alone; no type of a storage engine appears outside this crate.

// The suites' helpers name this crate from outside; the unit tests that use them are inside.
#[cfg(test)]
extern crate self as annals_projections;
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;

mod alter;
mod changes;
mod definition;
mod differences;
mod error;
mod failures;
mod offline;
mod pace;
mod pass;
mod progress;
mod projections;
mod query;
mod reactors;
mod reader;
mod replay;
mod settings;
mod space;
mod status;
mod store;
mod threads;
mod views;

pub use alter::alter_row;
pub use changes::{Seen, ViewWatch};
pub use definition::{ReactorDefinition, ViewDefinition};
pub use differences::{FieldChange, differences, leaves};
pub use error::{FoldError, ProjectionError, RebuildError, ResumeError};
pub use failures::{
    DeadLetter, DeadLetterState, Operation, OperationError, Verb, What, dead_letters_offline, operation_stream,
    stored_row,
};
pub use offline::{dump_rows, furthest_read, resume_reactor, statuses_offline};
pub use projections::{Projections, ViewHandle};
pub use query::{EventNote, HistoryPage, HistoryQuery, RowVersion};
pub use query::{IndexRange, LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX, ListPage, ListQuery, Order, QueryError, RowAnswer};
pub use reactors::{DispatchError, DispatchRequest, Dispatcher};
pub use replay::{Cutoff, FoldProgress, VisitVersion, fold_rows, fold_versions};
pub use settings::ProjectionSettings;
pub use status::{OutboxStatus, ProjectionKind, ProjectionState, ProjectionStatus, RebuildState, RebuildStatus};
pub use views::{
    Comparison, Difference, DifferenceKind, FieldDifference, RebuildFrom, RebuildOptions, RebuildProgress,
    RebuildReport, drop_spare_rows, rebuild_offline, rebuild_together_offline,
};

//! What can go wrong with whole views and reactors, one enum for each thing that is done with them.

use annals_core::{LogError, Position};
use std::path::PathBuf;

/// Why views and reactors could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectionError {
    /// A name that cannot stand in a path.
    #[error("{0:?} is not a valid NAME for a view or reactor: write a-z, 0-9 and -, beginning with a letter")]
    InvalidName(String),
    /// Two of one name.
    #[error("two views or reactors are named {0:?}: give one of them another NAME, or register it only once")]
    NameTwice(String),
    /// Reactors without anybody to execute their commands.
    #[error("reactor {0} has no dispatcher: start reactors only where commands are executed")]
    NoDispatcher(String),
    /// A directory cannot be used.
    #[error("{path} cannot be used: {error}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A thread could not be started.
    #[error("no thread for {name}: {error}")]
    Thread {
        /// Whose.
        name: String,
        /// Why.
        error: std::io::Error,
    },
}

/// Why the log could not be folded.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum FoldError {
    /// An event could not be folded.
    #[error("{projection} cannot fold event {position} ({event_type}): {detail}")]
    Event {
        /// The view or reactor.
        projection: String,
        /// Where the event stands.
        position: Position,
        /// Its type.
        event_type: String,
        /// What went wrong.
        detail: String,
    },
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store failed.
    #[error("the store of {projection} failed: {detail}")]
    Store {
        /// The view or reactor.
        projection: String,
        /// What went wrong.
        detail: String,
    },
}

/// Why a view could not be rebuilt, or its rows not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildError {
    /// There is no such view.
    #[error("there is no view {name:?}; {}", known_text(known))]
    UnknownView {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The view is being rebuilt already.
    #[error("view {0} is being rebuilt already: see GET /v1/projections/{0}/rebuild")]
    Running(String),
    /// Nothing is being rebuilt that could be paused, resumed or cancelled.
    #[error("view {0} is not being rebuilt: begin with POST /v1/projections/{0}/rebuild")]
    NotRunning(String),
    /// It is built for the first time, or anew because its store cannot be trusted: there are no rows without it.
    #[error("view {0} has no rows but those that are being built: pause the build instead of cancelling it")]
    Needed(String),
    /// There are no rebuilt rows to put in place.
    #[error("view {0} has no rebuilt rows to swap in: build them with `annals rebuild {0} --no-swap`")]
    NotReady(String),
    /// There are no rows to go back to.
    #[error("view {0} keeps no earlier rows to go back to: they were dropped, or it was built only once")]
    NoPrevious(String),
    /// The rows that were asked for are of no use for this program and log.
    #[error("the rows of view {view} that were kept cannot be used: {detail}")]
    Unusable {
        /// The view.
        view: String,
        /// Why not.
        detail: String,
    },
    /// The view has no store that could be read.
    #[error("view {0} has not been built yet: run `annals rebuild {0}`")]
    NotBuilt(String),
    /// The disk has not enough space.
    #[error("{path} has {free} bytes left and {reserve} are kept in reserve: free some space")]
    NoSpace {
        /// Where.
        path: PathBuf,
        /// Free bytes.
        free: u64,
        /// Bytes kept in reserve.
        reserve: u64,
    },
    /// The rebuild was cancelled.
    #[error("the rebuild of view {0} was cancelled; the old rows still serve")]
    Cancelled(String),
    /// The log could not be folded.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// The storage failed.
    #[error("the store of view {view} failed: {detail}")]
    Store {
        /// The view.
        view: String,
        /// What went wrong.
        detail: String,
    },
}

/// Why a reactor could not be told from where to go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// There is no such reactor.
    #[error("there is no reactor {name:?}; {}", known_text(known))]
    UnknownReactor {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The position is beyond the log's end.
    #[error("position {from} is beyond the log's end at {head}: give a position up to {}", head.next())]
    BeyondHead {
        /// What was asked for.
        from: Position,
        /// Where the log ends.
        head: Position,
    },
    /// The reactor is at work: nothing has to be resumed.
    #[error("reactor {0} is running: only one that has stopped can be resumed")]
    Running(String),
    /// The outbox could not be written.
    #[error("the outbox of reactor {name} could not be written: {detail}")]
    Storage {
        /// The reactor.
        name: String,
        /// What went wrong.
        detail: String,
    },
}

pub(crate) fn known_text(known: &[String]) -> String {
    if known.is_empty() {
        return "there are none".into();
    }
    format!("there are: {}", known.join(", "))
}

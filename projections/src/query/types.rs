//! What is asked of a view and what it answers.

use annals_core::{Epoch, IndexKind, IndexValue, Position};
use std::collections::BTreeMap;

/// Rows on a page when nothing else is asked for.
pub const LIST_LIMIT_DEFAULT: usize = 100;
/// Most rows on a page.
pub const LIST_LIMIT_MAX: usize = 1_000;

/// One row of a view, or that there is none.
#[derive(Debug, Clone, PartialEq)]
pub struct RowAnswer {
    /// The row as MessagePack; `None` if the view has no row of that key.
    pub row: Option<Vec<u8>>,
    /// The last event that was folded into it; `None` if there is no row.
    pub changed: Option<Position>,
    /// Opaque; changes whenever the row may have changed. Without the quotes of HTTP. Empty if there is no row.
    pub etag: String,
    /// Up to where the view has read the log; the row is as of there.
    pub position: Position,
    /// The history that the position belongs to.
    pub epoch: Epoch,
    /// The event that failed, if the row's key is parked: the row lacks it and what came after it.
    pub parked: Option<Position>,
}

/// Which values of an index are asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum IndexRange {
    /// Exactly this value.
    Equal(IndexValue),
    /// From this value on and up to that one, both included; open where nothing is said.
    Between {
        /// The lowest.
        from: Option<IndexValue>,
        /// The highest.
        to: Option<IndexValue>,
    },
}

/// Which way a list runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// From the lowest on.
    #[default]
    Ascending,
    /// From the highest down.
    Descending,
}

/// Which rows are asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct ListQuery {
    /// Rows with these values of this index, in the index's order; `None`: all rows, in the order of their keys.
    pub index: Option<(String, IndexRange)>,
    /// Which way.
    pub order: Order,
    /// Rows on the page; at least 1, at most [`LIST_LIMIT_MAX`], whatever is written here.
    pub limit: usize,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Rows as they were after the event at this position, and not as they are. A cursor of such a page means the same
    /// position when nothing is written here; another one than the cursor's is refused.
    pub as_of: Option<Position>,
}

impl Default for ListQuery {
    fn default() -> Self {
        Self {
            index: None,
            order: Order::Ascending,
            limit: LIST_LIMIT_DEFAULT,
            cursor: None,
            as_of: None,
        }
    }
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct ListPage {
    /// Keys, and rows as MessagePack.
    pub rows: Vec<(String, Vec<u8>)>,
    /// Asks for the next page; `None` on the last one.
    pub next_cursor: Option<String>,
    /// Up to where the view has read the log; the page is as of there, all of it.
    pub position: Position,
    /// The history that the position belongs to.
    pub epoch: Epoch,
    /// Of these rows the ones whose key is parked, with the event that failed.
    pub parked: BTreeMap<String, Position>,
}

/// Why a view did not answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The view has no such index.
    #[error("view {view} has no index {name:?}; {}", known_text(known))]
    UnknownIndex {
        /// The view.
        view: String,
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<&'static str>,
    },
    /// The values asked for are not of the index's kind.
    #[error("index {index} of view {view} holds values of another kind: {kind:?}")]
    WrongKind {
        /// The view.
        view: String,
        /// The index.
        index: String,
        /// The kind of its values.
        kind: IndexKind,
    },
    /// The cursor is not one that this list gave out.
    #[error(
        "the cursor is not one of this list, or of another order or as_of: use next_cursor of the page before with the same parameters, or none to begin anew"
    )]
    BadCursor,
    /// The view keeps no history.
    #[error("view {0} keeps no history: ask for its rows as they are, or set HISTORY to History::Kept in its code")]
    NoHistory(String),
    /// The position asked for is beyond the log's end.
    #[error("position {position} is beyond the end of the log at {head}: ask as of {head} or before")]
    InFuture {
        /// What was asked for.
        position: Position,
        /// Where the log ends.
        head: Position,
    },
    /// Versions that held at the position asked for may be gone.
    #[error(
        "view {view} keeps its history from position {horizon} on, not from {position}: ask as of {horizon} or later, or fold the log: `annals replay view {view} --at {position}`"
    )]
    BeforeHorizon {
        /// The view.
        view: String,
        /// What was asked for.
        position: Position,
        /// The first position that can be asked for.
        horizon: Position,
    },
    /// The view has not read up to the position asked for.
    #[error("view {view} has read up to position {reached}, not to {position} yet: ask again")]
    Behind {
        /// The view.
        view: String,
        /// What was asked for.
        position: Position,
        /// Up to where it has read.
        reached: Position,
    },
    /// What is stored is not what was written. It is not served.
    #[error(
        "row {key:?} of view {view} is damaged and not served ({detail}): ask again once the view is rebuilt, see GET /v1/projections/{view}/rebuild or run `annals rebuild {view}`"
    )]
    Damaged {
        /// The view.
        view: String,
        /// The row's key.
        key: String,
        /// What is wrong.
        detail: String,
    },
    /// The view has nothing to serve yet, or refuses to.
    #[error("view {view} does not serve ({state}): {detail}")]
    Unavailable {
        /// The view.
        view: String,
        /// What it is doing instead: `starting`, `rebuilding`, `stopped`.
        state: &'static str,
        /// Why, and what to do.
        detail: String,
    },
    /// The log has to be asked, is at another node, and cannot be reached.
    #[error(
        "view {view} has to ask the log for this, which cannot be reached: {detail}; ask again when its command node answers"
    )]
    LogUnreachable {
        /// The view.
        view: String,
        /// Who does not answer, and why.
        detail: String,
    },
    /// The storage failed.
    #[error(
        "view {view} could not be read: {detail}; restart the server, and if that does not help run `annals rebuild {view}`"
    )]
    Storage {
        /// The view.
        view: String,
        /// What went wrong.
        detail: String,
    },
}

fn known_text(known: &[&str]) -> String {
    if known.is_empty() {
        return "it has none: add #[index] to a field of its row".into();
    }
    format!("there are: {}", known.join(", "))
}

//! Queries: rows and lists of a view, read while its worker writes. They never wait for it.

mod cursor;
mod history;
mod run;
#[cfg(test)]
mod tests;
mod types;

pub use types::{IndexRange, LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX, ListPage, ListQuery, Order, QueryError, RowAnswer};

pub use history::{EventNote, HistoryPage, HistoryQuery, RowVersion};

pub(crate) use history::history;
pub(crate) use run::{index_kind, list, row};

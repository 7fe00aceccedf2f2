//! Answers queries from a view's store while its worker writes.

use super::cursor::Cursor;
use super::types::{IndexRange, LIST_LIMIT_MAX, ListPage, ListQuery, Order, QueryError, RowAnswer};
use crate::ViewDefinition;
use crate::store::layout::{all_rows, index_range, is_cut, row_key};
use crate::store::{RowReader, Scan, StoreError, StoredRow};
use crate::views::{RunningView, repair};
use annals_core::{IndexKind, IndexValue};
use std::sync::Arc;

/// Bytes of rows after which a page ends, however many rows were asked for.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The row of a key.
pub(crate) fn row(view: &Arc<RunningView>, key: &str) -> Result<RowAnswer, QueryError> {
    let store = view.queried()?;
    let parked = store.board().parked(key);
    let reader = store.rows().reader();
    let stored = reader.row(key).map_err(|error| failed(view, Some(key), error))?;
    let etag = stored
        .as_ref()
        .map(|stored| etag(&view.definition, stored))
        .unwrap_or_default();
    Ok(RowAnswer {
        row: stored.map(|stored| stored.row),
        etag,
        position: reader.position(),
        epoch: view.progress.epoch(),
        parked,
    })
}

/// Also holds the row's checksum: after a restore another row may have been changed by an event at the same position.
fn etag(definition: &ViewDefinition, stored: &StoredRow) -> String {
    format!(
        "{:x}-{:x}-{:08x}",
        definition.version(),
        stored.from.get(),
        crc32c::crc32c(&stored.row)
    )
}

/// The kind of an index.
pub(crate) fn index_kind(definition: &ViewDefinition, name: &str) -> Result<IndexKind, QueryError> {
    find_index(definition, name).map(|(_, kind)| kind)
}

fn find_index(definition: &ViewDefinition, name: &str) -> Result<(u16, IndexKind), QueryError> {
    let indexes = definition.indexes();
    match indexes.iter().position(|(known, _)| *known == name) {
        Some(number) => Ok((number as u16, indexes[number].1)),
        None => Err(QueryError::UnknownIndex {
            view: definition.name().to_owned(),
            name: name.chars().take(80).collect(),
            known: indexes.iter().map(|(known, _)| *known).collect(),
        }),
    }
}

/// A page of rows.
pub(crate) fn list(view: &Arc<RunningView>, query: &ListQuery) -> Result<ListPage, QueryError> {
    let store = view.queried()?;
    let parked = store.board().all();
    let reader = store.rows().reader();
    let mut page = Page {
        rows: Vec::new(),
        bytes: 0,
        limit: query.limit.clamp(1, LIST_LIMIT_MAX),
        last: None,
        more: false,
    };
    let backwards = query.order == Order::Descending;
    match &query.index {
        None => {
            let range = Cursor::narrow(all_rows(), query.cursor.as_deref(), backwards)?;
            let scanned = reader.scan_rows(range, backwards, &mut |key, stored| {
                Ok(page.add(key, stored, || row_key(key)))
            });
            scanned.map_err(|error| failed(view, None, error))?;
        }
        Some((name, range)) => page.fill_from_index(view, &reader, name, range, query)?,
    }
    let failing = |key: &String| Some((key.clone(), parked.get(key)?.letter.position));
    Ok(ListPage {
        parked: page.rows.iter().filter_map(|(key, _)| failing(key)).collect(),
        next_cursor: page.more.then(|| page.last.as_deref().map(Cursor::text)).flatten(),
        rows: page.rows,
        position: reader.position(),
        epoch: view.progress.epoch(),
    })
}

struct Page {
    rows: Vec<(String, Vec<u8>)>,
    bytes: usize,
    limit: usize,
    /// Key in the store behind the last row.
    last: Option<Vec<u8>>,
    more: bool,
}

impl Page {
    fn add(&mut self, key: &str, stored: StoredRow, stored_key: impl FnOnce() -> Vec<u8>) -> Scan {
        if self.rows.len() >= self.limit || self.bytes >= PAGE_BYTES_MAX {
            self.more = true;
            return Scan::Stop;
        }
        self.bytes += stored.row.len();
        self.rows.push((key.to_owned(), stored.row));
        self.last = Some(stored_key());
        Scan::Go
    }

    fn fill_from_index(
        &mut self,
        view: &Arc<RunningView>,
        reader: &RowReader<'_>,
        name: &str,
        range: &IndexRange,
        query: &ListQuery,
    ) -> Result<(), QueryError> {
        let (number, kind) = find_index(&view.definition, name)?;
        let (from, to) = match range {
            IndexRange::Equal(value) => (Some(value), Some(value)),
            IndexRange::Between { from, to } => (from.as_ref(), to.as_ref()),
        };
        if from.into_iter().chain(to).any(|value| kind_of(value) != kind) {
            return Err(QueryError::WrongKind {
                view: view.name().to_owned(),
                index: name.to_owned(),
                kind,
            });
        }
        let backwards = query.order == Order::Descending;
        let range = Cursor::narrow(index_range(number, from, to), query.cursor.as_deref(), backwards)?;
        let mut damaged = None;
        let scanned = reader.scan_index(range, backwards, &mut |entry, value, key| {
            let stored = match indexed_row(reader, key) {
                // Its text is cut in the index, and may not be the one asked for.
                Ok(stored) if is_cut(value) => match view.definition.index_values(&stored.row) {
                    Ok(values) => match values.get(usize::from(number)) {
                        Some(Some(now)) if within(now, from, to) => Ok(stored),
                        _ => return Ok(Scan::Go),
                    },
                    Err(error) => Err(StoreError::Damaged(error)),
                },
                other => other,
            };
            match stored {
                Ok(stored) => Ok(self.add(key, stored, || entry.to_vec())),
                Err(error) => {
                    damaged = Some(failed(view, Some(key), error));
                    Ok(Scan::Stop)
                }
            }
        });
        scanned.map_err(|error| failed(view, None, error))?;
        damaged.map_or(Ok(()), Err)
    }
}

/// Index and rows are read as of one moment, so that an entry without its row is damage.
fn indexed_row(reader: &RowReader<'_>, key: &str) -> Result<StoredRow, StoreError> {
    reader
        .row(key)?
        .ok_or_else(|| StoreError::Damaged("it stands in an index and is missing".into()))
}

fn kind_of(value: &IndexValue) -> IndexKind {
    match value {
        IndexValue::Bool(_) => IndexKind::Bool,
        IndexValue::Number(_) => IndexKind::Number,
        IndexValue::Text(_) => IndexKind::Text,
    }
}

/// Compares whole values: texts that are cut in the index stand in it with what begins alike.
fn within(value: &IndexValue, from: Option<&IndexValue>, to: Option<&IndexValue>) -> bool {
    from.is_none_or(|from| value >= from) && to.is_none_or(|to| value <= to)
}

fn failed(view: &Arc<RunningView>, key: Option<&str>, error: StoreError) -> QueryError {
    let error = match error {
        StoreError::Damaged(detail) => {
            let rebuilt = repair(view, &detail);
            StoreError::Damaged(format!("{detail}; {rebuilt}"))
        }
        other => other,
    };
    match (error, key) {
        (StoreError::Damaged(detail), Some(key)) => QueryError::Damaged {
            view: view.name().to_owned(),
            key: key.to_owned(),
            detail,
        },
        (error, _) => QueryError::Storage {
            view: view.name().to_owned(),
            detail: error.to_string(),
        },
    }
}

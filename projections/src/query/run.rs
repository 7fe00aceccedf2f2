//! Answers queries from a view's store while its worker writes.

use super::cursor::Cursor;
use super::types::{IndexRange, LIST_LIMIT_MAX, ListPage, ListQuery, Order, QueryError, RowAnswer};
use crate::ViewDefinition;
use crate::store::layout::{all_rows, index_key, index_range, is_cut, row_key};
use crate::store::{KeyRange, RowReader, RowStore, Scan, Scanned, StoreError, StoredRow};
use crate::views::{RunningView, repair};
use annals_core::{IndexKind, IndexValue, Position};
use std::sync::Arc;

/// Bytes of rows after which a page ends, however many rows were asked for.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The row of a key, as of a position if one is given.
pub(crate) fn row(view: &Arc<RunningView>, key: &str, as_of: Option<Position>) -> Result<RowAnswer, QueryError> {
    let store = view.queried()?;
    let parked = store.board().parked(key);
    let reader = store.rows().reader();
    let stored = match as_of {
        Some(at) => {
            check_as_of(view, store.rows(), reader.position(), at)?;
            reader.row_as_of(key, at)
        }
        None => reader.row(key),
    };
    let stored = stored.map_err(|error| failed(view, Some(key), error))?;
    let etag = stored
        .as_ref()
        .map(|stored| etag(&view.definition, stored))
        .unwrap_or_default();
    Ok(RowAnswer {
        changed: stored.as_ref().map(|stored| stored.from),
        row: stored.map(|stored| stored.row),
        etag,
        position: as_of.unwrap_or_else(|| reader.position()),
        epoch: view.progress.epoch(),
        parked,
    })
}

/// Whether a view that has read up to `reached` can answer as of a position.
pub(super) fn check_as_of(
    view: &RunningView,
    rows: &RowStore,
    reached: Position,
    position: Position,
) -> Result<(), QueryError> {
    let name = || view.name().to_owned();
    if !view.definition.keeps_history() {
        return Err(QueryError::NoHistory(name()));
    }
    let head = view.shared.log.head();
    if position > head {
        return Err(QueryError::InFuture { position, head });
    }
    if position > reached {
        return Err(QueryError::Behind {
            view: name(),
            position,
            reached,
        });
    }
    let horizon = rows.horizon();
    if position < horizon {
        return Err(QueryError::BeforeHorizon {
            view: name(),
            position,
            horizon,
        });
    }
    Ok(())
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
    let split = |cursor| Cursor::split(cursor, backwards);
    let (cursor_at, cursor) = match query.cursor.as_deref().map(split).transpose()? {
        Some((at, cursor)) => (at, Some(cursor)),
        None => (None, None),
    };
    if cursor.is_some() && query.as_of.is_some() && cursor_at != query.as_of {
        return Err(QueryError::BadCursor);
    }
    let as_of = cursor_at.or(query.as_of);
    if let Some(at) = as_of {
        check_as_of(view, store.rows(), reader.position(), at)?;
    }
    match &query.index {
        None => {
            let range = Cursor::narrow(all_rows(), cursor, backwards)?;
            page.fill_in_order(&reader, range, backwards, as_of)
                .map_err(|error| failed(view, None, error))?;
        }
        Some((name, values)) => page.fill_from_index(view, &reader, name, values, (cursor, backwards, as_of))?,
    }
    let failing = |key: &String| Some((key.clone(), parked.get(key)?.letter.position));
    Ok(ListPage {
        parked: page.rows.iter().filter_map(|(key, _)| failing(key)).collect(),
        next_cursor: page.next_cursor(backwards, as_of),
        rows: page.rows,
        position: as_of.unwrap_or_else(|| reader.position()),
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

    fn next_cursor(&self, backwards: bool, as_of: Option<Position>) -> Option<String> {
        let last = self.last.as_deref().filter(|_| self.more)?;
        Some(Cursor::text(last, backwards, as_of))
    }

    /// The page ends here, because it looked at too much.
    fn cut(&mut self, scanned: Scanned) {
        if let Scanned::Cut(last) = scanned {
            self.last = Some(last);
            self.more = true;
        }
    }

    fn fill_in_order(
        &mut self,
        reader: &RowReader<'_>,
        range: KeyRange,
        backwards: bool,
        as_of: Option<Position>,
    ) -> Result<(), StoreError> {
        let mut add = |key: &str, stored| Ok(self.add(key, stored, || row_key(key)));
        match as_of {
            None => reader.scan_rows(range, backwards, &mut add),
            Some(at) => {
                let scanned = reader.scan_rows_as_of(range, backwards, at, &mut add)?;
                self.cut(scanned);
                Ok(())
            }
        }
    }

    fn fill_from_index(
        &mut self,
        view: &Arc<RunningView>,
        reader: &RowReader<'_>,
        name: &str,
        values: &IndexRange,
        (cursor, backwards, as_of): (Option<&str>, bool, Option<Position>),
    ) -> Result<(), QueryError> {
        let (number, kind) = find_index(&view.definition, name)?;
        let (from, to) = match values {
            IndexRange::Equal(value) => (Some(value), Some(value)),
            IndexRange::Between { from, to } => (from.as_ref(), to.as_ref()),
        };
        if from.into_iter().chain(to).any(|value| !kind.holds(value)) {
            return Err(QueryError::WrongKind {
                view: view.name().to_owned(),
                index: name.to_owned(),
                kind,
            });
        }
        let range = Cursor::narrow(index_range(number, from, to), cursor, backwards)?;
        let mut damaged = None;
        let mut visit = |value: &[u8], key: &str| {
            let stored = match indexed_row(reader, key, as_of) {
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
                Ok(stored) => Ok(self.add(key, stored, || index_key(number, value, key))),
                Err(error) => {
                    damaged = Some(failed(view, Some(key), error));
                    Ok(Scan::Stop)
                }
            }
        };
        let scanned = match as_of {
            None => reader
                .scan_index(range, backwards, &mut |_, value, key| visit(value, key))
                .map(|()| Scanned::Whole),
            Some(at) => reader.scan_index_as_of(number, range, backwards, at, &mut visit),
        };
        let scanned = scanned.map_err(|error| failed(view, None, error))?;
        damaged.map_or(Ok(()), Err)?;
        self.cut(scanned);
        Ok(())
    }
}

/// Index and rows are read as of one moment, so that an entry without its row is damage.
fn indexed_row(reader: &RowReader<'_>, key: &str, as_of: Option<Position>) -> Result<StoredRow, StoreError> {
    let stored = match as_of {
        None => reader.row(key)?,
        Some(at) => reader.row_as_of(key, at)?,
    };
    stored.ok_or_else(|| StoreError::Damaged("it stands in an index and is missing".into()))
}

/// Compares whole values: texts that are cut in the index stand in it with what begins alike.
fn within(value: &IndexValue, from: Option<&IndexValue>, to: Option<&IndexValue>) -> bool {
    from.is_none_or(|from| value >= from) && to.is_none_or(|to| value <= to)
}

pub(super) fn failed(view: &Arc<RunningView>, key: Option<&str>, error: StoreError) -> QueryError {
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

//! Folds a batch of events into the rows of a view. Writes nothing.

use crate::definition::{Change, Failure, RowTable};
use crate::reader::{LogReader, Take};
use crate::store::{RowStore, StoreError};
use crate::{FoldError, ProjectionSettings, ViewDefinition};
use annals_core::{Catalog, EventLog, LogError, Position, RecordRef};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Where a batch ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) events: usize,
    pub(crate) rows: usize,
    /// Bytes of rows in memory.
    pub(crate) bytes: usize,
    pub(crate) until: Position,
}

/// Events folded together.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Position of the last one.
    pub(crate) position: Position,
    pub(crate) events: u64,
    pub(crate) changes: Vec<Change>,
}

/// Why a batch could not be folded.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The event at `position` fails; those before it in the batch may be folded.
    Event { position: Position, error: FoldError },
    /// What the store holds cannot be trusted.
    Damaged(String),
    /// Log or store failed.
    Other(FoldError),
}

impl From<LogError> for Stop {
    fn from(error: LogError) -> Self {
        Self::Other(error.into())
    }
}

/// The rows in memory and where they come from.
pub(crate) struct ViewFold<'a> {
    name: &'static str,
    catalog: &'a Catalog,
    reader: LogReader<'a>,
    table: Box<dyn RowTable>,
    row_bytes_max: usize,
    table_bytes_max: usize,
}

impl<'a> ViewFold<'a> {
    pub(crate) fn new(
        log: &'a dyn EventLog,
        catalog: &'a Catalog,
        view: &ViewDefinition,
        settings: &ProjectionSettings,
    ) -> Self {
        Self {
            name: view.name(),
            catalog,
            reader: LogReader::new(log, settings.read_bytes),
            table: view.table(),
            row_bytes_max: settings.row_bytes_max,
            table_bytes_max: settings.table_bytes_max,
        }
    }

    /// Folds the events after `after`. `seen` is told the recorded time of the first.
    pub(crate) fn batch(
        &mut self,
        store: &RowStore,
        after: Position,
        limits: Limits,
        seen: &mut dyn FnMut(i64),
    ) -> Result<Batch, Stop> {
        if self.table.bytes() > self.table_bytes_max {
            self.table.clear();
        }
        let folded = self.fold(store, after, limits, seen);
        if folded.is_err() {
            self.table.clear();
        }
        folded
    }

    /// Forgets the rows in memory: another store, or one that did not take the last batch.
    pub(crate) fn forget(&mut self) {
        self.table.clear();
    }

    fn fold(
        &mut self,
        store: &RowStore,
        after: Position,
        limits: Limits,
        seen: &mut dyn FnMut(i64),
    ) -> Result<Batch, Stop> {
        let (name, catalog, table) = (self.name, self.catalog, &mut self.table);
        let mut events = 0;
        let position = self.reader.read(after, limits.until, |record| {
            if events == 0 {
                seen(record.header.recorded);
            }
            fold_one(table.as_mut(), catalog, record, store).map_err(|failure| stop(name, record, failure))?;
            events += 1;
            let full = events >= limits.events || table.changed() >= limits.rows || table.bytes() >= limits.bytes;
            Ok::<_, Stop>(if full { Take::Enough } else { Take::More })
        })?;
        let changes = match table.take_changes(self.row_bytes_max) {
            Ok(changes) => changes,
            Err(failure) => return Err(self.unstorable(failure)),
        };
        Ok(Batch {
            position,
            events: events as u64,
            changes,
        })
    }

    fn unstorable(&self, failure: Failure) -> Stop {
        let projection = self.name.to_owned();
        match failure {
            Failure::Value { from, .. } => Stop::Event {
                position: from,
                error: FoldError::Event {
                    projection,
                    position: from,
                    event_type: "the last one in this row".into(),
                    detail: failure.to_string(),
                },
            },
            other => Stop::Other(FoldError::Store {
                projection,
                detail: other.to_string(),
            }),
        }
    }
}

fn fold_one(
    table: &mut dyn RowTable,
    catalog: &Catalog,
    record: &RecordRef<'_>,
    store: &RowStore,
) -> Result<(), Failure> {
    let mut load = |key: &str| store.row(key).map(|stored| stored.map(|stored| stored.row));
    // A panic may leave the table half changed: it is cleared after any error.
    catch_unwind(AssertUnwindSafe(|| table.apply(catalog, record, None, &mut load)))
        .unwrap_or_else(|panic| Err(Failure::Code(panic_text(panic.as_ref()))))
}

/// What a failure in one event means for its batch.
pub(crate) fn stop(projection: &str, record: &RecordRef<'_>, failure: Failure) -> Stop {
    match failure {
        Failure::Store(StoreError::Damaged(detail)) => Stop::Damaged(detail),
        Failure::Store(error) => Stop::Other(FoldError::Store {
            projection: projection.to_owned(),
            detail: error.to_string(),
        }),
        other => Stop::Event {
            position: record.position,
            error: FoldError::Event {
                projection: projection.to_owned(),
                position: record.position,
                event_type: record.header.event_type.to_owned(),
                detail: other.to_string(),
            },
        },
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    format!("its code panicked: {}", text.unwrap_or_else(|| "no message".into()))
}

//! Any rows from the log alone: folded in memory, up to a position or a time.

use crate::definition::{Failure, RowTable, panic_text};
use crate::failures::{Operations, Skips};
use crate::reader::{LogReader, Take};
use crate::threads::Threads;
use crate::{FoldError, ViewDefinition};
use annals_core::{Catalog, EventLog, Position, RecordRef};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Up to where the log is folded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cutoff {
    /// All of it.
    Head,
    /// Up to this position, itself included.
    Position(Position),
    /// Only events that occurred at this time or before, wherever they stand: what *was so* then.
    OccurredAt(DateTime<Utc>),
}

/// How far a replay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoldProgress {
    /// Up to where the log was read.
    pub position: Position,
    /// Where it ends for this replay.
    pub total: Position,
}

/// How often progress is told, in events.
const TOLD_EVERY_EVENTS: u64 = 8_192;
const READ_BYTES: usize = 1024 * 1024;

/// Rows of a view, as MessagePack by key, folded from the log alone: nothing is stored, and what is stored is not
/// looked at. Events that were skipped are passed by, as they stand in the log, too. With `key`, only that row. All rows are in memory at once. Blocks.
pub fn fold_rows(
    log: &dyn EventLog,
    catalog: &Catalog,
    view: &ViewDefinition,
    cutoff: Cutoff,
    key: Option<&str>,
    progress: &mut dyn FnMut(FoldProgress),
) -> Result<BTreeMap<String, Vec<u8>>, FoldError> {
    let total = match cutoff {
        Cutoff::Position(position) => position.min(log.head()),
        Cutoff::Head | Cutoff::OccurredAt(_) => log.head(),
    };
    let operations = Operations::of(log, view.name(), Some(view.version()))?;
    let skips = operations.skips();
    let (mut table, alone) = (view.table_of_last_rows(), Threads::new(1));
    let mut reader = LogReader::new(log, READ_BYTES);
    let position = reader.read(Position::ZERO, total, |record| {
        if record.position.get() % TOLD_EVERY_EVENTS == 0 {
            progress(FoldProgress {
                position: record.position,
                total,
            });
        }
        let later = matches!(cutoff, Cutoff::OccurredAt(time) if record.occurred_at() > time);
        if !later && !skips.event(record.position) {
            fold_one(table.as_mut(), catalog, record, key, skips).map_err(|failure| FoldError::Event {
                projection: view.name().to_owned(),
                position: record.position,
                event_type: record.header.event_type.to_owned(),
                detail: failure.to_string(),
            })?;
        }
        Ok::<_, FoldError>(Take::More)
    })?;
    progress(FoldProgress { position, total });
    let changes = table
        .take_changes(usize::MAX, &alone)
        .map_err(|failure| FoldError::Store {
            projection: view.name().to_owned(),
            detail: failure.to_string(),
        })?;
    let rows = changes
        .into_iter()
        .filter_map(|change| Some((change.key.as_str().to_owned(), change.value?)));
    Ok(rows.collect())
}

/// Is handed an event, and the key and row that it made; `None` if it deleted the row. Its error ends the fold.
pub type VisitVersion<'a> = dyn FnMut(&RecordRef<'_>, &str, Option<&[u8]>) -> Result<(), FoldError> + 'a;

/// Every version of the rows of a view up to a position, or of one row, in the order of the log, folded from the log
/// alone. A version may be the same as the one before it. All rows are in memory at once. Blocks.
pub fn fold_versions(
    log: &dyn EventLog,
    catalog: &Catalog,
    view: &ViewDefinition,
    until: Position,
    key: Option<&str>,
    visit: &mut VisitVersion<'_>,
    progress: &mut dyn FnMut(FoldProgress),
) -> Result<(), FoldError> {
    let total = until.min(log.head());
    let operations = Operations::of(log, view.name(), Some(view.version()))?;
    let skips = operations.skips();
    let (mut table, alone) = (view.table_of_last_rows(), Threads::new(1));
    let mut reader = LogReader::new(log, READ_BYTES);
    let position = reader.read(Position::ZERO, total, |record| {
        if record.position.get() % TOLD_EVERY_EVENTS == 0 {
            progress(FoldProgress {
                position: record.position,
                total,
            });
        }
        if skips.event(record.position) {
            return Ok(Take::More);
        }
        let folded =
            fold_one(table.as_mut(), catalog, record, key, skips).and_then(|()| table.take_changes(usize::MAX, &alone));
        let changes = folded.map_err(|failure| FoldError::Event {
            projection: view.name().to_owned(),
            position: record.position,
            event_type: record.header.event_type.to_owned(),
            detail: failure.to_string(),
        })?;
        for change in changes {
            visit(record, change.key.as_str(), change.value.as_deref())?;
        }
        Ok::<_, FoldError>(Take::More)
    })?;
    progress(FoldProgress { position, total });
    Ok(())
}

fn fold_one(
    table: &mut dyn RowTable,
    catalog: &Catalog,
    record: &RecordRef<'_>,
    key: Option<&str>,
    skips: &Skips,
) -> Result<(), Failure> {
    let mut wanted = |one: &str| key.is_none_or(|key| key == one) && !skips.key(record.position, one);
    catch_unwind(AssertUnwindSafe(|| {
        table.apply(catalog, record, &mut wanted, &mut |_| Ok(None))
    }))
    .unwrap_or_else(|panic| Err(Failure::Code(panic_text(panic.as_ref()))))
}

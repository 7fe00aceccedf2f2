//! Folds a batch of events into the rows of a view. Writes nothing. Events of parked keys are not folded but said to
//! wait; what was skipped is passed by.

use super::samples::Samples;
use crate::definition::{Change, Failure, RowTable, Wanted};
use crate::failures::{Letters, Operations, Skips};
use crate::pass::Member;
use crate::reader::{LogReader, Take};
use crate::store::{RowStore, SampleChange, StoreError};
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

/// What is not folded, and why.
#[derive(Clone, Copy)]
pub(crate) struct Gate<'a> {
    pub(crate) letters: &'a Letters,
    pub(crate) operations: &'a Operations,
}

/// Events folded together.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Position of the last one.
    pub(crate) position: Position,
    pub(crate) events: u64,
    pub(crate) changes: Vec<Change>,
    pub(crate) samples: Vec<SampleChange>,
    /// Events of parked keys, in the order of the log.
    pub(crate) waiting: Vec<(String, Position)>,
    /// Whether it ends with a decision about this view, see [`Operations`].
    pub(crate) decided: bool,
}

/// Events of one key that waited, folded together.
#[derive(Debug)]
pub(crate) struct Refolded {
    pub(crate) changes: Vec<Change>,
    pub(crate) samples: Vec<SampleChange>,
    /// How many of them are folded or passed by.
    pub(crate) done: usize,
    /// Why the next one failed.
    pub(crate) failed: Option<FoldError>,
}

/// Why a batch could not be folded.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The event at `position` fails; those before it in the batch may be folded. The key is not known if the event
    /// cannot be decoded or not be routed.
    Event {
        position: Position,
        key: Option<String>,
        error: FoldError,
    },
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
    log: &'a dyn EventLog,
    catalog: &'a Catalog,
    reader: LogReader<'a>,
    table: Box<dyn RowTable>,
    samples: Samples,
    row_bytes_max: usize,
    table_bytes_max: usize,
}

impl<'a> ViewFold<'a> {
    pub(crate) fn new(
        log: &'a dyn EventLog,
        catalog: &'a Catalog,
        view: &ViewDefinition,
        settings: &ProjectionSettings,
        samples: Samples,
    ) -> Self {
        Self {
            name: view.name(),
            log,
            catalog,
            reader: LogReader::new(log, settings.read_bytes),
            table: view.table(),
            samples,
            row_bytes_max: settings.row_bytes_max,
            table_bytes_max: settings.table_bytes_max,
        }
    }

    /// Reads the log together with others.
    pub(crate) fn in_pass(&mut self, member: Option<Member>) {
        self.reader.in_pass(member);
    }

    /// Folds the events after `after`. `seen` is told the recorded time of the first.
    pub(crate) fn batch(
        &mut self,
        store: &RowStore,
        after: Position,
        limits: Limits,
        gate: Gate<'_>,
        seen: &mut dyn FnMut(i64),
    ) -> Result<Batch, Stop> {
        if self.table.bytes() > self.table_bytes_max {
            self.table.clear();
        }
        let folded = self.fold(store, after, limits, gate, seen);
        if folded.is_err() {
            self.forget();
        }
        folded
    }

    /// Forgets the rows in memory: another store, or one that did not take the last batch.
    pub(crate) fn forget(&mut self) {
        self.table.clear();
        self.samples.forget();
    }

    /// Folds events that waited for one key: as many of them as can be.
    pub(crate) fn refold(
        &mut self,
        store: &RowStore,
        key: &str,
        positions: &[Position],
        skips: &Skips,
    ) -> Result<Refolded, Stop> {
        let (mut done, mut failed) = (positions.len(), None);
        loop {
            let folded = self.fold_key(store, key, &positions[..done], skips);
            if folded.is_err() {
                self.forget();
            }
            match folded {
                Ok(changes) => {
                    let samples = self.samples.take_changes();
                    return Ok(Refolded {
                        changes,
                        samples,
                        done,
                        failed,
                    });
                }
                Err(Stop::Event { position, error, .. }) => {
                    done = positions
                        .iter()
                        .position(|one| *one >= position)
                        .unwrap_or(0)
                        .min(done.saturating_sub(1));
                    failed = Some(error);
                }
                Err(other) => return Err(other),
            }
        }
    }

    fn fold_key(
        &mut self,
        store: &RowStore,
        key: &str,
        positions: &[Position],
        skips: &Skips,
    ) -> Result<Vec<Change>, Stop> {
        for position in positions
            .iter()
            .filter(|position| !skips.settles(**position, Some(key)))
        {
            let record = self.log.read_one(*position)?;
            let gone = || LogError::Damaged {
                position: *position,
                detail: "the event is not there any more".into(),
            };
            let record = record.ok_or_else(gone)?;
            let record = record.view().map_err(LogError::from)?;
            let mut only = |one: &str| one == key;
            fold_one(self.table.as_mut(), self.catalog, &record, store, &mut only)
                .map_err(|failure| stop(self.name, &record, Some(key.to_owned()), failure))?;
            self.samples.saw(key, *position);
        }
        self.take_changes()
    }

    fn fold(
        &mut self,
        store: &RowStore,
        after: Position,
        limits: Limits,
        gate: Gate<'_>,
        seen: &mut dyn FnMut(i64),
    ) -> Result<Batch, Stop> {
        let (name, catalog, table, samples) = (self.name, self.catalog, &mut self.table, &mut self.samples);
        let (mut events, mut decided) = (0, false);
        let (mut waiting, mut failing) = (Vec::new(), String::new());
        let skips = gate.operations.skips();
        let position = self.reader.read(after, limits.until, |record| {
            if events == 0 {
                seen(record.header.recorded);
            }
            events += 1;
            decided = gate.operations.are_in(record.header.stream);
            failing.clear();
            if !skips.event(record.position) {
                let mut wanted = |key: &str| {
                    if skips.key(record.position, key) {
                        return false;
                    }
                    if gate.letters.is_parked(key) {
                        waiting.push((key.to_owned(), record.position));
                        return false;
                    }
                    failing.clear();
                    failing.push_str(key);
                    samples.saw(key, record.position);
                    true
                };
                let folded = fold_one(table.as_mut(), catalog, record, store, &mut wanted);
                let key = || (!failing.is_empty()).then(|| failing.clone());
                folded.map_err(|failure| stop(name, record, key(), failure))?;
            }
            let full = events >= limits.events || table.changed() >= limits.rows || table.bytes() >= limits.bytes;
            Ok::<_, Stop>(if full || decided { Take::Enough } else { Take::More })
        })?;
        Ok(Batch {
            position,
            events: events as u64,
            changes: self.take_changes()?,
            samples: self.samples.take_changes(),
            waiting,
            decided,
        })
    }

    fn take_changes(&mut self) -> Result<Vec<Change>, Stop> {
        self.table
            .take_changes(self.row_bytes_max)
            .map_err(|failure| self.unstorable(failure))
    }

    fn unstorable(&self, failure: Failure) -> Stop {
        let projection = self.name.to_owned();
        match failure {
            Failure::Value { ref key, from, .. } => Stop::Event {
                position: from,
                key: Some(key.clone()),
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
    wanted: &mut Wanted<'_>,
) -> Result<(), Failure> {
    let mut load = |key: &str| store.row(key);
    // A panic may leave the table half changed: it is cleared after any error.
    catch_unwind(AssertUnwindSafe(|| table.apply(catalog, record, wanted, &mut load)))
        .unwrap_or_else(|panic| Err(Failure::Code(panic_text(panic.as_ref()))))
}

/// What a failure in one event means for its batch.
pub(crate) fn stop(projection: &str, record: &RecordRef<'_>, key: Option<String>, failure: Failure) -> Stop {
    match failure {
        Failure::Store(StoreError::Damaged(detail)) => Stop::Damaged(detail),
        Failure::Store(error) => Stop::Other(FoldError::Store {
            projection: projection.to_owned(),
            detail: error.to_string(),
        }),
        other => Stop::Event {
            position: record.position,
            key,
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

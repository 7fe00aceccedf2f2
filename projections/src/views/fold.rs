//! Folds events into the rows of a view, batch by batch. Writes nothing. Events of parked keys are not folded but said to
//! wait; what was skipped is passed by.

use super::samples::Samples;
use crate::definition::{Admitted, Change, Failure, Fault, RowTable, Run, Wanted, key_hash, panic_text};
use crate::failures::{Letters, Operations, Skips};
use crate::pass::Member;
use crate::reader::LogReader;
use crate::store::{RowStore, SampleChange, StoreError};
use crate::threads::Threads;
use crate::{FoldError, ProjectionSettings, ViewDefinition, definition};
use annals_core::{Catalog, EventLog, LogError, Position, RecordRef};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Events that are folded together: they and what was decoded of them are in memory at a time.
const RUN_EVENTS: usize = 4_096;
/// Fewer are folded by one thread: several would wait for each other longer.
const SHORT_RUN: usize = 512;

/// Where a batch ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) events: usize,
    pub(crate) rows: usize,
    /// Bytes of rows in memory.
    pub(crate) bytes: usize,
    pub(crate) until: Position,
    /// Whether one thread does it, because others need the processors.
    pub(crate) alone: bool,
}

/// What is not folded, and why.
#[derive(Clone, Copy)]
pub(crate) struct Gate<'a> {
    pub(crate) letters: &'a Letters,
    pub(crate) operations: &'a Operations,
}

/// How far events are folded and not handed out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Folded {
    /// Position of the last one.
    pub(crate) position: Position,
    /// Whether they are to be handed out before any more are folded: a limit is reached, or a decision is among them.
    pub(crate) full: bool,
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
    /// What the events up to `position` make of a row cannot be stored. It may be an earlier one that is to blame.
    Row {
        position: Position,
        key: String,
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
    threads: Arc<Threads>,
    row_bytes_max: usize,
    /// Whether one thread did what was folded last.
    alone: bool,
    /// What was folded and not handed out.
    folded: Option<Batch>,
}

impl<'a> ViewFold<'a> {
    pub(crate) fn new(
        log: &'a dyn EventLog,
        catalog: &'a Catalog,
        view: &ViewDefinition,
        settings: &ProjectionSettings,
        samples: Samples,
        threads: Arc<Threads>,
    ) -> Self {
        Self {
            name: view.name(),
            log,
            catalog,
            reader: LogReader::new(log, settings.read_bytes),
            table: view.table(threads.count()),
            samples,
            threads,
            row_bytes_max: settings.row_bytes_max,
            alone: false,
            folded: None,
        }
    }

    /// Reads the log together with others.
    pub(crate) fn in_pass(&mut self, member: Option<Member>) {
        self.reader.in_pass(member);
    }

    /// Folds the events after `after` and hands them out. `seen` is told the recorded time of the first.
    pub(crate) fn batch(
        &mut self,
        store: &RowStore,
        after: Position,
        limits: Limits,
        gate: Gate<'_>,
        seen: &mut dyn FnMut(i64),
    ) -> Result<Batch, Stop> {
        if let Err(stop) = self.go_on(store, after, limits, gate, seen) {
            self.forget();
            return Err(stop);
        }
        self.take(after, limits.bytes / 2)
    }

    /// Up to where events are folded and not handed out, if there are any.
    pub(crate) fn position(&self) -> Option<Position> {
        self.folded.as_ref().map(|folded| folded.position)
    }

    /// Folds further events behind those that are folded and not handed out, at first those after `after`. The limits of
    /// rows and bytes are those of all that is not handed out, the one of events is for these. After an error all that was
    /// not handed out is forgotten, unless it was the log that could not be read.
    pub(crate) fn go_on(
        &mut self,
        store: &RowStore,
        after: Position,
        limits: Limits,
        gate: Gate<'_>,
        seen: &mut dyn FnMut(i64),
    ) -> Result<Folded, Stop> {
        self.alone = limits.alone;
        let folded = self.fold(store, after, limits, gate, seen);
        if folded.is_err() && self.folded.is_none() {
            self.forget();
        }
        folded
    }

    /// Hands out what was folded since the last time; rows of about so many bytes stay in memory. `after` is where that
    /// was, if nothing was folded.
    pub(crate) fn take(&mut self, after: Position, bytes_kept: usize) -> Result<Batch, Stop> {
        let changes = match self.take_changes() {
            Ok(changes) => changes,
            Err(stop) => {
                self.forget();
                return Err(stop);
            }
        };
        self.table.shrink_to(bytes_kept);
        let mut batch = self.folded.take().unwrap_or_else(|| Batch::at(after));
        batch.changes = changes;
        batch.samples = self.samples.take_changes();
        Ok(batch)
    }

    /// Forgets the rows in memory: another store, or one that did not take the last batch.
    pub(crate) fn forget(&mut self) {
        self.table.clear();
        self.samples.forget();
        self.folded = None;
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
                Err(Stop::Event { position, error, .. } | Stop::Row { position, error, .. }) => {
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
                .map_err(|failure| stop(self.name, Fault::of(&record, Some(key), failure)))?;
            self.samples.saw(key_hash(key), key, *position);
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
    ) -> Result<Folded, Stop> {
        let mut batch = self.folded.take().unwrap_or_else(|| Batch::at(after));
        let mut left = limits.events;
        let mut full = false;
        while !full && batch.position < limits.until {
            let rows_left = limits.rows.saturating_sub(self.table.changed()).max(1);
            let most = left.min(rows_left).min(RUN_EVENTS);
            let blocks = match self.reader.run(batch.position, limits.until, most) {
                Ok(blocks) => blocks,
                Err(error) => {
                    self.folded = Some(batch);
                    return Err(error.into());
                }
            };
            if blocks.is_empty() {
                break;
            }
            let run = Run {
                catalog: self.catalog,
                blocks: &blocks,
                gate: &Asked {
                    gate,
                    samples: &self.samples,
                },
                load: &|key| store.row(key),
                threads: &self.threads,
                short: limits.alone || blocks.iter().map(annals_core::Block::count).sum::<u64>() < SHORT_RUN as u64,
            };
            let (reader, last) = (
                &mut self.reader,
                blocks.last().map_or(batch.position, annals_core::Block::last),
            );
            let mut meanwhile = || reader.read_ahead(last, limits.until);
            let ran = self.table.fold_run(&run, &mut meanwhile);
            let ran = ran.map_err(|fault| stop(self.name, fault))?;
            if let Some(recorded) = ran.recorded.filter(|_| batch.events == 0) {
                seen(recorded);
            }
            for (hash, key, position) in ran.noted {
                self.samples.saw(hash, &key, position);
            }
            batch.position = ran.position;
            batch.events += ran.events as u64;
            batch.waiting.extend(ran.waiting);
            batch.decided |= ran.ended;
            left = left.saturating_sub(ran.events);
            let many = self.table.changed() >= limits.rows || self.table.bytes() >= limits.bytes;
            full = many || batch.decided;
            if left == 0 {
                break;
            }
        }
        let position = batch.position;
        self.folded = Some(batch);
        Ok(Folded { position, full })
    }

    fn take_changes(&mut self) -> Result<Vec<Change>, Stop> {
        let alone = Threads::new(1);
        let threads = if self.alone { &alone } else { &*self.threads };
        self.table
            .take_changes(self.row_bytes_max, threads)
            .map_err(|failure| self.unstorable(failure))
    }

    fn unstorable(&self, failure: Failure) -> Stop {
        let projection = self.name.to_owned();
        match failure {
            Failure::Value { ref key, from, .. } => Stop::Row {
                position: from,
                key: key.clone(),
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
pub(crate) fn stop(projection: &str, fault: Fault) -> Stop {
    match fault.failure {
        Failure::Log(error) => Stop::Other(error.into()),
        Failure::Store(StoreError::Damaged(detail)) => Stop::Damaged(detail),
        Failure::Store(error) => Stop::Other(FoldError::Store {
            projection: projection.to_owned(),
            detail: error.to_string(),
        }),
        other => Stop::Event {
            position: fault.position,
            key: fault.key,
            error: FoldError::Event {
                projection: projection.to_owned(),
                position: fault.position,
                event_type: fault.event_type,
                detail: other.to_string(),
            },
        },
    }
}

impl Batch {
    fn at(position: Position) -> Self {
        Self {
            position,
            events: 0,
            changes: Vec::new(),
            samples: Vec::new(),
            waiting: Vec::new(),
            decided: false,
        }
    }
}

/// What the threads that fold ask.
struct Asked<'a> {
    gate: Gate<'a>,
    samples: &'a Samples,
}

impl definition::Gate for Asked<'_> {
    fn event(&self, record: &RecordRef<'_>) -> bool {
        !self.gate.operations.skips().event(record.position)
    }

    fn key(&self, position: Position, key: &str) -> Admitted {
        if self.gate.operations.skips().key(position, key) {
            Admitted::Passed
        } else if self.gate.letters.is_parked(key) {
            Admitted::Waits
        } else {
            Admitted::Folded
        }
    }

    fn ends(&self, record: &RecordRef<'_>) -> bool {
        self.gate.operations.are_in(record.header.stream)
    }

    fn notes(&self, hash: u64) -> bool {
        self.samples.wants(hash)
    }
}

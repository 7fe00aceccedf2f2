//! Folds a batch of events into the states of a reactor and collects the commands that they call for. Writes nothing.

use super::journal::Outgoing;
use crate::definition::{Change, Failure, Reaction, StateTable};
use crate::reader::{LogReader, Take};
use crate::store::RowStore;
use crate::views::{Stop, panic_text, stop};
use crate::{FoldError, ProjectionSettings, ReactorDefinition};
use annals_core::{Catalog, EventLog, Position, RecordRef};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Commands after which a batch ends.
const BATCH_COMMANDS: usize = 1_024;
/// Bytes of commands after which a batch ends.
const BATCH_COMMAND_BYTES: usize = 4 * 1024 * 1024;

/// Events folded together.
pub(crate) struct Batch {
    pub(crate) position: Position,
    pub(crate) events: u64,
    pub(crate) changes: Vec<Change>,
    pub(crate) commands: Vec<Outgoing>,
}

/// Where a batch ends, and whether it reacts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) events: usize,
    pub(crate) states: usize,
    pub(crate) until: Position,
    /// False where only states are folded, because the commands were collected before.
    pub(crate) react: bool,
}

/// The states in memory and where they come from.
pub(crate) struct ReactorFold<'a> {
    name: &'static str,
    catalog: &'a Catalog,
    reader: LogReader<'a>,
    table: Box<dyn StateTable>,
    state_bytes_max: usize,
    table_bytes_max: usize,
}

impl<'a> ReactorFold<'a> {
    pub(crate) fn new(
        log: &'a dyn EventLog,
        catalog: &'a Catalog,
        reactor: &ReactorDefinition,
        settings: &ProjectionSettings,
    ) -> Self {
        Self {
            name: reactor.name(),
            catalog,
            reader: LogReader::new(log, settings.read_bytes),
            table: reactor.table(),
            state_bytes_max: settings.row_bytes_max,
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

    /// Forgets the states in memory: the store did not take the last batch.
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
        let table_bytes_max = self.table_bytes_max.saturating_mul(2);
        let (mut events, mut command_bytes, mut commands) = (0, 0, Vec::new());
        let position = self.reader.read(after, limits.until, |record| {
            if events == 0 {
                seen(record.header.recorded);
            }
            let reactions = react_to(table.as_mut(), catalog, record, store, limits.react)
                .map_err(|failure| stop(name, record, None, failure))?;
            for reaction in reactions {
                command_bytes += reaction.call.body.len();
                let number = commands.last().map_or(1, |last: &Outgoing| {
                    if last.position == record.position {
                        last.number + 1
                    } else {
                        1
                    }
                });
                commands.push(outgoing(record, number, reaction));
            }
            events += 1;
            let full = events >= limits.events
                || table.changed() >= limits.states
                || table.bytes() >= table_bytes_max
                || commands.len() >= BATCH_COMMANDS
                || command_bytes >= BATCH_COMMAND_BYTES;
            Ok::<_, Stop>(if full { Take::Enough } else { Take::More })
        })?;
        let changes = self
            .table
            .take_changes(self.state_bytes_max)
            .map_err(|failure| self.unstorable(&failure))?;
        Ok(Batch {
            position,
            events: events as u64,
            changes,
            commands,
        })
    }

    fn unstorable(&self, failure: &Failure) -> Stop {
        let projection = self.name.to_owned();
        match failure {
            Failure::Value { key, from, .. } => Stop::Event {
                position: *from,
                key: Some(key.clone()),
                error: FoldError::Event {
                    projection,
                    position: *from,
                    event_type: "the last one in this state".into(),
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

fn react_to(
    table: &mut dyn StateTable,
    catalog: &Catalog,
    record: &RecordRef<'_>,
    store: &RowStore,
    react: bool,
) -> Result<Vec<Reaction>, Failure> {
    let mut load = |key: &str| store.row(key);
    let mut reactions = Vec::new();
    let wanted = react.then_some(&mut reactions);
    // A panic may leave the table half changed: it is cleared after any error.
    catch_unwind(AssertUnwindSafe(|| {
        table.apply(catalog, record, &mut |_| true, &mut load, wanted)
    }))
    .unwrap_or_else(|panic| Err(Failure::Code(panic_text(panic.as_ref()))))?;
    Ok(reactions)
}

fn outgoing(record: &RecordRef<'_>, number: u32, reaction: Reaction) -> Outgoing {
    Outgoing {
        position: record.position,
        number,
        key: reaction.key,
        call: reaction.call,
        occurred: record.header.occurred,
        causation: record.header.id.to_string(),
        correlation: record.correlation_id(),
    }
}

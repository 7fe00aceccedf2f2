//! Folds a batch of events into the states of a reactor and collects the commands that they call for. Writes nothing.

use super::journal::Outgoing;
use crate::definition::{Change, Failure, Reaction, SetTimer, StateTable, Wanted};
use crate::definition::{Fault, panic_text};
use crate::failures::Operations;
use crate::reader::{LogReader, Take};
use crate::store::RowStore;
use crate::views::{Stop, stop};
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
    /// Whether it ends with a decision about this reactor, see [`Operations`].
    pub(crate) decided: bool,
}

/// Timers that go off together.
pub(crate) struct GoneOff {
    /// The states without them.
    pub(crate) changes: Vec<Change>,
    /// Each with its key.
    pub(crate) timers: Vec<(String, SetTimer)>,
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
        operations: &Operations,
        seen: &mut dyn FnMut(i64),
    ) -> Result<Batch, Stop> {
        if self.table.bytes() > self.table_bytes_max {
            self.table.clear();
        }
        let folded = self.fold(store, after, limits, operations, seen);
        if folded.is_err() {
            self.table.clear();
        }
        folded
    }

    /// Forgets the states in memory: the store did not take the last batch.
    pub(crate) fn forget(&mut self) {
        self.table.clear();
    }

    /// Takes the timers of these keys that are due first, if that is at `until` or before. `at` is how far the states are.
    pub(crate) fn fire(
        &mut self,
        store: &RowStore,
        keys: &[(i64, String)],
        at: Position,
        until: i64,
    ) -> Result<GoneOff, Stop> {
        let fired = self.take_timers(store, keys, at, until);
        if fired.is_err() {
            self.table.clear();
        }
        fired.map_err(|failure| self.unstorable(&failure))
    }

    fn take_timers(
        &mut self,
        store: &RowStore,
        keys: &[(i64, String)],
        at: Position,
        until: i64,
    ) -> Result<GoneOff, Failure> {
        let mut load = |key: &str| store.row(key);
        let mut fired = Vec::new();
        for (_, key) in keys {
            let timers = self.table.fire(key, at, until, &mut load)?;
            fired.extend(timers.into_iter().map(|timer| (key.clone(), timer)));
        }
        Ok(GoneOff {
            changes: self.table.take_changes(self.state_bytes_max)?,
            timers: fired,
        })
    }

    fn fold(
        &mut self,
        store: &RowStore,
        after: Position,
        limits: Limits,
        operations: &Operations,
        seen: &mut dyn FnMut(i64),
    ) -> Result<Batch, Stop> {
        let (name, catalog, table) = (self.name, self.catalog, &mut self.table);
        let table_bytes_max = self.table_bytes_max.saturating_mul(2);
        let (mut events, mut command_bytes, mut commands) = (0, 0, Vec::new());
        let (mut decided, mut failing) = (false, String::new());
        let skips = operations.skips();
        let position = self.reader.read(after, limits.until, |record| {
            if events == 0 {
                seen(record.header.recorded);
            }
            decided = operations.are_in(record.header.stream);
            failing.clear();
            let mut wanted = |key: &str| {
                failing.clear();
                failing.push_str(key);
                !skips.key(record.position, key)
            };
            let reactions = if skips.event(record.position) {
                Ok(Vec::new())
            } else {
                react_to(table.as_mut(), catalog, record, store, &mut wanted, limits.react)
            };
            let key = || (!failing.is_empty()).then(|| failing.clone());
            for reaction in reactions.map_err(|failure| stop(name, Fault::of(record, key().as_deref(), failure)))? {
                command_bytes += reaction.call.body.len();
                commands.push(outgoing(record, reaction));
            }
            events += 1;
            let full = events >= limits.events
                || table.changed() >= limits.states
                || table.bytes() >= table_bytes_max
                || commands.len() >= BATCH_COMMANDS
                || command_bytes >= BATCH_COMMAND_BYTES;
            Ok::<_, Stop>(if full || decided { Take::Enough } else { Take::More })
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
            decided,
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
    wanted_keys: &mut Wanted<'_>,
    react: bool,
) -> Result<Vec<Reaction>, Failure> {
    let mut load = |key: &str| store.row(key);
    let mut reactions = Vec::new();
    let wanted = react.then_some(&mut reactions);
    // A panic may leave the table half changed: it is cleared after any error.
    catch_unwind(AssertUnwindSafe(|| {
        table.apply(catalog, record, wanted_keys, &mut load, wanted)
    }))
    .unwrap_or_else(|panic| Err(Failure::Code(panic_text(panic.as_ref()))))?;
    Ok(reactions)
}

fn outgoing(record: &RecordRef<'_>, reaction: Reaction) -> Outgoing {
    Outgoing {
        position: record.position,
        number: reaction.number,
        key: reaction.key,
        call: reaction.call,
        occurred: record.header.occurred,
        causation: record.header.id.to_string(),
        correlation: record.correlation_id(),
    }
}

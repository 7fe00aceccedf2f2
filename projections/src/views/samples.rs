//! A sample of a view's rows is folded anew from the log when the view starts: code that was changed without a new
//! VERSION makes something else of them.
//!
//! The rows with the lowest hashes are sampled. A row that is among them has been since its first event, because the
//! bound only ever falls: so the positions of all its events are known, without looking anything up.

use crate::ViewDefinition;
use crate::definition::panic_text;
use crate::store::{RowStore, Sample, SampleChange, StoreError};
use crate::threads::Threads;
use annals_core::{Catalog, EventLog, LogError, Position};
use serde_json::Value;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Rows that are sampled: more than are folded anew, because some have too many events.
const SAMPLES: usize = 32;
/// Rows that are folded anew at a start, and how long that may take.
const CHECKED: usize = 16;
const CHECK_TIME: Duration = Duration::from_secs(1);
/// Events of a sampled row that are kept.
const POSITIONS_MAX: usize = 128;

/// The sampled rows of one store, as it is folded on.
pub(super) struct Samples {
    /// Not in a store whose first rows were not sampled.
    on: bool,
    kept: BTreeMap<u64, Sample>,
    /// As they stand in the store.
    written: BTreeMap<u64, Sample>,
}

impl Samples {
    /// Those of a store that has read up to `position`.
    pub(super) fn load(store: &RowStore, position: Position) -> Result<Self, StoreError> {
        let kept = store.samples()?;
        Ok(Self {
            on: position == Position::ZERO || !kept.is_empty(),
            written: kept.clone(),
            kept,
        })
    }

    /// Whether events of a row with this hash are wanted.
    pub(super) fn wants(&self, hash: u64) -> bool {
        let highest = self.kept.last_key_value().map_or(u64::MAX, |(highest, _)| *highest);
        self.on && (self.kept.len() < SAMPLES || hash <= highest)
    }

    /// An event is folded into a row. Those of one row are told in the order of the log.
    pub(super) fn saw(&mut self, hash: u64, key: &str, position: Position) {
        if !self.wants(hash) {
            return;
        }
        let sample = self.kept.entry(hash).or_insert_with(|| Sample {
            key: key.to_owned(),
            positions: Vec::new(),
            too_many: false,
        });
        if sample.key != key || sample.positions.len() == POSITIONS_MAX {
            sample.too_many = true;
            sample.positions.clear();
        }
        // An event may be routed to a row twice; folding it anew does that by itself.
        if !sample.too_many && sample.positions.last() != Some(&position) {
            sample.positions.push(position);
        }
        if self.kept.len() > SAMPLES {
            self.kept.pop_last();
        }
    }

    /// What was folded last is not written.
    pub(super) fn forget(&mut self) {
        self.kept.clone_from(&self.written);
    }

    /// What is to be written with the rows.
    pub(super) fn take_changes(&mut self) -> Vec<SampleChange> {
        let other = |(hash, sample): &(&u64, &Sample)| self.written.get(hash) != Some(sample);
        let put = self.kept.iter().filter(other);
        let put = put.map(|(hash, sample)| SampleChange::Put(*hash, sample.clone()));
        let gone = self.written.keys().filter(|hash| !self.kept.contains_key(hash));
        let changes: Vec<SampleChange> = put.chain(gone.map(|hash| SampleChange::Remove(*hash))).collect();
        if !changes.is_empty() {
            self.written.clone_from(&self.kept);
        }
        changes
    }
}

/// Folds sampled rows anew. The first one that does not come out as it is stored, and why that must not be.
pub(super) fn changed_code(
    log: &dyn EventLog,
    catalog: &Catalog,
    view: &ViewDefinition,
    store: &RowStore,
) -> Result<Option<String>, StoreError> {
    let begun = Instant::now();
    let samples = store.samples()?;
    for sample in samples.values().filter(|sample| !sample.too_many).take(CHECKED) {
        if begun.elapsed() > CHECK_TIME {
            break;
        }
        let now = match folded_anew(log, catalog, view, sample) {
            Ok(now) => now,
            // A log that cannot be read is no reason to doubt the code; whoever follows it says what is wrong.
            Err(Anew::Log) => break,
            Err(Anew::Code(error)) => return Ok(Some(different(view, &sample.key, &format!("fails: {error}")))),
        };
        let stored = store.row(&sample.key)?.map(|stored| stored.row);
        if !same(stored.as_deref(), now.as_deref()) {
            return Ok(Some(different(view, &sample.key, "makes something else of it")));
        }
    }
    Ok(None)
}

fn different(view: &ViewDefinition, key: &str, how: &str) -> String {
    let (name, version) = (view.name(), view.version());
    format!(
        "the code of view {name} changed, but not its version {version}: folded anew, row {key:?} {how}. Raise VERSION to \
         {}, or see what differs with `annals rebuild {name} --compare --no-swap` and swap it in",
        version + 1
    )
}

enum Anew {
    Log,
    Code(String),
}

impl From<LogError> for Anew {
    fn from(_: LogError) -> Self {
        Self::Log
    }
}

fn folded_anew(
    log: &dyn EventLog,
    catalog: &Catalog,
    view: &ViewDefinition,
    sample: &Sample,
) -> Result<Option<Vec<u8>>, Anew> {
    let mut table = view.table(1);
    for position in &sample.positions {
        let record = log.read_one(*position)?.ok_or(Anew::Log)?;
        let record = record.view().map_err(LogError::from)?;
        let mut only = |key: &str| key == sample.key;
        let folded = catch_unwind(AssertUnwindSafe(|| {
            table.apply(catalog, &record, &mut only, &mut |_| Ok(None))
        }));
        match folded {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => return Err(Anew::Code(failure.to_string())),
            Err(panic) => return Err(Anew::Code(panic_text(panic.as_ref()))),
        }
    }
    let changes = table.take_changes(usize::MAX, &Threads::new(1));
    let changes = changes.map_err(|failure| Anew::Code(failure.to_string()))?;
    let row = changes.into_iter().find(|change| change.key.as_str() == sample.key);
    Ok(row.and_then(|change| change.value))
}

/// The same bytes, or the same values: a map without an order may be encoded in any.
fn same(stored: Option<&[u8]>, now: Option<&[u8]>) -> bool {
    let value = |row| rmp_serde::from_slice::<Value>(row).ok();
    match (stored, now) {
        (Some(stored), Some(now)) => stored == now || value(stored).is_some_and(|stored| value(now) == Some(stored)),
        (None, None) => true,
        _ => false,
    }
}

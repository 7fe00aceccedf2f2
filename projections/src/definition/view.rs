//! A view without its Rust type.

use super::change::Change;
use super::run::{Fault, Ran, Run, Spare, fold_into, fold_run, key_hash, part_of};
use super::table::{Failure, Load, Table, Wanted};
use crate::threads::Threads;
use annals_core::{Catalog, FailurePolicy, History, IndexKind, IndexValue, RecordRef, Row, View};
use std::fmt;
use std::sync::Arc;

/// Rows from which on several threads encode them.
const MANY_ROWS: usize = 1_024;

/// What is known of a view: its name, version and indexes, and how it folds.
#[derive(Clone)]
pub struct ViewDefinition {
    name: &'static str,
    version: u32,
    indexes: &'static [(&'static str, IndexKind)],
    fingerprint: Arc<str>,
    on_failure: FailurePolicy,
    history: History,
    view: Arc<dyn AnyView>,
}

impl ViewDefinition {
    /// The definition of a view.
    pub fn of<V: View>(view: V) -> Self {
        let indexes = V::Row::INDEXES;
        let index_text: String = indexes.iter().map(|(name, kind)| format!("{name}:{kind:?},")).collect();
        Self {
            name: V::NAME,
            version: V::VERSION,
            indexes,
            fingerprint: super::fingerprint(&[V::NAME, &V::VERSION.to_string(), V::Row::SCHEMA, &index_text]).into(),
            on_failure: V::ON_FAILURE,
            history: V::HISTORY,
            view: Arc::new(TypedView { view: Arc::new(view) }),
        }
    }

    /// The same view, which keeps what its rows were, or does not, whatever its code says.
    #[must_use]
    pub fn with_history(mut self, history: History) -> Self {
        self.history = history;
        self
    }

    /// Its name in paths.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its version: another one means other rows.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Names and kinds of its indexes.
    pub fn indexes(&self) -> &'static [(&'static str, IndexKind)] {
        self.indexes
    }

    /// Changes with name, version, row schema and indexes.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// What becomes of an event that it cannot fold, unless a setting says otherwise.
    pub fn on_failure(&self) -> FailurePolicy {
        self.on_failure
    }

    /// Whether it keeps what its rows were.
    pub fn keeps_history(&self) -> bool {
        self.history == History::Kept
    }

    /// An empty table to fold events into, which hands out what rows were if the view keeps it; in so many parts, each of
    /// which a thread of its own can fold.
    pub(crate) fn table(&self, parts: usize) -> Box<dyn RowTable> {
        self.view.table(self.keeps_history(), parts)
    }

    /// An empty table that hands out the rows as they are in the end.
    pub(crate) fn table_of_last_rows(&self) -> Box<dyn RowTable> {
        self.view.table(false, 1)
    }

    /// Index values of an encoded row.
    pub(crate) fn index_values(&self, row: &[u8]) -> Result<Vec<Option<IndexValue>>, String> {
        self.view.index_values(row)
    }
}

impl fmt::Debug for ViewDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ViewDefinition")
            .field("name", &self.name)
            .field("version", &self.version)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// Rows of a view in memory, between two writes.
pub(crate) trait RowTable: Send {
    /// Folds an event into the rows it is routed to, of these only the ones whose key `wanted` takes. After an error the
    /// table is worthless: clear it. The key that `wanted` took last is then the one that failed; none if it was not asked.
    fn apply(
        &mut self,
        catalog: &Catalog,
        record: &RecordRef<'_>,
        wanted: &mut Wanted<'_>,
        load: &mut Load<'_>,
    ) -> Result<(), Failure>;

    /// Folds a run of events, with several threads. `meanwhile` is called while they are at it. After a fault the table is
    /// worthless: clear it.
    fn fold_run(&mut self, run: &Run<'_>, meanwhile: &mut dyn FnMut()) -> Result<Ran, Fault>;

    /// How many rows changed since the last [`RowTable::take_changes`].
    fn changed(&self) -> usize;

    /// How many bytes the rows in memory have, about.
    fn bytes(&self) -> usize;

    /// The rows that changed, in the order of their keys.
    fn take_changes(&mut self, row_bytes_max: usize, threads: &Threads) -> Result<Vec<Change>, Failure>;

    /// Forgets rows that were not changed for long, until the others have at most so many bytes.
    fn shrink_to(&mut self, bytes: usize);

    /// Forgets all rows.
    fn clear(&mut self);
}

trait AnyView: Send + Sync {
    fn table(&self, history: bool, parts: usize) -> Box<dyn RowTable>;
    fn index_values(&self, row: &[u8]) -> Result<Vec<Option<IndexValue>>, String>;
}

struct TypedView<V> {
    view: Arc<V>,
}

impl<V: View> AnyView for TypedView<V> {
    fn table(&self, history: bool, parts: usize) -> Box<dyn RowTable> {
        Box::new(TypedTable {
            view: Arc::clone(&self.view),
            parts: (0..parts.max(1))
                .map(|_| Table::new(V::Row::index_values, history))
                .collect(),
            spare: Vec::new(),
        })
    }

    fn index_values(&self, row: &[u8]) -> Result<Vec<Option<IndexValue>>, String> {
        let row: V::Row = rmp_serde::from_slice(row).map_err(|error| error.to_string())?;
        Ok(row.index_values())
    }
}

struct TypedTable<V: View> {
    view: Arc<V>,
    /// Rows by the hash of their keys.
    parts: Vec<Table<V::Row>>,
    spare: Vec<Spare<V::Event>>,
}

impl<V: View> RowTable for TypedTable<V> {
    fn apply(
        &mut self,
        catalog: &Catalog,
        record: &RecordRef<'_>,
        wanted: &mut Wanted<'_>,
        load: &mut Load<'_>,
    ) -> Result<(), Failure> {
        let Some(event) = catalog.decode::<V::Event>(record)? else {
            return Ok(());
        };
        for key in self.view.route(&event) {
            if !wanted(key.as_str()) {
                continue;
            }
            let part = part_of(key_hash(key.as_str()), self.parts.len());
            fold_into(&*self.view, &mut self.parts[part], &key, &event, load)?;
        }
        Ok(())
    }

    fn fold_run(&mut self, run: &Run<'_>, meanwhile: &mut dyn FnMut()) -> Result<Ran, Fault> {
        fold_run(&*self.view, &mut self.parts, &mut self.spare, run, meanwhile)
    }

    fn changed(&self) -> usize {
        self.parts.iter().map(Table::changed).sum()
    }

    fn bytes(&self) -> usize {
        self.parts.iter().map(Table::bytes).sum()
    }

    fn take_changes(&mut self, row_bytes_max: usize, threads: &Threads) -> Result<Vec<Change>, Failure> {
        let alone = Threads::new(1);
        let threads = if self.changed() < MANY_ROWS { &alone } else { threads };
        let work = self.parts.iter_mut().collect();
        let taken = threads.each(work, |part: &mut Table<V::Row>| part.take_changes(row_bytes_max), || {});
        let mut changes = Vec::new();
        // Of several rows that cannot be stored, the one with the first key is told, in however many parts they are.
        let mut failed: Option<Failure> = None;
        for part in taken {
            match part {
                Ok(part) => changes.extend(part),
                Err(failure) if failed.as_ref().is_none_or(|other| failure.key() < other.key()) => {
                    failed = Some(failure);
                }
                Err(_) => {}
            }
        }
        if let Some(failure) = failed {
            return Err(failure);
        }
        // Each part is in order: joining them takes few steps.
        changes.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(changes)
    }

    fn shrink_to(&mut self, bytes: usize) {
        let share = bytes / self.parts.len();
        self.parts.iter_mut().for_each(|part| part.shrink_to(share));
    }

    fn clear(&mut self) {
        self.parts.iter_mut().for_each(Table::clear);
    }
}

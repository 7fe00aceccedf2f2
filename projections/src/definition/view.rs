//! A view without its Rust type.

use super::change::Change;
use super::table::{Failure, Load, Table, Wanted};
use annals_core::{Catalog, FailurePolicy, History, IndexKind, IndexValue, Position, RecordRef, Row, View};
use std::fmt;
use std::sync::Arc;

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

    /// An empty table to fold events into, which hands out what rows were if the view keeps it.
    pub(crate) fn table(&self) -> Box<dyn RowTable> {
        self.view.table(self.keeps_history())
    }

    /// An empty table that hands out the rows as they are in the end.
    pub(crate) fn table_of_last_rows(&self) -> Box<dyn RowTable> {
        self.view.table(false)
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

    /// How many rows changed since the last [`RowTable::take_changes`].
    fn changed(&self) -> usize;

    /// How many bytes the rows in memory have, about.
    fn bytes(&self) -> usize;

    /// The rows that changed, in the order of their keys.
    fn take_changes(&mut self, row_bytes_max: usize) -> Result<Vec<Change>, Failure>;

    /// Forgets all rows.
    fn clear(&mut self);
}

trait AnyView: Send + Sync {
    fn table(&self, history: bool) -> Box<dyn RowTable>;
    fn index_values(&self, row: &[u8]) -> Result<Vec<Option<IndexValue>>, String>;
}

struct TypedView<V> {
    view: Arc<V>,
}

impl<V: View> AnyView for TypedView<V> {
    fn table(&self, history: bool) -> Box<dyn RowTable> {
        Box::new(TypedTable {
            view: Arc::clone(&self.view),
            rows: Table::new(V::Row::index_values, history),
        })
    }

    fn index_values(&self, row: &[u8]) -> Result<Vec<Option<IndexValue>>, String> {
        let row: V::Row = rmp_serde::from_slice(row).map_err(|error| error.to_string())?;
        Ok(row.index_values())
    }
}

struct TypedTable<V: View> {
    view: Arc<V>,
    rows: Table<V::Row>,
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
        let position: Position = record.position;
        for key in self.view.route(&event) {
            if !wanted(key.as_str()) {
                continue;
            }
            self.rows.change(&key, position, load, |key, row| {
                *row = self.view.fold(key, row.take(), &event);
            })?;
        }
        Ok(())
    }

    fn changed(&self) -> usize {
        self.rows.changed()
    }

    fn bytes(&self) -> usize {
        self.rows.bytes()
    }

    fn take_changes(&mut self, row_bytes_max: usize) -> Result<Vec<Change>, Failure> {
        self.rows.take_changes(row_bytes_max)
    }

    fn clear(&mut self) {
        self.rows.clear();
    }
}

//! Rows, index entries and the checkpoint in a store: what is written together, and what is read of one moment.

use super::in_use::Moment;
use super::layout::{
    all_rows, checkpoint_key, index_key, past_index_key, past_row_key, position, position_value, read_index_key,
    read_row_key, read_row_value, row_key, row_value,
};
use super::lsm::LsmStore;
use super::pool::Pool;
use super::{Batch, Bytes, KeyRange, Scan, StoreError, Visit, sorted};
use crate::definition::{Change, IndexAdded};
use annals_core::{Epoch, Position};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Format of checkpoints, rows and index entries.
pub(crate) const STORE_FORMAT: u32 = 3;

/// Changes that are worth a thread of their own.
const SHARE_MIN: usize = 1_024;

/// How far a store is, and whose it is. Written in one batch with what it speaks of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    pub(crate) format: u32,
    pub(crate) epoch: Epoch,
    pub(crate) position: Position,
    /// Of the view or reactor that wrote it.
    pub(crate) fingerprint: String,
    pub(crate) rows: u64,
    /// With history: the first position that can be asked for. Before it versions may be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) history: Option<Position>,
    /// Of a reactor: which outbox, and its last entry when this was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) outbox: Option<OutboxMark>,
}

/// A place in an outbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OutboxMark {
    pub(crate) id: String,
    pub(crate) sequence: u64,
}

/// A row as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredRow {
    /// The last event that was folded into it.
    pub(crate) from: Position,
    pub(crate) row: Bytes,
}

/// Is handed a row's key and the row.
pub(crate) type VisitRow<'a> = dyn FnMut(&str, StoredRow) -> Result<Scan, StoreError> + 'a;

/// Is handed an index entry's whole key, the value in it and the row's key.
pub(crate) type VisitEntry<'a> = dyn FnMut(&[u8], &[u8], &str) -> Result<Scan, StoreError> + 'a;

/// See the module. Written by one thread at a time. When it is dropped, nothing more is spilled: who wants to keep what
/// was written last calls [`RowStore::sync`] first.
pub(crate) struct RowStore {
    pool: Arc<Pool>,
    store: Arc<LsmStore>,
    /// The first position that can be asked for.
    horizon: AtomicU64,
}

impl RowStore {
    pub(super) fn new(pool: Arc<Pool>, store: Arc<LsmStore>) -> Self {
        Self {
            pool,
            store,
            horizon: AtomicU64::new(0),
        }
    }

    /// Says where the last batch of a store that was opened ends.
    pub(super) fn stands_at(&self, checkpoint: &Checkpoint) {
        self.store.stands_at(checkpoint.position);
        self.note_horizon(checkpoint);
    }

    fn note_horizon(&self, checkpoint: &Checkpoint) {
        let horizon = checkpoint.history.unwrap_or(Position::ZERO);
        self.horizon.store(horizon.get(), Ordering::Relaxed);
    }

    /// With history: the first position that can be asked for; versions that ended before it may be gone.
    pub(crate) fn horizon(&self) -> Position {
        Position::new(self.horizon.load(Ordering::Relaxed))
    }

    /// How far the store is; `None` if nothing was ever written.
    pub(crate) fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        let Some(value) = self.store.get_newest(&checkpoint_key())? else {
            return Ok(None);
        };
        rmp_serde::from_slice(&value)
            .map(Some)
            .map_err(|error| StoreError::Damaged(format!("the checkpoint cannot be read: {error}")))
    }

    /// Reads what was written up to now, and nothing of what is written later.
    pub(crate) fn reader(&self) -> RowReader<'_> {
        RowReader {
            moment: self.store.in_use().acquire(),
            store: &self.store,
        }
    }

    /// The row as it was written last.
    pub(crate) fn row(&self, key: &str) -> Result<Option<StoredRow>, StoreError> {
        match self.store.get_newest(&row_key(key))? {
            Some(value) => stored_row(&value).map(Some),
            None => Ok(None),
        }
    }

    /// Writes changes and the checkpoint, all or none. A kill may undo this and what was written after it, until
    /// [`RowStore::sync`] has returned.
    pub(crate) fn commit(&self, changes: &[Change], checkpoint: &Checkpoint) -> Result<(), StoreError> {
        self.commit_stored(changes, checkpoint, Batch::default())
    }

    /// The same, with whatever else is in the batch.
    pub(super) fn commit_stored(
        &self,
        changes: &[Change],
        checkpoint: &Checkpoint,
        mut batch: Batch,
    ) -> Result<(), StoreError> {
        let threads = self.pool.threads();
        let horizon = checkpoint.history.unwrap_or(Position::ZERO);
        let share = changes.len().div_ceil(threads.count()).max(SHARE_MIN);
        let encode = |changes: &[Change]| {
            let mut batch = Batch::default();
            changes
                .iter()
                .try_for_each(|change| self.write_change(change, horizon, &mut batch))?;
            Ok(batch)
        };
        let batches = threads.each(changes.chunks(share).collect(), encode, || {});
        let mut batches = batches.into_iter().collect::<Result<Vec<Batch>, StoreError>>()?;
        let value = rmp_serde::to_vec_named(checkpoint)
            .map_err(|error| StoreError::Failed(format!("the checkpoint cannot be encoded: {error}")))?;
        batch.put(checkpoint_key(), value);
        // Before it is written: who reads the new rows finds the new bound.
        self.note_horizon(checkpoint);
        match batches.first_mut() {
            Some(first) => first.changes.append(&mut batch.changes),
            None => batches.push(batch),
        }
        if batches.iter().map(Batch::bytes).sum::<u64>() >= self.pool.bytes_max() {
            let batches = sorted(batches, threads);
            return self.pool.commit_sorted(&self.store, batches, checkpoint.position);
        }
        self.pool.commit(&self.store, batches, checkpoint.position)
    }

    /// What ended at the horizon or before is not kept.
    fn write_change(&self, change: &Change, horizon: Position, batch: &mut Batch) -> Result<(), StoreError> {
        let key = change.key.as_str();
        for past in change.index_past.iter().filter(|past| past.to > horizon) {
            let (index, value) = &past.entry;
            let from = match past.since {
                Some(since) => since,
                None => self.stands_since(*index, value, key)?,
            };
            batch.put(past_index_key(*index, value, key, from), position_value(past.to));
        }
        for version in change.replaced.iter().filter(|version| version.to > horizon) {
            let value = row_value(version.to, &version.value);
            batch.put(past_row_key(key, version.from), value);
        }
        for (index, value) in &change.index_removed {
            batch.remove(index_key(*index, value, key));
        }
        match (&change.value, change.old_len) {
            (Some(row), _) => batch.put(row_key(key), row_value(change.from, row)),
            (None, Some(_)) => batch.remove(row_key(key)),
            (None, None) => {}
        }
        for IndexAdded { entry, since } in &change.index_added {
            let (index, value) = entry;
            batch.put(
                index_key(*index, value, key),
                since.map(position_value).unwrap_or_default(),
            );
        }
        Ok(())
    }

    /// Since when a stored index entry stands.
    fn stands_since(&self, index: u16, value: &[u8], key: &str) -> Result<Position, StoreError> {
        let since = self.store.get_newest(&index_key(index, value, key))?;
        since
            .and_then(|since| position(&since))
            .ok_or_else(|| StoreError::Damaged(format!("an index entry of row {key:?} is missing")))
    }

    /// Puts a row in the place of another, without its index entries and past, and returns when it is on the disk. For
    /// suites that want a store to lie.
    pub(crate) fn put_unchecked(&self, key: &str, row: &StoredRow) -> Result<(), StoreError> {
        let Some(checkpoint) = self.checkpoint()? else {
            return Err(StoreError::Damaged("it has no checkpoint".into()));
        };
        let mut batch = Batch::default();
        batch.put(row_key(key), row_value(row.from, &row.row));
        self.commit_stored(&[], &checkpoint, batch)?;
        self.sync()
    }

    /// Returns when everything that was written is on the disk.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.store.spill()
    }

    #[cfg(test)]
    pub(super) fn engine(&self) -> &LsmStore {
        &self.store
    }
}

impl Drop for RowStore {
    fn drop(&mut self) {
        self.store.close();
    }
}

/// Rows and index entries of one moment, whatever is written meanwhile.
pub(crate) struct RowReader<'a> {
    pub(super) store: &'a LsmStore,
    pub(super) moment: Moment,
}

impl RowReader<'_> {
    /// The position of the last event in what is read.
    pub(crate) fn position(&self) -> Position {
        self.moment.position()
    }

    pub(crate) fn row(&self, key: &str) -> Result<Option<StoredRow>, StoreError> {
        match self.store.get(&row_key(key), self.moment.end())? {
            Some(value) => stored_row(&value).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.store.get(key, self.moment.end())
    }

    pub(crate) fn scan(&self, range: KeyRange, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.store.scan(range, self.moment.end(), false, visit)
    }

    /// Hands rows to `visit`, in the order of their keys or backwards.
    pub(crate) fn scan_rows(
        &self,
        range: KeyRange,
        backwards: bool,
        visit: &mut VisitRow<'_>,
    ) -> Result<(), StoreError> {
        self.store.scan(range, self.moment.end(), backwards, &mut |key, value| {
            let key = read_row_key(key).ok_or_else(|| StoreError::Damaged("a key that is no row's".into()))?;
            visit(&key, stored_row(value)?)
        })
    }

    /// Hands all rows to `visit`, in the order of their keys.
    pub(crate) fn each_row(&self, visit: &mut VisitRow<'_>) -> Result<(), StoreError> {
        self.scan_rows(all_rows(), false, visit)
    }

    /// Hands index entries to `visit`: the entry's whole key, the value in it, the row's key.
    pub(crate) fn scan_index(
        &self,
        range: KeyRange,
        backwards: bool,
        visit: &mut VisitEntry<'_>,
    ) -> Result<(), StoreError> {
        let end = self.moment.end();
        self.store
            .scan(range, end, backwards, &mut |entry, _| match read_index_key(entry) {
                Some((value, key)) => visit(entry, value, key),
                None => Err(StoreError::Damaged("a key that is no index entry's".into())),
            })
    }
}

impl Drop for RowReader<'_> {
    fn drop(&mut self) {
        self.store.in_use().release(self.moment);
    }
}

pub(super) fn stored_row(value: &[u8]) -> Result<StoredRow, StoreError> {
    let (from, row) = read_row_value(value)?;
    Ok(StoredRow {
        from,
        row: row.to_vec(),
    })
}

/// How the number of rows changes.
pub(crate) fn count_rows(rows: u64, changes: &[Change]) -> u64 {
    changes
        .iter()
        .fold(rows, |rows, change| match (change.old_len, &change.value) {
            (None, Some(_)) => rows + 1,
            (Some(_), None) => rows.saturating_sub(1),
            _ => rows,
        })
}

//! Rows, index entries and the checkpoint in a store: what is written together, and what can be trusted of what is read.

use super::layout::{
    all_rows, checkpoint_key, chunk_count, chunk_key, index_key, read_chunk, read_chunk_key, read_index_key,
    row_chunks, seal, unseal,
};
use super::{Batch, Bytes, KeyRange, Scan, Store, StoreError};
use crate::definition::Change;
use annals_core::{Epoch, Position};
use serde::{Deserialize, Serialize};

/// Format of checkpoints, rows and index entries.
pub(crate) const STORE_FORMAT: u32 = 1;
/// How often a row of several chunks is read again when it was replaced meanwhile.
const TORN_READS_MAX: usize = 100;
/// Changes in one atomic batch of a build: it holds the process-wide lock for about a millisecond.
const BUILD_BATCH_CHANGES: usize = 256;
const BUILD_BATCH_BYTES: usize = 256 * 1024;

/// How far a store is, and whose it is. Written in one batch with what it speaks of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    pub(crate) format: u32,
    pub(crate) epoch: Epoch,
    pub(crate) position: Position,
    /// Of the view or reactor that wrote it.
    pub(crate) fingerprint: String,
    pub(crate) rows: u64,
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

/// Is handed a row's key, and the row or why it cannot be trusted.
pub(crate) type VisitRow<'a> = dyn FnMut(&str, &Result<StoredRow, StoreError>) -> Result<Scan, StoreError> + 'a;

/// Is handed an index entry's whole key, the value in it and the row's key.
pub(crate) type VisitEntry<'a> = dyn FnMut(&[u8], &[u8], &str) -> Result<Scan, StoreError> + 'a;

/// What one chunk's read came to.
enum Assembled {
    Row(StoredRow),
    Missing,
    /// The row was replaced between two reads.
    Torn,
}

/// See the module.
pub(crate) struct RowStore {
    store: Box<dyn Store>,
}

impl RowStore {
    pub(crate) fn new(store: Box<dyn Store>) -> Self {
        Self { store }
    }

    pub(super) fn stored(&self) -> &dyn Store {
        &*self.store
    }

    /// How far the store is; `None` if nothing was ever written.
    pub(crate) fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        let key = checkpoint_key();
        let Some(value) = self.store.get(&key)? else {
            return Ok(None);
        };
        rmp_serde::from_slice(unseal(&key, &value)?)
            .map(Some)
            .map_err(|error| StoreError::Damaged(format!("the checkpoint cannot be read: {error}")))
    }

    pub(crate) fn row(&self, key: &str) -> Result<Option<StoredRow>, StoreError> {
        for _ in 0..TORN_READS_MAX {
            match self.assemble(key)? {
                Assembled::Row(row) => return Ok(Some(row)),
                Assembled::Missing => return Ok(None),
                Assembled::Torn => {}
            }
        }
        Err(StoreError::Damaged("parts of the row are missing".into()))
    }

    fn assemble(&self, key: &str) -> Result<Assembled, StoreError> {
        let first_key = chunk_key(key, 0);
        let Some(value) = self.store.get(&first_key)? else {
            return Ok(Assembled::Missing);
        };
        let first = read_chunk(&first_key, &value)?;
        let mut row = first.part.to_vec();
        for number in 1..chunk_count(first.row_len) {
            let chunk_key = chunk_key(key, number);
            let Some(value) = self.store.get(&chunk_key)? else {
                return Ok(Assembled::Torn);
            };
            let chunk = read_chunk(&chunk_key, &value)?;
            if (chunk.from, chunk.row_len) != (first.from, first.row_len) {
                return Ok(Assembled::Torn);
            }
            row.extend_from_slice(chunk.part);
        }
        if row.len() != first.row_len {
            return Err(StoreError::Damaged("the row is shorter than it was written".into()));
        }
        Ok(Assembled::Row(StoredRow { from: first.from, row }))
    }

    /// Hands rows to `visit`, in the order of their keys or backwards. With a cursor (the row's first chunk's key) only
    /// those after it.
    pub(crate) fn scan_rows(
        &self,
        range: KeyRange,
        backwards: bool,
        visit: &mut VisitRow<'_>,
    ) -> Result<(), StoreError> {
        self.store.scan(range, backwards, &mut |chunk_key, value| {
            let Some((key, number)) = read_chunk_key(chunk_key) else {
                return Err(StoreError::Damaged("a key that is no row's".into()));
            };
            if number != 0 {
                return Ok(Scan::Go);
            }
            let row = match read_chunk(chunk_key, value) {
                Ok(chunk) if chunk.row_len == chunk.part.len() => Ok(StoredRow {
                    from: chunk.from,
                    row: chunk.part.to_vec(),
                }),
                Ok(_) => match self.row(&key) {
                    Ok(Some(row)) => Ok(row),
                    Ok(None) => return Ok(Scan::Go),
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            visit(&key, &row)
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
        self.store
            .scan(range, backwards, &mut |entry, _| match read_index_key(entry) {
                Some((value, key)) => visit(entry, value, key),
                None => Err(StoreError::Damaged("a key that is no index entry's".into())),
            })
    }

    /// Writes changes and the checkpoint, all or none.
    pub(crate) fn commit(&self, changes: &[Change], checkpoint: &Checkpoint) -> Result<(), StoreError> {
        self.commit_stored(changes, checkpoint, Batch::default())
    }

    /// Writes changes, the checkpoint and whatever else is in the batch, all or none.
    pub(super) fn commit_stored(
        &self,
        changes: &[Change],
        checkpoint: &Checkpoint,
        mut batch: Batch,
    ) -> Result<(), StoreError> {
        for change in changes {
            write_change(change, &mut batch);
        }
        write_checkpoint(checkpoint, &mut batch)?;
        self.store.apply(batch)
    }

    /// Writes changes to a store that nobody reads yet, in several small batches.
    pub(crate) fn write(&self, changes: &[Change]) -> Result<(), StoreError> {
        let (mut batch, mut bytes) = (Batch::default(), 0);
        for change in changes {
            bytes += change.value.as_ref().map_or(0, Vec::len);
            write_change(change, &mut batch);
            if batch.changes.len() >= BUILD_BATCH_CHANGES || bytes >= BUILD_BATCH_BYTES {
                self.store.apply(std::mem::take(&mut batch))?;
                bytes = 0;
            }
        }
        self.store.apply(batch)
    }

    /// Returns when everything is on the disk.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.store.sync()
    }
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

fn write_checkpoint(checkpoint: &Checkpoint, batch: &mut Batch) -> Result<(), StoreError> {
    let key = checkpoint_key();
    let body = rmp_serde::to_vec_named(checkpoint)
        .map_err(|error| StoreError::Failed(format!("the checkpoint cannot be encoded: {error}")))?;
    let value = seal(&key, &body);
    batch.put(key, value);
    Ok(())
}

fn write_change(change: &Change, batch: &mut Batch) {
    let key = change.key.as_str();
    for (index, value) in &change.index_removed {
        batch.remove(index_key(*index, value, key));
    }
    let mut chunks = 0;
    if let Some(row) = &change.value {
        for (chunk_key, value) in row_chunks(key, change.from, row) {
            batch.put(chunk_key, value);
            chunks += 1;
        }
    }
    let old_chunks = change.old_len.map_or(0, chunk_count);
    for number in chunks..old_chunks {
        batch.remove(chunk_key(key, number));
    }
    for (index, value) in &change.index_added {
        batch.put(index_key(*index, value, key), Vec::new());
    }
}

//! Where rows and states are kept: ordered keys and values in versions, written atomically, each batch at a place in the
//! log. What the keys and values mean is said in `layout`; how much of it can be trusted, too.

mod files;
mod in_use;
pub(crate) mod layout;
mod letters;
mod lsm;
mod past;
mod pool;
mod rows;
mod samples;
#[cfg(test)]
mod tests;

pub(crate) use letters::{Letter, LetterChange};
pub(crate) use past::{Scanned, Version};
pub(crate) use pool::Stores;
pub(crate) use rows::{Checkpoint, OutboxMark, RowReader, RowStore, STORE_FORMAT, StoredRow, count_rows};
pub(crate) use samples::{Sample, SampleChange, Written};

use crate::threads::Threads;
use std::ops::Bound;

/// A key or value that is read.
pub(crate) type Bytes = Vec<u8>;

/// Why a store did not do what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// What is stored is not what was written.
    #[error("{0}")]
    Damaged(String),
    /// Another process has it open.
    #[error("{0} is in use by another process: stop the server first")]
    InUse(String),
    /// The storage failed.
    #[error("{0}")]
    Failed(String),
}

/// Changes that are written all or none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batch {
    /// Key, and its value or that it is removed. Of several changes to one key the last one counts.
    pub(crate) changes: Vec<(Bytes, Option<Bytes>)>,
}

impl Batch {
    pub(crate) fn put(&mut self, key: Bytes, value: Bytes) {
        self.changes.push((key, Some(value)));
    }

    pub(crate) fn remove(&mut self, key: Bytes) {
        self.changes.push((key, None));
    }

    /// Bytes of keys and values.
    fn bytes(&self) -> u64 {
        let bytes = |(key, value): &(Bytes, Option<Bytes>)| key.len() + value.as_ref().map_or(0, Vec::len);
        self.changes.iter().map(bytes).sum::<usize>() as u64
    }
}

/// One batch out of several, in as many that are sorted, each below the next. Of several changes to one key, which are in
/// the same batch, the last one is left.
fn sorted(batches: Vec<Batch>, threads: &Threads) -> Vec<Batch> {
    let parts = batches.len();
    let sort = |mut batch: Batch| {
        // Numbers are compared faster than keys, and are in the same order; then little is left to be done.
        batch.changes.sort_by_cached_key(|(key, _)| beginning(key));
        batch.changes.sort_by(|(one, _), (other, _)| one.cmp(other));
        batch.changes.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
        batch.changes
    };
    let mut all = threads
        .each(batches, sort, || {})
        .into_iter()
        .flatten()
        .collect::<Vec<_>>();
    // A few sorted runs: they are found, and joined.
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    let share = all.len().div_ceil(parts.max(1)).max(1);
    let mut sorted = Vec::with_capacity(parts);
    let mut all = all.into_iter().peekable();
    while all.peek().is_some() {
        sorted.push(Batch {
            changes: all.by_ref().take(share).collect(),
        });
    }
    sorted
}

/// The first 16 bytes of a key as a number.
fn beginning(key: &[u8]) -> u128 {
    let mut first = [0; 16];
    let len = key.len().min(first.len());
    first[..len].copy_from_slice(&key[..len]);
    u128::from_be_bytes(first)
}

/// What a scan does after an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scan {
    Go,
    Stop,
}

/// Is handed a key and its value.
pub(crate) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<Scan, StoreError> + 'a;

/// Bounds of a scan.
pub(crate) type KeyRange = (Bound<Bytes>, Bound<Bytes>);

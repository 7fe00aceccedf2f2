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

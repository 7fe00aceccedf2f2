//! A few rows of a view with the positions of all their events, so that a start can fold them anew and see whether the
//! view's code still makes the same of them. Written in one batch with the rows.
//!
//! | key | value |
//! | --- | --- |
//! | `a`, hash of the row key (XXH3, u64 BE) | the row key and the positions, MessagePack |

use super::letters::{LetterChange, batch};
use super::rows::{Checkpoint, RowStore};
use super::{Bytes, Scan, StoreError};
use crate::definition::Change;
use annals_core::Position;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Bound;

const SAMPLE: u8 = b'a';

/// A row that is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) key: String,
    /// Of its events, in the order they were folded.
    pub(crate) positions: Vec<Position>,
    /// It has more events than are kept.
    pub(crate) too_many: bool,
}

/// What changes about the sampled rows, by the hashes of their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SampleChange {
    Put(u64, Sample),
    Remove(u64),
}

/// What is written in one batch.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Written<'a> {
    pub(crate) changes: &'a [Change],
    pub(crate) letters: &'a [LetterChange],
    pub(crate) samples: &'a [SampleChange],
}

impl RowStore {
    /// Writes what was folded and the checkpoint, all or none.
    pub(crate) fn commit_all(&self, written: Written<'_>, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let mut batch = batch(written.letters)?;
        for change in written.samples {
            match change {
                SampleChange::Put(hash, sample) => {
                    let value = rmp_serde::to_vec_named(sample)
                        .map_err(|error| StoreError::Failed(format!("a sample cannot be encoded: {error}")))?;
                    batch.put(sample_key(*hash), value);
                }
                SampleChange::Remove(hash) => batch.remove(sample_key(*hash)),
            }
        }
        self.commit_stored(written.changes, checkpoint, batch)
    }

    /// The sampled rows, by the hashes of their keys.
    pub(crate) fn samples(&self) -> Result<BTreeMap<u64, Sample>, StoreError> {
        let damaged = || StoreError::Damaged("a sampled row cannot be read".into());
        let mut samples = BTreeMap::new();
        let range = (Bound::Included(vec![SAMPLE]), Bound::Excluded(vec![SAMPLE + 1]));
        self.reader().scan(range, &mut |key, value| {
            let hash = key.strip_prefix(&[SAMPLE]).and_then(|hash| hash.first_chunk());
            let hash = u64::from_be_bytes(*hash.ok_or_else(damaged)?);
            samples.insert(hash, rmp_serde::from_slice(value).map_err(|_| damaged())?);
            Ok(Scan::Go)
        })?;
        Ok(samples)
    }
}

fn sample_key(hash: u64) -> Bytes {
    [&[SAMPLE], hash.to_be_bytes().as_slice()].concat()
}

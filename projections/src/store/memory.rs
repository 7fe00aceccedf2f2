//! The store in memory: the model that the other is compared with.

use super::{Batch, Bytes, KeyRange, Scan, Store, StoreError, Visit};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{PoisonError, RwLock};

/// Keeps nothing when dropped.
#[derive(Debug, Default)]
pub(crate) struct MemoryStore {
    entries: RwLock<BTreeMap<Bytes, Bytes>>,
}

impl Store for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        Ok(entries.get(key).cloned())
    }

    fn scan(&self, range: KeyRange, backwards: bool, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        if is_empty(&range) {
            return Ok(());
        }
        let entries: Vec<_> = {
            let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
            entries
                .range(range)
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        };
        let mut ordered: Box<dyn Iterator<Item = _>> = Box::new(entries.into_iter());
        if backwards {
            ordered = Box::new(ordered.collect::<Vec<_>>().into_iter().rev());
        }
        for (key, value) in ordered {
            if visit(&key, &value)? == Scan::Stop {
                break;
            }
        }
        Ok(())
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in batch.changes {
            match value {
                Some(value) => entries.insert(key, value),
                None => entries.remove(&key),
            };
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn is_empty((low, high): &KeyRange) -> bool {
    match (low, high) {
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) => low >= high,
        _ => false,
    }
}

//! Values by key, in memory, between two writes: rows of a view or states of a reactor. What is missing is loaded
//! through a closure; what changed comes out encoded, in the order of the keys.

use crate::store::StoreError;
use crate::store::layout::index_value;
use annals_core::{DecodeError, IndexValue, InvalidCommand, KEY_LEN_MAX, Key, Position};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;

/// What a value is taken to weigh before it was ever encoded.
const UNKNOWN_BYTES: usize = 256;

/// Loads the stored bytes of a key; `None` if there are none.
pub(crate) type Load<'a> = dyn FnMut(&str) -> Result<Option<Vec<u8>>, StoreError> + 'a;

/// Is asked for each key of an event whether the event is folded into it.
pub(crate) type Wanted<'a> = dyn FnMut(&str) -> bool + 'a;

/// A value in an index: number of the index, and the value in order-preserving bytes.
pub(crate) type IndexEntry = (u16, Vec<u8>);

/// What became of one key.
#[derive(Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) key: Key,
    /// Position of the last event that was folded into it.
    pub(crate) from: Position,
    /// Length of the value as it is stored now; `None` if there is none.
    pub(crate) old_len: Option<usize>,
    /// The new value; `None` deletes it.
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) index_removed: Vec<IndexEntry>,
    pub(crate) index_added: Vec<IndexEntry>,
}

/// Why an event could not be folded.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("a command cannot be encoded: {0}")]
    Command(#[from] InvalidCommand),
    #[error("{0}")]
    Code(String),
    /// The value of a key cannot be stored; known only when it is encoded. `from` is the last event in it.
    #[error("row {key:?}: {detail}")]
    Value {
        key: String,
        from: Position,
        detail: String,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Debug)]
struct Slot<T> {
    value: Option<T>,
    stored_len: Option<usize>,
    indexed: Vec<Option<Vec<u8>>>,
    from: Position,
    changed: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Table<T> {
    slots: HashMap<Key, Slot<T>>,
    changed: Vec<Key>,
    bytes: usize,
    index_values: fn(&T) -> Vec<Option<IndexValue>>,
}

impl<T: Serialize + DeserializeOwned> Table<T> {
    pub(super) fn new(index_values: fn(&T) -> Vec<Option<IndexValue>>) -> Self {
        Self {
            slots: HashMap::new(),
            changed: Vec::new(),
            bytes: 0,
            index_values,
        }
    }

    /// Changes the value of a key in place.
    pub(super) fn change<R>(
        &mut self,
        key: &Key,
        from: Position,
        load: &mut Load<'_>,
        change: impl FnOnce(&Key, &mut Option<T>) -> R,
    ) -> Result<R, Failure> {
        let index_values = self.index_values;
        if !self.slots.contains_key(key) {
            if key.as_str().len() > KEY_LEN_MAX {
                let detail = format!(
                    "a key has at most {KEY_LEN_MAX} bytes, this one has {}",
                    key.as_str().len()
                );
                return Err(Failure::Code(detail));
            }
            let slot = load_slot(key, load, index_values)?;
            self.bytes += slot.stored_len.unwrap_or(UNKNOWN_BYTES) + key.as_str().len();
            self.slots.insert(key.clone(), slot);
        }
        let Some(slot) = self.slots.get_mut(key) else {
            return Err(Failure::Code("a key was not kept".into()));
        };
        if !slot.changed {
            slot.changed = true;
            self.changed.push(key.clone());
        }
        slot.from = from;
        Ok(change(key, &mut slot.value))
    }

    pub(super) fn changed(&self) -> usize {
        self.changed.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.changed.clear();
        self.bytes = 0;
    }

    /// Hands out what changed. Afterwards the table holds what is stored once all changes are.
    pub(super) fn take_changes(&mut self, value_bytes_max: usize) -> Result<Vec<Change>, Failure> {
        let mut keys = std::mem::take(&mut self.changed);
        keys.sort_unstable();
        let mut changes = Vec::with_capacity(keys.len());
        for key in keys {
            if let Some(slot) = self.slots.get_mut(&key) {
                let before = slot.stored_len.unwrap_or(UNKNOWN_BYTES);
                changes.push(take_change(key, slot, self.index_values, value_bytes_max)?);
                self.bytes = (self.bytes + slot.stored_len.unwrap_or(UNKNOWN_BYTES)).saturating_sub(before);
            }
        }
        Ok(changes)
    }
}

fn load_slot<T: DeserializeOwned>(
    key: &Key,
    load: &mut Load<'_>,
    index_values: fn(&T) -> Vec<Option<IndexValue>>,
) -> Result<Slot<T>, Failure> {
    let stored = load(key.as_str())?;
    let value = match &stored {
        Some(bytes) => Some(
            rmp_serde::from_slice::<T>(bytes)
                .map_err(|error| StoreError::Damaged(format!("row {:?} cannot be read: {error}", key.as_str())))?,
        ),
        None => None,
    };
    Ok(Slot {
        indexed: value
            .as_ref()
            .map(|value| encoded(&index_values(value)))
            .unwrap_or_default(),
        stored_len: stored.map(|bytes| bytes.len()),
        value,
        from: Position::ZERO,
        changed: false,
    })
}

fn take_change<T: Serialize>(
    key: Key,
    slot: &mut Slot<T>,
    index_values: fn(&T) -> Vec<Option<IndexValue>>,
    value_bytes_max: usize,
) -> Result<Change, Failure> {
    let from = slot.from;
    let wrong = |detail: String| Failure::Value {
        key: key.as_str().to_owned(),
        from,
        detail,
    };
    let value = match &slot.value {
        Some(value) => {
            Some(rmp_serde::to_vec_named(value).map_err(|error| wrong(format!("cannot be encoded: {error}")))?)
        }
        None => None,
    };
    if let Some(bytes) = value.as_ref().filter(|bytes| bytes.len() > value_bytes_max) {
        return Err(wrong(format!(
            "has {} bytes, at most {value_bytes_max} are allowed: split it into several rows",
            bytes.len()
        )));
    }
    let indexed = slot
        .value
        .as_ref()
        .map(|value| encoded(&index_values(value)))
        .unwrap_or_default();
    let before = std::mem::replace(&mut slot.indexed, indexed);
    let old_len = std::mem::replace(&mut slot.stored_len, value.as_ref().map(Vec::len));
    slot.changed = false;
    Ok(Change {
        index_removed: only_in(&before, &slot.indexed),
        index_added: only_in(&slot.indexed, &before),
        key,
        from,
        old_len,
        value,
    })
}

fn encoded(values: &[Option<IndexValue>]) -> Vec<Option<Vec<u8>>> {
    values.iter().map(|value| value.as_ref().map(index_value)).collect()
}

fn only_in(these: &[Option<Vec<u8>>], those: &[Option<Vec<u8>>]) -> Vec<IndexEntry> {
    let mut entries = Vec::new();
    for (number, value) in these.iter().enumerate() {
        if let Some(bytes) = value.as_ref().filter(|_| those.get(number) != Some(value)) {
            entries.push((number as u16, bytes.clone()));
        }
    }
    entries
}

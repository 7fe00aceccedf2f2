//! Values by key, in memory, between two writes: rows of a view or states of a reactor. What is missing is loaded
//! through a closure; what changed comes out encoded, in the order of the keys.

use super::change::{Change, IndexAdded, Stored, Version, encoded, only_in, with_history};
use crate::store::{StoreError, StoredRow};
use annals_core::{DecodeError, IndexValue, InvalidCommand, KEY_LEN_MAX, Key, LogError, Position};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;

/// What a value is taken to weigh before it was ever encoded.
const UNKNOWN_BYTES: usize = 256;

/// Loads what is stored of a key; `None` if that is nothing.
pub(crate) type Load<'a> = dyn FnMut(&str) -> Result<Option<StoredRow>, StoreError> + 'a;

/// Is asked for each key of an event whether the event is folded into it.
pub(crate) type Wanted<'a> = dyn FnMut(&str) -> bool + 'a;

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
    #[error(transparent)]
    Log(#[from] LogError),
}

impl Failure {
    /// The row that cannot be stored.
    pub(super) fn key(&self) -> Option<&str> {
        match self {
            Self::Value { key, .. } => Some(key),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct Slot<T> {
    value: Option<T>,
    stored_len: Option<usize>,
    indexed: Vec<Option<Vec<u8>>>,
    from: Position,
    changed: bool,
    /// With history: the value as it is stored.
    stored: Option<Stored>,
    /// With history: versions that came after it and before `value`.
    versions: Vec<Version>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Table<T> {
    slots: HashMap<Key, Slot<T>>,
    changed: Vec<Key>,
    bytes: usize,
    /// What values grew by since they were last encoded, at most.
    grown: usize,
    index_values: fn(&T) -> Vec<Option<IndexValue>>,
    history: bool,
}

impl<T: Serialize + DeserializeOwned> Table<T> {
    /// With `history` the changes tell each version between two writes.
    pub(super) fn new(index_values: fn(&T) -> Vec<Option<IndexValue>>, history: bool) -> Self {
        Self {
            slots: HashMap::new(),
            changed: Vec::new(),
            bytes: 0,
            grown: 0,
            index_values,
            history,
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
            let slot = load_slot(key, load, index_values, self.history)?;
            self.bytes += weight(key, &slot);
            self.slots.insert(key.clone(), slot);
        }
        let Some(slot) = self.slots.get_mut(key) else {
            return Err(Failure::Code("a key was not kept".into()));
        };
        if !slot.changed {
            slot.changed = true;
            self.changed.push(key.clone());
        } else if self.history && slot.from != from {
            let version = version(key, slot, index_values)?;
            self.bytes += version.value.as_ref().map_or(0, Vec::len);
            slot.versions.push(version);
        }
        slot.from = from;
        Ok(change(key, &mut slot.value))
    }

    pub(super) fn changed(&self) -> usize {
        self.changed.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.grown
    }

    /// The value that was changed last is larger by about so much.
    pub(super) fn grew(&mut self, bytes: usize) {
        self.grown += bytes;
    }

    /// Forgets the values that were not changed for longest, until those that are left have at most so many bytes. Only
    /// when none of the changes is still to be handed out.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        if self.bytes <= bytes || !self.changed.is_empty() {
            return;
        }
        let mut ages: Vec<(Position, usize)> = self
            .slots
            .iter()
            .map(|(key, slot)| (slot.from, weight(key, slot)))
            .collect();
        ages.sort_unstable_by_key(|(from, _)| std::cmp::Reverse(*from));
        let mut kept = 0;
        let oldest = ages.iter().find(|(_, weight)| {
            kept += weight;
            kept > bytes
        });
        let oldest = oldest.map_or(Position::ZERO, |(from, _)| *from);
        self.slots.retain(|_, slot| slot.from > oldest);
        // Only a table that was far larger gives its memory back.
        self.slots.shrink_to(ages.len());
        self.bytes = self.slots.iter().map(|(key, slot)| weight(key, slot)).sum();
    }

    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.changed.clear();
        (self.bytes, self.grown) = (0, 0);
    }

    /// Hands out what changed. Afterwards the table holds what is stored once all changes are.
    pub(super) fn take_changes(&mut self, value_bytes_max: usize) -> Result<Vec<Change>, Failure> {
        let mut keys = std::mem::take(&mut self.changed);
        keys.sort_unstable();
        let mut changes = Vec::with_capacity(keys.len());
        for key in keys {
            if let Some(slot) = self.slots.get_mut(&key) {
                let key_len = key.as_str().len();
                let before = weight_of(key_len, slot);
                changes.extend(if self.history {
                    take_versions(key, slot, self.index_values, value_bytes_max)?
                } else {
                    Some(take_change(key, slot, self.index_values, value_bytes_max)?)
                });
                self.bytes = (self.bytes + weight_of(key_len, slot)).saturating_sub(before);
            }
        }
        // A guess until now.
        self.grown = 0;
        Ok(changes)
    }
}

/// Bytes that a slot has in memory, about.
fn weight<T>(key: &Key, slot: &Slot<T>) -> usize {
    weight_of(key.as_str().len(), slot)
}

fn weight_of<T>(key_len: usize, slot: &Slot<T>) -> usize {
    let stored = slot.stored.as_ref().map_or(0, |stored| stored.value.len());
    let versions = slot
        .versions
        .iter()
        .map(|version| version.value.as_ref().map_or(0, Vec::len));
    let value = slot.stored_len.unwrap_or(UNKNOWN_BYTES);
    size_of::<Slot<T>>() + key_len + value + stored + versions.sum::<usize>()
}

fn load_slot<T: DeserializeOwned>(
    key: &Key,
    load: &mut Load<'_>,
    index_values: fn(&T) -> Vec<Option<IndexValue>>,
    history: bool,
) -> Result<Slot<T>, Failure> {
    let stored = load(key.as_str())?;
    let value = match &stored {
        Some(stored) => Some(
            rmp_serde::from_slice::<T>(&stored.row)
                .map_err(|error| StoreError::Damaged(format!("row {:?} cannot be read: {error}", key.as_str())))?,
        ),
        None => None,
    };
    Ok(Slot {
        indexed: value
            .as_ref()
            .map(|value| encoded(&index_values(value)))
            .unwrap_or_default(),
        stored_len: stored.as_ref().map(|stored| stored.row.len()),
        value,
        from: Position::ZERO,
        changed: false,
        stored: stored.filter(|_| history).map(|stored| Stored {
            from: stored.from,
            value: stored.row,
        }),
        versions: Vec::new(),
    })
}

fn take_change<T: Serialize>(
    key: Key,
    slot: &mut Slot<T>,
    index_values: fn(&T) -> Vec<Option<IndexValue>>,
    value_bytes_max: usize,
) -> Result<Change, Failure> {
    let Version { from, value, indexed } = version(&key, slot, index_values)?;
    fits(&key, from, value.as_deref(), value_bytes_max)?;
    let before = std::mem::replace(&mut slot.indexed, indexed);
    let old_len = std::mem::replace(&mut slot.stored_len, value.as_ref().map(Vec::len));
    slot.changed = false;
    let added = only_in(&slot.indexed, &before).into_iter();
    Ok(Change {
        index_removed: only_in(&before, &slot.indexed),
        index_added: added.map(|entry| IndexAdded { entry, since: None }).collect(),
        key,
        from,
        old_len,
        value,
        replaced: Vec::new(),
        index_past: Vec::new(),
    })
}

/// The change with all that came between. `None` if the value is what it was all the time.
fn take_versions<T: Serialize>(
    key: Key,
    slot: &mut Slot<T>,
    index_values: fn(&T) -> Vec<Option<IndexValue>>,
    value_bytes_max: usize,
) -> Result<Option<Change>, Failure> {
    let last = version(&key, slot, index_values)?;
    let mut versions = std::mem::take(&mut slot.versions);
    versions.push(last);
    for version in &versions {
        fits(&key, version.from, version.value.as_deref(), value_bytes_max)?;
    }
    slot.changed = false;
    let change = with_history(key, slot.stored.as_ref(), &slot.indexed, &versions);
    if let Some(change) = &change {
        slot.stored_len = change.value.as_ref().map(Vec::len);
        slot.stored = change.value.clone().map(|value| Stored {
            from: change.from,
            value,
        });
        slot.indexed = versions.pop().map(|last| last.indexed).unwrap_or_default();
    }
    Ok(change)
}

/// The value as it is now.
fn version<T: Serialize>(
    key: &Key,
    slot: &Slot<T>,
    index_values: fn(&T) -> Vec<Option<IndexValue>>,
) -> Result<Version, Failure> {
    let from = slot.from;
    let Some(value) = &slot.value else {
        return Ok(Version {
            from,
            value: None,
            indexed: Vec::new(),
        });
    };
    let bytes = rmp_serde::to_vec_named(value).map_err(|error| Failure::Value {
        key: key.as_str().to_owned(),
        from,
        detail: format!("cannot be encoded: {error}"),
    })?;
    Ok(Version {
        from,
        value: Some(bytes),
        indexed: encoded(&index_values(value)),
    })
}

fn fits(key: &Key, from: Position, value: Option<&[u8]>, value_bytes_max: usize) -> Result<(), Failure> {
    match value {
        Some(bytes) if bytes.len() > value_bytes_max => Err(Failure::Value {
            key: key.as_str().to_owned(),
            from,
            detail: format!(
                "has {} bytes, at most {value_bytes_max} are allowed: split it into several rows",
                bytes.len()
            ),
        }),
        _ => Ok(()),
    }
}

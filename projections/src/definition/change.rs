//! What became of one key between two writes: its last value and, where history is kept, all that came between.

use crate::store::layout::index_value;
use annals_core::{IndexValue, Key, Position};

/// A value in an index: number of the index, and the value in order-preserving bytes.
pub(crate) type IndexEntry = (u16, Vec<u8>);

/// What became of one key.
#[derive(Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) key: Key,
    /// Position of the last event that was folded into it; with history, of the last one that changed it.
    pub(crate) from: Position,
    /// Length of the value as it is stored now; `None` if there is none.
    pub(crate) old_len: Option<usize>,
    /// The new value; `None` deletes it.
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) index_removed: Vec<IndexEntry>,
    pub(crate) index_added: Vec<IndexAdded>,
    /// With history: the versions that were replaced, the oldest first.
    pub(crate) replaced: Vec<Replaced>,
    /// With history: what stood in indexes and does no longer.
    pub(crate) index_past: Vec<IndexPast>,
}

/// A version of a row that another one, or none, has taken the place of.
#[derive(Debug, PartialEq)]
pub(crate) struct Replaced {
    pub(crate) from: Position,
    pub(crate) to: Position,
    pub(crate) value: Vec<u8>,
}

/// A value that stands in an index from now on.
#[derive(Debug, PartialEq)]
pub(crate) struct IndexAdded {
    pub(crate) entry: IndexEntry,
    /// With history: the event that put it there.
    pub(crate) since: Option<Position>,
}

/// A value that stood in an index.
#[derive(Debug, PartialEq)]
pub(crate) struct IndexPast {
    pub(crate) entry: IndexEntry,
    /// The event that put it there; `None` if that stands in the stored entry.
    pub(crate) since: Option<Position>,
    pub(crate) to: Position,
}

/// A version of a value in memory, not stored yet.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) from: Position,
    pub(super) value: Option<Vec<u8>>,
    pub(super) indexed: Vec<Option<Vec<u8>>>,
}

/// The value as it is stored before the change.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) from: Position,
    pub(super) value: Vec<u8>,
}

/// The change from what is stored to the last of the versions. `None` if they are all the same as what is stored.
pub(super) fn with_history(
    key: Key,
    stored: Option<&Stored>,
    indexed: &[Option<Vec<u8>>],
    versions: &[Version],
) -> Option<Change> {
    let mut now = stored.map(|stored| (stored.from, stored.value.as_slice()));
    let mut changed = Vec::with_capacity(versions.len());
    let mut replaced = Vec::new();
    for version in versions {
        if now.map(|(_, value)| value) == version.value.as_deref() {
            continue;
        }
        replaced.extend(now.map(|(from, value)| Replaced {
            from,
            to: version.from,
            value: value.to_vec(),
        }));
        now = version.value.as_deref().map(|value| (version.from, value));
        changed.push(version);
    }
    let last = changed.last()?;
    let mut change = Change {
        key,
        from: last.from,
        old_len: stored.map(|stored| stored.value.len()),
        value: last.value.clone(),
        index_removed: Vec::new(),
        index_added: Vec::new(),
        replaced,
        index_past: Vec::new(),
    };
    let indexes = changed
        .iter()
        .map(|version| version.indexed.len())
        .max()
        .unwrap_or(0)
        .max(indexed.len());
    for number in 0..indexes {
        one_index(number as u16, indexed.get(number), &changed, &mut change);
    }
    Some(change)
}

fn one_index(number: u16, stored: Option<&Option<Vec<u8>>>, versions: &[&Version], change: &mut Change) {
    let stored = stored.and_then(Option::as_ref);
    let (mut now, mut since, mut moved) = (stored, None, false);
    for version in versions {
        let next = version.indexed.get(usize::from(number)).and_then(Option::as_ref);
        if next == now {
            continue;
        }
        if let Some(value) = now {
            change.index_past.push(IndexPast {
                entry: (number, value.clone()),
                since,
                to: version.from,
            });
        }
        (now, since, moved) = (next, Some(version.from), true);
    }
    if !moved {
        return;
    }
    change.index_removed.extend(stored.map(|value| (number, value.clone())));
    change.index_added.extend(now.map(|value| IndexAdded {
        entry: (number, value.clone()),
        since,
    }));
}

pub(super) fn encoded(values: &[Option<IndexValue>]) -> Vec<Option<Vec<u8>>> {
    values.iter().map(|value| value.as_ref().map(index_value)).collect()
}

pub(super) fn only_in(these: &[Option<Vec<u8>>], those: &[Option<Vec<u8>>]) -> Vec<IndexEntry> {
    let mut entries = Vec::new();
    for (number, value) in these.iter().enumerate() {
        if let Some(bytes) = value.as_ref().filter(|_| those.get(number) != Some(value)) {
            entries.push((number as u16, bytes.clone()));
        }
    }
    entries
}

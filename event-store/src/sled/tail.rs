//! The un-indexed tail: where events stand that the stream index has not been given yet. Two generations: the active
//! one grows with every append, the frozen one is being written to the index.
//!
//! Readers look at the active one, then the frozen one, then the index, in this order: entries only move that way.

use annals_core::{EventId, Header, Position, StreamHead, StreamId, Version};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};

/// Name of a command key in the index: hash over stream and key.
pub(super) type CommandHash = [u8; 16];
/// Name of an appended event in the index: hash over its id, then hash over stream and source.
pub(super) type AppendedHash = [u8; 24];
/// Hash over an event's id.
pub(super) type IdHash = [u8; 12];

fn hash<const N: usize>(parts: [&[u8]; 2]) -> [u8; N] {
    let mut hasher = Sha256::new();
    hasher.update(parts[0]);
    hasher.update([0]);
    hasher.update(parts[1]);
    let mut out = [0; N];
    out.copy_from_slice(&hasher.finalize()[..N]);
    out
}

pub(super) fn command_hash(stream: &str, key: &str) -> CommandHash {
    hash([stream.as_bytes(), key.as_bytes()])
}

pub(super) fn id_hash(id: &EventId) -> IdHash {
    hash([id.to_string().as_bytes(), b""])
}

pub(super) fn appended_hash(id: &EventId, stream: &str, source: &str) -> AppendedHash {
    let mut out = [0; 24];
    out[..12].copy_from_slice(&id_hash(id));
    out[12..].copy_from_slice(&hash::<12>([stream.as_bytes(), source.as_bytes()]));
    out
}

/// Positions of one stream, ascending, beginning at a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: Version,
    pub(super) positions: Vec<Position>,
}

impl Run {
    /// The head of this run, up to a position.
    fn head(&self, durable: Position) -> Option<StreamHead> {
        let count = self.positions.partition_point(|position| *position <= durable);
        let position = *self.positions.get(count.checked_sub(1)?)?;
        Some(StreamHead {
            version: self.first.plus(count as u64 - 1),
            position,
        })
    }
}

/// What the index is to be told.
#[derive(Default)]
pub(super) struct Generation {
    pub(super) streams: HashMap<Box<str>, Run>,
    pub(super) commands: HashMap<CommandHash, Position>,
    pub(super) appended: HashMap<AppendedHash, Position>,
    pub(super) ids: HashMap<IdHash, Position>,
    events: usize,
}

impl Generation {
    /// Remembers one event. One that came with an id of its own has a source, and can be found by that id.
    pub(super) fn add(&mut self, position: Position, header: &Header<'_>) {
        self.events += 1;
        match self.streams.get_mut(header.stream) {
            Some(run) => run.positions.push(position),
            None => {
                let run = Run {
                    first: Version::new(header.version),
                    positions: vec![position],
                };
                self.streams.insert(header.stream.into(), run);
            }
        }
        if let Some(key) = header.key {
            self.commands.insert(command_hash(header.stream, key), position);
        }
        if let Some(source) = header.source {
            let id = header.id.to_owned();
            self.appended
                .insert(appended_hash(&id, header.stream, source), position);
            self.ids.entry(id_hash(&id)).or_insert(position);
        }
    }
}

#[derive(Default)]
pub(super) struct Tail {
    active: RwLock<Generation>,
    frozen: Mutex<Option<Arc<Generation>>>,
    thawed: Condvar,
}

impl Tail {
    pub(super) fn add(&self, position: Position, header: &Header<'_>) {
        self.active
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .add(position, header);
    }

    /// How many events the active generation holds.
    pub(super) fn len(&self) -> usize {
        self.active.read().unwrap_or_else(PoisonError::into_inner).events
    }

    fn frozen(&self) -> Option<Arc<Generation>> {
        self.frozen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks into both generations, the active one first.
    fn find<T>(&self, look: impl Fn(&Generation) -> Option<T>) -> Option<T> {
        let found = look(&self.active.read().unwrap_or_else(PoisonError::into_inner));
        found.or_else(|| self.frozen().and_then(|frozen| look(&frozen)))
    }

    /// The head of a stream up to `durable`, if the tail knows it.
    pub(super) fn stream_head(&self, stream: &StreamId, durable: Position) -> Option<StreamHead> {
        self.find(|generation| generation.streams.get(stream.as_str())?.head(durable))
    }

    pub(super) fn command(&self, hash: &CommandHash) -> Option<Position> {
        self.find(|generation| generation.commands.get(hash).copied())
    }

    pub(super) fn appended(&self, hash: &AppendedHash) -> Option<Position> {
        self.find(|generation| generation.appended.get(hash).copied())
    }

    /// The earliest event with this id.
    pub(super) fn id(&self, hash: &IdHash) -> Option<Position> {
        let active = self
            .active
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .ids
            .get(hash)
            .copied();
        self.frozen()
            .and_then(|frozen| frozen.ids.get(hash).copied())
            .or(active)
    }

    /// What the tail knows of a stream, oldest first.
    pub(super) fn runs(&self, stream: &StreamId) -> Vec<Run> {
        let active = self
            .active
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .streams
            .get(stream.as_str())
            .cloned();
        let frozen = self
            .frozen()
            .and_then(|frozen| frozen.streams.get(stream.as_str()).cloned());
        frozen.into_iter().chain(active).collect()
    }

    /// Freezes the active generation for writing it to the index; `None` while another one is frozen. Only between
    /// groups: everything in it must be durable.
    pub(super) fn freeze(&self) -> Option<Arc<Generation>> {
        let mut frozen = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        if frozen.is_some() {
            return None;
        }
        let mut active = self.active.write().unwrap_or_else(PoisonError::into_inner);
        let generation = Arc::new(std::mem::take(&mut *active));
        *frozen = Some(generation.clone());
        Some(generation)
    }

    /// Forgets the frozen generation: the index has it.
    pub(super) fn thaw(&self) {
        *self.frozen.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.thawed.notify_all();
    }

    /// Waits until nothing is frozen.
    pub(super) fn wait_thawed(&self) {
        let mut frozen = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        while frozen.is_some() {
            frozen = self.thawed.wait(frozen).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

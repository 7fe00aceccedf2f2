//! The un-indexed tail: where events stand that the stream index has not been given yet. Two generations: the active
//! one grows with every append, the frozen one is being written to the index.
//!
//! Readers look at the active one, then the frozen one, then the index, in this order: entries only move that way.

use super::generation::Generation;
use super::names::Name;
use annals_core::{Position, StreamHead, StreamId, Version};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, RwLockWriteGuard};

/// Positions of one stream, ascending, beginning at a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: Version,
    pub(super) positions: Vec<Position>,
}

#[derive(Default)]
pub(super) struct Tail {
    active: RwLock<Generation>,
    frozen: Mutex<Option<Arc<Generation>>>,
    thawed: Condvar,
    abandoned: AtomicBool,
}

impl Tail {
    /// The active generation, to add the events of an append.
    pub(super) fn adding(&self) -> RwLockWriteGuard<'_, Generation> {
        self.active.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many events the active generation holds.
    pub(super) fn len(&self) -> usize {
        self.active.read().unwrap_or_else(PoisonError::into_inner).len()
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
        self.find(|generation| generation.stream_head(stream.as_str(), durable))
    }

    pub(super) fn command(&self, name: &Name) -> Option<Position> {
        self.find(|generation| generation.command(name))
    }

    pub(super) fn appended(&self, name: &Name) -> Option<Position> {
        self.find(|generation| generation.appended(name))
    }

    /// Looks into the active generation, then into the frozen one; what each says, oldest first.
    fn both<T>(&self, look: impl Fn(&Generation) -> T) -> [Option<T>; 2] {
        let active = look(&self.active.read().unwrap_or_else(PoisonError::into_inner));
        [self.frozen().map(|frozen| look(&frozen)), Some(active)]
    }

    /// The earliest event with this id.
    pub(super) fn id(&self, name: &Name) -> Option<Position> {
        self.both(|generation| generation.id(name))
            .into_iter()
            .flatten()
            .flatten()
            .next()
    }

    /// What the tail knows of a stream from a version on, oldest first.
    pub(super) fn runs(&self, stream: &StreamId, from: Version) -> Vec<Run> {
        let runs = self.both(|generation| generation.run(stream.as_str(), from));
        runs.into_iter().flatten().flatten().collect()
    }

    /// Positions of a tag after a position, ascending. While a generation is frozen some may be there twice.
    pub(super) fn tagged(&self, tag: &str, after: Position) -> Vec<Position> {
        let positions = self.both(|generation| generation.tagged(tag, after));
        positions.into_iter().flatten().flatten().collect()
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

    /// The index could not be written: what is frozen stays, so that readers miss nothing, and nobody waits for it.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
        let _held = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        self.thawed.notify_all();
    }

    /// Waits until nothing is frozen, or the index cannot be written any more.
    pub(super) fn wait_thawed(&self) {
        let mut frozen = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        while frozen.is_some() && !self.abandoned.load(Ordering::Acquire) {
            frozen = self.thawed.wait(frozen).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

//! Which moments of a store its readers look at, so that nothing they may still see is dropped.

use crate::progress::locked;
use annals_core::Position;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Between two batches the engine may spill and merge as often as this without running out of numbers: 256 times.
const STEPS_BITS: u32 = 8;

/// A store after one of its batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Counts the batches.
    batch: u64,
    /// Of the last event in it.
    position: Position,
}

impl Moment {
    /// The moment of a store whose highest number in the engine is this one.
    pub(crate) fn of(number: u64, position: Position) -> Self {
        Self {
            batch: number >> STEPS_BITS,
            position,
        }
    }

    /// The number in the engine that its batch is written under.
    pub(crate) fn number(self) -> u64 {
        self.batch << STEPS_BITS
    }

    pub(crate) fn position(self) -> Position {
        self.position
    }

    /// Who reads below this number sees this batch and those before it, and nothing after.
    pub(crate) fn end(self) -> u64 {
        (self.batch + 1) << STEPS_BITS
    }

    /// The moment after the next batch, which may be at the same position.
    pub(crate) fn next(self, position: Position) -> Self {
        Self {
            batch: self.batch + 1,
            position,
        }
    }
}

#[derive(Debug)]
struct Seen {
    now: Moment,
    /// Ends of the moments that are being read, with the number of readers.
    readers: BTreeMap<u64, usize>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct InUse {
    seen: Mutex<Seen>,
}

impl InUse {
    pub(crate) fn new(now: Moment) -> Self {
        Self {
            seen: Mutex::new(Seen {
                now,
                readers: BTreeMap::new(),
            }),
        }
    }

    /// The last moment that is written as a whole.
    pub(crate) fn now(&self) -> Moment {
        locked(&self.seen).now
    }

    /// From now on readers begin at this moment.
    pub(crate) fn publish(&self, now: Moment) {
        locked(&self.seen).now = now;
    }

    /// Begins to read at the last moment. To be ended with [`InUse::release`].
    pub(crate) fn acquire(&self) -> Moment {
        let mut seen = locked(&self.seen);
        let now = seen.now;
        *seen.readers.entry(now.end()).or_default() += 1;
        now
    }

    pub(crate) fn release(&self, moment: Moment) {
        let mut seen = locked(&self.seen);
        if let Some(count) = seen.readers.get_mut(&moment.end()) {
            *count -= 1;
            if *count == 0 {
                seen.readers.remove(&moment.end());
            }
        }
    }

    /// No reader looks below this, now or later.
    pub(crate) fn lowest_end(&self) -> u64 {
        let seen = locked(&self.seen);
        let oldest = seen.readers.first_key_value().map(|(end, _)| *end);
        oldest.map_or(seen.now.end(), |end| end.min(seen.now.end()))
    }
}

//! How fast sealing goes: at full speed while nobody appends, else in a small part of the time.

use crate::sled::shared::Shared;
use annals_core::Position;
use std::time::{Duration, Instant};

/// How many bytes are read or written between two looks at the log's head: little enough that requests that wait meanwhile for
/// one of few cores wait for about a millisecond.
const STRIDE: usize = 128 << 10;
/// After how many bytes what was written is to be synced.
const SYNC_STRIDE: usize = 1 << 20;
/// While there are appends, sealing rests this many times as long as it worked: it takes a fifth of the time.
const REST: u32 = 4;
/// Longest rest.
const REST_MAX: Duration = Duration::from_millis(500);

/// See the module.
pub(in crate::sled) struct Pace<'a> {
    /// None: always at full speed.
    shared: Option<&'a Shared>,
    head: Position,
    since: Instant,
    bytes: usize,
    unsynced: usize,
}

impl<'a> Pace<'a> {
    /// Yields to appends.
    pub(super) fn beside(shared: &'a Shared) -> Self {
        Self::new(Some(shared))
    }

    /// At full speed, for those who wait for it.
    pub(in crate::sled) fn full() -> Self {
        Self::new(None)
    }

    fn new(shared: Option<&'a Shared>) -> Self {
        Self {
            shared,
            head: shared.map_or(Position::ZERO, |shared| shared.head.get()),
            since: Instant::now(),
            bytes: 0,
            unsynced: 0,
        }
    }

    /// Counts work done; rests if there is load. True when what was written is to be synced.
    pub(super) fn worked(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        self.unsynced += bytes;
        if self.bytes < STRIDE {
            return false;
        }
        self.bytes = 0;
        if let Some(shared) = self.shared {
            let head = shared.head.get();
            if head != self.head {
                std::thread::sleep((self.since.elapsed() * REST).min(REST_MAX));
            }
            (self.head, self.since) = (shared.head.get(), Instant::now());
        }
        let due = self.unsynced >= SYNC_STRIDE;
        if due {
            self.unsynced = 0;
        }
        due
    }
}

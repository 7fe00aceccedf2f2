//! Work that nobody waits for: it leaves the processor to requests.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How much a thread yields: the least of all is 19.
const NICE: i32 = 10;
/// A piece of work that took less is not worth a rest.
const PIECE_MIN: Duration = Duration::from_micros(200);
/// How many times as long as it worked it rests.
const REST: u32 = 2;
/// Longest rest: a piece that took long was waiting for the processor itself.
const REST_MAX: Duration = Duration::from_millis(2);

/// Has the calling thread run behind those that answer requests, where the system can tell threads apart. A system that
/// refuses only lets it compete with them.
pub(super) fn yield_to_requests() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "a thread of the background has the priority of all others");
    }
}

/// Work in pieces with rests in between, so that requests on few cores wait for a piece and not for all of it.
pub(super) struct Pieces {
    since: Cell<Instant>,
}

impl Pieces {
    pub(super) fn begin() -> Self {
        Self {
            since: Cell::new(Instant::now()),
        }
    }

    /// A piece is done: rests, unless others are about to wait for the whole.
    pub(super) fn done(&self, hurry: bool) {
        let worked = self.since.get().elapsed();
        if worked < PIECE_MIN {
            return;
        }
        if !hurry {
            std::thread::sleep((worked * REST).min(REST_MAX));
        }
        self.since.set(Instant::now());
    }
}

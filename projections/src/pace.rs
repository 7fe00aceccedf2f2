//! How large the next batch may be: so large that its write takes as long as it should, and no longer.

use std::time::{Duration, Instant};

/// How long an atomic write may hold the lock that all stores of the process share, about.
const GOAL: Duration = Duration::from_millis(1);
/// The same, for who is far behind.
const GOAL_BEHIND: Duration = Duration::from_millis(4);
/// From this lag on one is far behind.
const FAR_BEHIND_EVENTS: u64 = 20_000;
const ROWS_AT_FIRST: usize = 16;
/// Rows may be large: then few of them take as long as many small ones.
const ROWS_MIN: usize = 2;

/// Least time from the beginning of one batch to that of the next. Each write wakes the engine's I/O threads, all of
/// them, which costs more than folding an event: under load a batch gathers what comes in the meantime.
const EVERY: Duration = Duration::from_millis(2);

/// Adapts the number of rows in a batch to what writing them takes.
pub(crate) struct Pace {
    begun: Option<Instant>,
    rows: usize,
    rows_max: usize,
}

impl Pace {
    pub(crate) fn new(rows_max: usize) -> Self {
        Self {
            begun: None,
            rows: ROWS_AT_FIRST,
            rows_max: rows_max.max(ROWS_AT_FIRST),
        }
    }

    /// Waits until the next batch may begin: not at all after a pause or a long batch.
    pub(crate) fn begin(&mut self) {
        if let Some(begun) = self.begun {
            std::thread::sleep(EVERY.saturating_sub(begun.elapsed()));
        }
        self.begun = Some(Instant::now());
    }

    /// Most rows in the next batch.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Learns from a write of that many rows, with so many events still to come.
    pub(crate) fn wrote(&mut self, took: Duration, rows: usize, lag_events: u64) {
        let goal = if lag_events > FAR_BEHIND_EVENTS {
            GOAL_BEHIND
        } else {
            GOAL
        };
        if took > goal * 2 {
            self.rows = (self.rows / 2).max(ROWS_MIN);
        } else if took < goal && rows >= self.rows {
            self.rows = (self.rows * 2).min(self.rows_max);
        }
    }
}

//! How soon the next batch may begin.

use std::time::{Duration, Instant};

/// Least time from the beginning of one batch to that of the next. Each batch costs a change of thread, a look at the log
/// and a checkpoint, however few events it has: under load it gathers what comes in the meantime.
const EVERY: Duration = Duration::from_millis(2);

/// Of one worker.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    begun: Option<Instant>,
}

impl Pace {
    /// Waits until the next batch may begin: not at all after a pause or a long batch.
    pub(crate) fn begin(&mut self) {
        if let Some(begun) = self.begun {
            std::thread::sleep(EVERY.saturating_sub(begun.elapsed()));
        }
        self.begun = Some(Instant::now());
    }
}

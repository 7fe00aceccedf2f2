//! How fast a build goes beside live traffic: at full speed while nobody appends, else in a part of the time.

use annals_core::{EventLog, Position};
use std::time::Duration;

/// Events of a step while there are appends: some milliseconds of work.
const BUSY_EVENTS: usize = 1_024;
/// Longest rest.
const REST_MAX: Duration = Duration::from_millis(500);

/// See the module.
pub(super) struct Beside<'a> {
    log: &'a dyn EventLog,
    share_percent: u32,
    head: Position,
    left: u64,
    busy: bool,
    gains: bool,
}

impl<'a> Beside<'a> {
    /// With the share of the time that the build has while others append, 1 to 100 percent.
    pub(super) fn new(log: &'a dyn EventLog, share_percent: u32) -> Self {
        Self {
            log,
            share_percent: share_percent.clamp(1, 100),
            head: log.head(),
            left: u64::MAX,
            busy: false,
            gains: true,
        }
    }

    /// Most events of the next step, with those that are left.
    pub(super) fn events_max(&mut self, left: u64) -> usize {
        let head = self.log.head();
        self.busy = head != self.head;
        self.head = head;
        // A build that does not gain on the log would never end: it does not rest.
        self.gains = left < self.left;
        self.left = left;
        if self.busy && self.gains {
            BUSY_EVENTS
        } else {
            usize::MAX
        }
    }

    /// Rests as the share demands.
    pub(super) fn rest(&self, worked: Duration) {
        if self.busy && self.gains {
            let rest = worked * (100 - self.share_percent) / self.share_percent;
            std::thread::sleep(rest.min(REST_MAX));
        }
    }
}

//! Versions that are older than a view keeps its history are dropped, a few at a time, beside what else its worker does.
//!
//! First the horizon is written: the position from which on the view can be asked. Then goes what ended at the horizon or
//! before. What held at the horizon stays, and so do all rows and entries as they are.

use crate::store::{Bytes, Checkpoint, RowStore, StoreError};
use annals_core::{EventLog, LogError, Position};
use chrono::{TimeDelta, Utc};
use std::time::{Duration, Instant};

/// Entries that are looked at between two batches.
const PIECE: usize = 2_000;
/// How long a worker does other things between two pieces.
const REST: Duration = Duration::from_millis(20);
/// How often the horizon is moved: each time a fiftieth of what is kept has passed, within these bounds. Each time all
/// versions that are kept are looked at.
const EVERY_MIN: Duration = Duration::from_millis(100);
const EVERY_MAX: Duration = Duration::from_secs(6 * 3_600);

/// How a view forgets what is old.
pub(super) struct Retention {
    /// None: nothing is forgotten.
    kept: Option<Duration>,
    due: Instant,
    /// Behind which entry a pass goes on.
    pass: Option<Option<Bytes>>,
}

impl Retention {
    /// Of a view that keeps its history for so long. What an earlier process has left over goes with the first pass.
    pub(super) fn of(kept: Option<Duration>) -> Self {
        Self {
            kept,
            due: Instant::now(),
            pass: None,
        }
    }

    /// How long there is nothing to do; none: for ever.
    pub(super) fn pause(&self, now: Instant) -> Option<Duration> {
        self.kept.map(|_| self.due.saturating_duration_since(now))
    }

    /// Whether there is something to do.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.pause(now).is_some_and(|pause| pause.is_zero())
    }

    /// Moves the horizon, or drops what a few entries have become. The checkpoint is the one in the store.
    pub(super) fn go_on(
        &mut self,
        log: &dyn EventLog,
        rows: &RowStore,
        checkpoint: &mut Checkpoint,
    ) -> Result<(), Ended> {
        let (Some(kept), Some(horizon)) = (self.kept, checkpoint.history) else {
            self.kept = None;
            return Ok(());
        };
        self.due = Instant::now() + REST;
        match self.pass.take() {
            None => {
                let next = horizon_at(log, kept)?.min(checkpoint.position).max(horizon);
                if next > horizon {
                    let moved = Checkpoint {
                        history: Some(next),
                        ..checkpoint.clone()
                    };
                    rows.commit(&[], &moved)?;
                    *checkpoint = moved;
                }
                self.pass = Some(None);
            }
            Some(after) => match rows.forget_past(checkpoint, after.as_ref(), PIECE)? {
                Some(after) => self.pass = Some(Some(after)),
                None => self.due = Instant::now() + (kept / 50).clamp(EVERY_MIN, EVERY_MAX),
            },
        }
        Ok(())
    }
}

/// Why there was no forgetting.
pub(super) enum Ended {
    Log(LogError),
    Store(StoreError),
}

impl From<LogError> for Ended {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Which position a history that is kept for so long begins with.
pub(super) fn horizon_at(log: &dyn EventLog, kept: Duration) -> Result<Position, LogError> {
    // What is kept for longer than there have been clocks is kept for ever.
    let begin = TimeDelta::from_std(kept)
        .ok()
        .and_then(|kept| Utc::now().checked_sub_signed(kept));
    begin.map_or(Ok(Position::ZERO), |begin| log.position_at(begin))
}

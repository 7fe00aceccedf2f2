//! How far one view or reactor is: written by its worker, read by everybody, without I/O.

use crate::{ProjectionKind, ProjectionState, ProjectionStatus};
use annals_core::{Epoch, EventLog, Position};
use chrono::Utc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Stands for "there is no unread event".
const NOTHING_UNREAD: i64 = i64::MIN;
/// The rate is that of at least this long.
const RATE_WINDOW: Duration = Duration::from_millis(500);

/// Shared by a worker and those who look at it.
pub(crate) struct Progress {
    name: &'static str,
    kind: ProjectionKind,
    version: Option<u32>,
    log: Arc<dyn EventLog>,
    position: watch::Sender<Position>,
    /// Recorded time of the first unread event, microseconds since 1970.
    unread_since: AtomicI64,
    state: Mutex<(ProjectionState, Option<String>)>,
    rate: Mutex<Rate>,
    events: AtomicU64,
}

struct Rate {
    since: Instant,
    events: u64,
    per_second: f64,
}

impl Progress {
    pub(crate) fn new(name: &'static str, kind: ProjectionKind, version: Option<u32>, log: Arc<dyn EventLog>) -> Self {
        let rate = Rate {
            since: Instant::now(),
            events: 0,
            per_second: 0.0,
        };
        Self {
            name,
            kind,
            version,
            log,
            position: watch::Sender::new(Position::ZERO),
            unread_since: AtomicI64::new(NOTHING_UNREAD),
            state: Mutex::new((ProjectionState::Starting, None)),
            rate: Mutex::new(rate),
            events: AtomicU64::new(0),
        }
    }

    pub(crate) fn position(&self) -> Position {
        *self.position.borrow()
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.log.epoch()
    }

    pub(crate) fn lag_events(&self) -> u64 {
        self.log.head().since(self.position())
    }

    /// Says up to where everything is read and written, and how many events were just folded for that.
    pub(crate) fn advance(&self, position: Position, events: u64) {
        self.events.fetch_add(events, Ordering::Relaxed);
        self.position.send_replace(position);
        if position >= self.log.head() {
            self.unread_since.store(NOTHING_UNREAD, Ordering::Relaxed);
        }
    }

    /// Says that the next event to be read was recorded then.
    pub(crate) fn unread(&self, recorded: i64) {
        self.unread_since.store(recorded, Ordering::Relaxed);
    }

    /// For who does not read on: looks up when the next event was recorded, so that the lag is shown in seconds. Does I/O.
    pub(crate) fn look_ahead(&self) {
        let known = self.unread_since.load(Ordering::Relaxed) != NOTHING_UNREAD;
        if known || self.log.head() <= self.position() {
            return;
        }
        // An error here is an error when the event is read, and is told then.
        if let Ok(Some(next)) = self.log.read_one(self.position().next())
            && let Ok(next) = next.view()
        {
            self.unread(next.header.recorded);
        }
    }

    pub(crate) fn enter(&self, state: ProjectionState, error: Option<String>) {
        *locked(&self.state) = (state, error);
    }

    pub(crate) fn state(&self) -> (ProjectionState, Option<String>) {
        locked(&self.state).clone()
    }

    /// Waits until the position is reached, at most for `timeout`; returns what was reached.
    pub(crate) async fn wait_for(&self, position: Position, timeout: Duration) -> Position {
        let mut reached = self.position.subscribe();
        // A timeout is an answer like any other: the caller compares.
        let _ = tokio::time::timeout(timeout, reached.wait_for(|reached| *reached >= position)).await;
        self.position()
    }

    pub(crate) fn status(&self) -> ProjectionStatus {
        let (state, error) = self.state();
        let (position, head) = (self.position(), self.log.head());
        let unread = self.unread_since.load(Ordering::Relaxed);
        let lag_seconds = if unread == NOTHING_UNREAD || position >= head {
            0.0
        } else {
            (Utc::now().timestamp_micros().saturating_sub(unread).max(0)) as f64 / 1e6
        };
        ProjectionStatus {
            name: self.name.to_owned(),
            kind: self.kind,
            version: self.version,
            state,
            position,
            head,
            lag_events: head.since(position),
            lag_seconds,
            rate: self.rate(),
            error,
            dead_letters: 0,
            rebuild: None,
            outbox: None,
        }
    }

    fn rate(&self) -> f64 {
        let mut rate = locked(&self.rate);
        let (events, elapsed) = (self.events.load(Ordering::Relaxed), rate.since.elapsed());
        if elapsed >= RATE_WINDOW {
            rate.per_second = events.saturating_sub(rate.events) as f64 / elapsed.as_secs_f64();
            rate.events = events;
            rate.since = Instant::now();
        }
        (rate.per_second * 10.0).round() / 10.0
    }
}

/// What stands behind these locks is whole at any time, so a panic elsewhere does not spoil it.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The durable head: how far everything is synced, for readers to stop at and subscribers to wait for.

use annals_core::Position;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Default)]
pub(crate) struct DurableHead {
    position: AtomicU64,
    waiting: Mutex<usize>,
    moved: Condvar,
}

impl DurableHead {
    pub(crate) fn at(position: Position) -> Self {
        Self {
            position: AtomicU64::new(position.get()),
            ..Self::default()
        }
    }

    pub(crate) fn get(&self) -> Position {
        Position::new(self.position.load(Ordering::Acquire))
    }

    /// Moves the head and wakes who waits for it.
    pub(crate) fn advance(&self, to: Position) {
        self.position.store(to.get(), Ordering::Release);
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if *waiting > 0 {
            self.moved.notify_all();
        }
    }

    /// Waits until the head is beyond `position`; returns the head then, or after `timeout`.
    pub(crate) fn wait_beyond(&self, position: Position, timeout: Duration) -> Position {
        let deadline = Instant::now() + timeout;
        if self.get() > position {
            return self.get();
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting += 1;
        while self.get() <= position {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            waiting = self
                .moved
                .wait_timeout(waiting, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        *waiting -= 1;
        self.get()
    }
}

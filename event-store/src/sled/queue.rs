//! The append queue: bounded in count and bytes, emptied in groups by the writer.

use super::answers::Answerer;
use super::matching::Checked;
use annals_core::{Append, AppendError};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;

/// How long a caller that finds the queue full should wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An append on its way, with whom to answer.
pub(super) struct Queued {
    pub(super) append: Append,
    pub(super) bytes: usize,
    /// How far its condition was checked before it was queued.
    pub(super) checked: Checked,
    pub(super) answer: Answerer,
    /// The runtime that waits for the answer, if one does.
    pub(super) runtime: Option<Handle>,
}

pub(super) struct Queue {
    appends_max: usize,
    bytes_max: usize,
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Queued>,
    bytes: usize,
    closed: Option<String>,
}

impl Queue {
    pub(super) fn new(appends_max: usize, bytes_max: usize) -> Self {
        Self {
            appends_max,
            bytes_max,
            state: Mutex::default(),
            filled: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, queued: Queued) -> Result<(), AppendError> {
        let mut state = self.state();
        if let Some(why) = &state.closed {
            return Err(AppendError::Closed(why.clone()));
        }
        if state.waiting.len() >= self.appends_max || state.bytes + queued.bytes > self.bytes_max {
            return Err(AppendError::Overloaded {
                retry_after: RETRY_AFTER,
            });
        }
        state.bytes += queued.bytes;
        let was_empty = state.waiting.is_empty();
        state.waiting.push_back(queued);
        drop(state);
        if was_empty {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Waits for appends and takes all there are, up to about `bytes_max` bytes; `None` when closed and empty.
    pub(super) fn take(&self, bytes_max: usize) -> Option<Vec<Queued>> {
        let mut state = self.state();
        while state.waiting.is_empty() {
            if state.closed.is_some() {
                return None;
            }
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let (mut group, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max {
            let Some(queued) = state.waiting.pop_front() else { break };
            bytes += queued.bytes;
            group.push(queued);
        }
        state.bytes -= bytes;
        Some(group)
    }

    /// How many appends and how many bytes of them wait.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let state = self.state();
        (state.waiting.len(), state.bytes)
    }

    /// Puts back what was taken, in front and in order.
    pub(super) fn put_back(&self, group: Vec<Queued>) {
        let mut state = self.state();
        for queued in group.into_iter().rev() {
            state.bytes += queued.bytes;
            state.waiting.push_front(queued);
        }
    }

    /// Refuses further appends; those that wait are still taken.
    pub(super) fn close(&self, why: &str) {
        self.state().closed.get_or_insert_with(|| why.to_owned());
        self.filled.notify_all();
    }

    /// Refuses further appends and answers those that wait.
    pub(super) fn abort(&self, why: &str) {
        self.close(why);
        let waiting = std::mem::take(&mut self.state().waiting);
        for queued in waiting {
            // A caller that went away needs no answer.
            let _ = queued.answer.send(Err(AppendError::Closed(why.to_owned())));
        }
    }
}

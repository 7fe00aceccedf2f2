//! The append queue: bounded in count and bytes, emptied in groups by the writer.

use super::answers::Answerer;
use super::matching::Checked;
use super::names::{Name, command_name};
use annals_core::{Append, AppendError};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// How long a caller that finds the queue full should wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// After so many groups of one append in a row, an append that finds the queue empty takes a turn itself.
const SINGLES_MIN: u32 = 8;
/// After so long without a group it does so no more, until there were as many again.
const SINGLES_TIME: Duration = Duration::from_secs(1);
/// How often the writer's thread looks at turns meanwhile.
const LOOK: Duration = Duration::from_millis(5);

/// An append on its way, with whom to answer.
pub(super) struct Queued {
    pub(super) append: Append,
    /// Name of its command: found out by the caller, of which there are many, and not by the writer.
    pub(super) command: Option<Name>,
    pub(super) bytes: usize,
    /// How far its condition was checked before it was queued.
    pub(super) checked: Checked,
    pub(super) answer: Answerer,
    /// The runtime that waits for the answer, if one does.
    pub(super) runtime: Option<Handle>,
}

impl Queued {
    /// An append of so many bytes that was checked by its caller.
    pub(super) fn new(append: Append, bytes: usize, checked: Checked, answer: Answerer) -> Self {
        let command = append.command.as_ref();
        Self {
            command: command.map(|command| command_name(append.stream.as_str(), &command.key)),
            append,
            bytes,
            checked,
            answer,
            runtime: Handle::try_current().ok(),
        }
    }
}

pub(super) struct Queue {
    appends_max: usize,
    bytes_max: usize,
    state: Mutex<State>,
    filled: Condvar,
}

/// Who is to take an append from the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taker {
    /// The writer's thread, which was told.
    Thread,
    /// Whoever queued it: nobody was told.
    Caller,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Queued>,
    bytes: usize,
    closed: Option<String>,
    /// How many groups of one append were taken in a row.
    singles: u32,
    taken: Option<Instant>,
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

    /// Queues an append. One that could be a turn of its caller's is left to the caller while there is little to do.
    pub(super) fn push(&self, queued: Queued, could_turn: impl FnOnce(&Queued) -> bool) -> Result<Taker, AppendError> {
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
        let callers = was_empty && state.singles >= SINGLES_MIN && could_turn(&queued);
        state.waiting.push_back(queued);
        drop(state);
        if callers {
            return Ok(Taker::Caller);
        }
        if was_empty {
            self.filled.notify_one();
        }
        Ok(Taker::Thread)
    }

    /// Waits for appends; false when closed and empty. While callers take turns, `look` is called every now and then.
    pub(super) fn wait(&self, look: impl Fn()) -> bool {
        let mut state = self.state();
        while state.waiting.is_empty() {
            if state.closed.is_some() {
                return false;
            }
            if state.singles < SINGLES_MIN {
                state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (held, waited) = self
                .filled
                .wait_timeout(state, LOOK)
                .unwrap_or_else(PoisonError::into_inner);
            state = held;
            if waited.timed_out() {
                if state.taken.is_none_or(|taken| taken.elapsed() > SINGLES_TIME) {
                    state.singles = 0;
                }
                drop(state);
                look();
                state = self.state();
            }
        }
        true
    }

    /// Tells the writer's thread if appends wait.
    pub(super) fn tell(&self) {
        if !self.state().waiting.is_empty() {
            self.filled.notify_one();
        }
    }

    /// Takes all that wait, up to about `bytes_max` bytes. Only while the writer is held: what is taken is then stored in
    /// the order in which it came.
    pub(super) fn take(&self, bytes_max: usize) -> Vec<Queued> {
        let mut state = self.state();
        let (mut group, mut bytes) = (Vec::new(), 0);
        while bytes < bytes_max {
            let Some(queued) = state.waiting.pop_front() else { break };
            bytes += queued.bytes;
            group.push(queued);
        }
        state.bytes -= bytes;
        match group.len() {
            0 => {}
            1 => (state.singles, state.taken) = (state.singles.saturating_add(1), Some(Instant::now())),
            _ => state.singles = 0,
        }
        group
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

    /// Why further appends are refused, if they are.
    pub(super) fn closed(&self) -> Option<String> {
        self.state().closed.clone()
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

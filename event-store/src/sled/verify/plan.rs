//! Hands out the log in stretches, in order, to as many threads as there are, and takes what they found in order again.
//! Volumes are opened when their turn comes, and nobody runs far ahead, so that little is open and in memory at a time.

use super::walk::Stretch;
use crate::sled::shared::Shared;
use crate::sled::stored::Stored;
use annals_core::{LogError, Position};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A stretch with its number in the order of the log, and its volume unless that cannot be read.
pub(super) struct Task {
    pub(super) number: u64,
    pub(super) stretch: Stretch,
    pub(super) volume: Result<Arc<Stored>, (Position, String)>,
}

pub(super) struct Plan<'a> {
    shared: &'a Shared,
    /// First and last positions of the volumes.
    volumes: Vec<(Position, Position)>,
    /// Events of a stretch, about.
    stretch_events: u64,
    /// Most stretches that are handed out and not joined.
    ahead_max: u64,
    state: Mutex<State>,
    joined: Condvar,
}

#[derive(Default)]
struct State {
    next_volume: usize,
    /// What is left of the volume that was opened last.
    rest: VecDeque<Stretch>,
    volume: Option<Result<Arc<Stored>, (Position, String)>>,
    issued: u64,
    joined: u64,
    closed: bool,
}

impl<'a> Plan<'a> {
    /// Volumes up to the head in stretches of about so many events, for so many threads.
    pub(super) fn new(shared: &'a Shared, head: Position, stretch_events: u64, threads: usize) -> Self {
        let starts = shared.volumes.starts();
        let end = |at: usize| starts.get(at + 1).map_or(head, |next| next.previous());
        let volumes = starts.iter().enumerate().map(|(at, start)| (*start, end(at)));
        Self {
            shared,
            volumes: volumes.collect(),
            stretch_events: stretch_events.max(1),
            ahead_max: threads as u64 * 2,
            state: Mutex::default(),
            joined: Condvar::new(),
        }
    }

    pub(super) fn volume_count(&self) -> u64 {
        self.volumes.len() as u64
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next stretch; `None` when all were handed out.
    pub(super) fn next(&self) -> Result<Option<Task>, LogError> {
        let mut state = self.state();
        loop {
            if state.closed {
                return Ok(None);
            }
            if state.issued >= state.joined + self.ahead_max {
                state = self.joined.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            if let (Some(stretch), Some(volume)) = (state.rest.pop_front(), state.volume.clone()) {
                let number = state.issued;
                state.issued += 1;
                return Ok(Some(Task {
                    number,
                    stretch,
                    volume,
                }));
            }
            let Some(&(start, end)) = self.volumes.get(state.next_volume) else {
                return Ok(None);
            };
            state.next_volume += 1;
            self.open(&mut state, start, end)?;
        }
    }

    fn open(&self, state: &mut State, start: Position, end: Position) -> Result<(), LogError> {
        if start > end {
            // Nothing was written to it yet.
            return Ok(());
        }
        let (volume, joined) = match self.shared.volumes.containing(start) {
            Ok((volume, next)) => {
                let begins = self.shared.volumes.starts().binary_search(&start).is_ok();
                let joined = !begins || next.is_some_and(|next| next > end.next());
                (Ok(volume), joined)
            }
            Err(LogError::Damaged { position, detail }) => (Err((position, detail)), false),
            Err(error) => return Err(error),
        };
        let mut rest = self.stretches(volume.as_deref().ok(), start, end);
        rest.iter_mut().for_each(|stretch| stretch.joined = joined);
        state.rest = rest;
        state.volume = Some(volume);
        Ok(())
    }

    /// One more was joined.
    pub(super) fn joined(&self) {
        self.state().joined += 1;
        self.joined.notify_all();
    }

    /// Hands out no more.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.joined.notify_all();
    }

    /// Cuts a volume where blocks begin. What cannot be cut is one stretch: checking it will say why.
    fn stretches(&self, volume: Option<&Stored>, start: Position, end: Position) -> VecDeque<Stretch> {
        let count = end.get() - start.get() + 1;
        let pieces = volume.map_or(1, |_| count.div_ceil(self.stretch_events));
        let mut starts = vec![start];
        for piece in 1..pieces {
            let about = Position::new(start.get() + count / pieces * piece);
            let cut = volume.and_then(|volume| volume.block_start(about).ok().flatten());
            starts.extend(cut.filter(|cut| starts.last().is_some_and(|last| last < cut) && *cut <= end));
        }
        let ends = starts.iter().skip(1).map(|next| next.previous()).chain([end]);
        let stretch = |(from, end): (&Position, Position)| Stretch {
            from: *from,
            end,
            begins_volume: *from == start,
            joined: false,
        };
        starts.iter().zip(ends).map(stretch).collect()
    }
}

/// Closes the plan when its thread panics, so that the others end instead of waiting for it.
pub(super) struct ClosedByPanic<'a>(pub(super) &'a Plan<'a>);

impl Drop for ClosedByPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.close();
        }
    }
}

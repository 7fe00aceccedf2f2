//! One pass over the log for several views: a block is read and unpacked once, and each view folds it in its own thread.
//!
//! The window of blocks is bounded: who is ahead waits for the slowest, for a while. A view that is far from the others,
//! because it rests or has begun elsewhere, reads for itself.

use crate::progress::locked;
use annals_core::{Block, EventLog, LogError, Position};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Reads of the log that are kept: about 1 MiB each.
const WINDOW: usize = 16;
/// Longest wait for the slowest.
const WAIT_MAX: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Default)]
pub(crate) struct Pass {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    window: VecDeque<Vec<Block>>,
    /// How far each member has read; none once it has left.
    members: Vec<Option<Position>>,
    /// Somebody reads what follows the window.
    reading: bool,
    /// How many reads of the log there were.
    reads: u64,
}

/// One view in a pass; leaves it when dropped.
pub(crate) struct Member {
    pass: Arc<Pass>,
    number: usize,
}

impl Pass {
    /// Takes part from now on. All shall have joined before the first one reads.
    pub(crate) fn join(self: &Arc<Self>) -> Member {
        let mut state = locked(&self.state);
        state.members.push(Some(Position::ZERO));
        Member {
            pass: Arc::clone(self),
            number: state.members.len() - 1,
        }
    }

    /// How often the log was read.
    #[cfg(test)]
    fn reads(&self) -> u64 {
        locked(&self.state).reads
    }
}

impl State {
    /// Forgets what all members have read.
    fn trim(&mut self) {
        let slowest = self.members.iter().flatten().min().copied();
        while let (Some(slowest), Some(oldest)) = (slowest, self.window.front()) {
            if last(oldest) > slowest {
                break;
            }
            self.window.pop_front();
        }
    }

    fn find(&self, after: Position) -> Option<Vec<Block>> {
        let found = self.window.iter().find(|blocks| {
            let first = blocks.first().map_or(Position::ZERO, Block::first);
            first <= after.next() && after < last(blocks)
        })?;
        Some(found.iter().filter(|block| block.last() > after).cloned().collect())
    }

    /// Whether what follows `after` is what follows the window.
    fn is_end(&self, after: Position) -> bool {
        self.window.back().is_none_or(|blocks| last(blocks) == after)
    }
}

fn last(blocks: &[Block]) -> Position {
    blocks.last().map_or(Position::ZERO, Block::last)
}

impl Member {
    /// What [`EventLog::read`] gives, read once for all members.
    pub(crate) fn read(&self, log: &dyn EventLog, after: Position, bytes: usize) -> Result<Vec<Block>, LogError> {
        let begun = Instant::now();
        let mut state = locked(&self.pass.state);
        if let Some(member) = state.members.get_mut(self.number) {
            *member = Some(after);
        }
        loop {
            state.trim();
            self.pass.moved.notify_all();
            if let Some(blocks) = state.find(after) {
                return Ok(blocks);
            }
            if !state.is_end(after) || begun.elapsed() > WAIT_MAX {
                drop(state);
                return log.read(after, bytes);
            }
            if !state.reading && state.window.len() < WINDOW {
                break;
            }
            let waited = self.pass.moved.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.reading = true;
        state.reads += 1;
        drop(state);
        let read = log.read(after, bytes);
        let mut state = locked(&self.pass.state);
        state.reading = false;
        if let Ok(blocks) = &read
            && !blocks.is_empty()
            && state.is_end(after)
        {
            state.window.push_back(blocks.clone());
        }
        drop(state);
        self.pass.moved.notify_all();
        read
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(member) = locked(&self.pass.state).members.get_mut(self.number) {
            *member = None;
        }
        self.pass.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests, where a failure is a panic")]

    use super::*;
    use annals_core::{Append, Appender, NewEvent, StreamId};
    use annals_event_store::MemoryLog;
    use std::thread;

    fn log(events: u32) -> MemoryLog {
        let log = MemoryLog::new("test");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        for _ in 0..events {
            let event = NewEvent::new("Counted", vec![0xc0; 40]);
            let append = Append::new(StreamId::new("counts", "a").unwrap(), vec![event]);
            runtime.block_on(log.append(append)).unwrap();
        }
        log
    }

    #[test]
    fn several_read_the_log_once_however_slow_one_of_them_is() {
        let (log, pass) = (log(400), Arc::new(Pass::default()));
        let members: Vec<Member> = (0..4).map(|_| pass.join()).collect();
        thread::scope(|scope| {
            for (number, member) in members.into_iter().enumerate() {
                let log = &log;
                scope.spawn(move || {
                    let mut after = Position::ZERO;
                    while after < log.head() {
                        let blocks = member.read(log, after, 200).unwrap();
                        assert_eq!(blocks[0].clip(after, log.head()).unwrap().first(), after.next());
                        after = last(&blocks);
                        if number == 0 {
                            thread::sleep(Duration::from_millis(1));
                        }
                    }
                });
            }
        });
        let alone = {
            let (pass, mut after, mut reads) = (Arc::new(Pass::default()), Position::ZERO, 0);
            let member = pass.join();
            while after < log.head() {
                after = last(&member.read(&log, after, 200).unwrap());
                reads += 1;
            }
            reads
        };
        assert!(alone > 20, "{alone} reads");
        assert_eq!(pass.reads(), alone, "as often as one alone would");
    }

    #[test]
    fn one_that_left_or_begins_elsewhere_holds_up_nobody() {
        let (log, pass) = (log(300), Arc::new(Pass::default()));
        let (first, second, gone) = (pass.join(), pass.join(), pass.join());
        drop(gone);
        let middle = Position::new(150);
        assert!(last(&first.read(&log, middle, 100).unwrap()) > middle);
        let mut after = Position::ZERO;
        assert!(!second.read(&log, after, 100).unwrap().is_empty(), "behind the window");
        drop(second);
        after = middle;
        while after < log.head() {
            after = last(&first.read(&log, after, 100).unwrap());
        }
        assert_eq!(after, log.head());
    }
}

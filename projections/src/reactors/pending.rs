//! Commands that wait: in order per key, each key for itself, with a pause after a failure that grows with each attempt.

use super::journal::{CommandId, Outgoing};
use crate::OutboxStatus;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Keys that are dispatched in one round at most.
const ROUND_KEYS_MAX: usize = 512;
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Group {
    queue: VecDeque<Outgoing>,
    attempts: u32,
    due: Option<Instant>,
    error: String,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Pending {
    groups: HashMap<String, Group>,
    count: usize,
}

impl Pending {
    pub(crate) fn add(&mut self, commands: Vec<Outgoing>) {
        self.count += commands.len();
        for command in commands {
            self.groups
                .entry(command.key.clone())
                .or_default()
                .queue
                .push_back(command);
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// All commands of the keys whose turn it is, the oldest first.
    pub(crate) fn due(&self, now: Instant) -> Vec<Vec<Outgoing>> {
        let mut due: Vec<&Group> = self
            .groups
            .values()
            .filter(|group| group.due.is_none_or(|due| due <= now))
            .collect();
        due.sort_unstable_by_key(|group| group.queue.front().map(Outgoing::id));
        due.truncate(ROUND_KEYS_MAX);
        due.into_iter()
            .map(|group| group.queue.iter().cloned().collect())
            .collect()
    }

    /// How long until the next key's turn; `None` if nothing waits.
    pub(crate) fn next_due(&self, now: Instant) -> Option<Duration> {
        let wait = |group: &Group| {
            group
                .due
                .map_or(Duration::ZERO, |due| due.saturating_duration_since(now))
        };
        self.groups.values().map(wait).min()
    }

    /// The first commands of a key are done.
    pub(crate) fn done(&mut self, key: &str, count: usize) {
        let Some(group) = self.groups.get_mut(key) else {
            return;
        };
        self.count -= group.queue.drain(..count.min(group.queue.len())).count();
        if count > 0 {
            (group.attempts, group.due) = (0, None);
        }
        if group.queue.is_empty() {
            self.groups.remove(key);
        }
    }

    /// The first command of a key failed: it is tried again after a pause.
    pub(crate) fn failed(&mut self, key: &str, error: String, now: Instant) {
        if let Some(group) = self.groups.get_mut(key) {
            group.attempts = group.attempts.saturating_add(1);
            let seed = group.queue.front().map_or(0, |command| command.position.get());
            group.due = Some(now + pause(group.attempts, seed));
            group.error = error;
        }
    }

    /// For people: how many wait, and the one that has failed most often.
    pub(crate) fn describe(&self, status: &mut OutboxStatus, what: impl Fn(&Outgoing) -> String) {
        status.pending = self.count as u64;
        let worst = self
            .groups
            .values()
            .filter(|group| group.attempts > 0)
            .max_by_key(|group| group.attempts);
        status.retrying = worst.and_then(|group| {
            let command = group.queue.front()?;
            Some(format!(
                "{}, failed {} times: {}",
                what(command),
                group.attempts,
                group.error
            ))
        });
    }
}

/// Doubles with each attempt; differs between commands, so that they do not all come back at once.
fn pause(attempts: u32, seed: u64) -> Duration {
    let doubled = PAUSE_MIN
        .saturating_mul(1 << attempts.saturating_sub(1).min(16))
        .min(PAUSE_MAX);
    let spread = (seed
        .wrapping_add(u64::from(attempts))
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        >> 32)
        % 50;
    doubled.mul_f64(0.75 + spread as f64 / 100.0)
}

/// What became of the commands of one key.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) key: String,
    pub(crate) done: usize,
    pub(crate) accepted: Vec<CommandId>,
    pub(crate) rejected: Vec<super::journal::Rejected>,
    pub(crate) failed: Option<String>,
}

//! Commands that wait: in order per key, each key for itself, with a pause after a failure that grows with each attempt.
//! A key whose command failed too often is parked: it waits for a person, all others go on.

use super::journal::{CommandId, EventName, Outgoing, ParkedCommand};
use super::send::what;
use crate::failures::{Backoff, DeadLetter, DeadLetterState};
use crate::{OutboxStatus, ProjectionKind};
use annals_core::Position;
use chrono::{DateTime, Utc};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Keys that are dispatched in one round at most.
const ROUND_KEYS_MAX: usize = 512;
/// Longest error that is kept in bytes.
const ERROR_LEN_MAX: usize = 2_000;

#[derive(Default)]
struct Group {
    queue: VecDeque<Outgoing>,
    attempts: u32,
    /// Attempts that count towards the bound.
    failures: u32,
    due: Option<Instant>,
    dead: bool,
    /// Up to where decisions were heeded when it was parked.
    heeded: Position,
    failed: Option<Failed>,
}

/// What is told of a command that failed.
struct Failed {
    error: String,
    event: EventName,
    first: DateTime<Utc>,
    last: DateTime<Utc>,
}

/// Why a command had no effect.
#[derive(Debug)]
pub(crate) struct CommandFailure {
    pub(crate) error: String,
    /// Whether it is the command's own, and not that of the moment.
    pub(crate) counts: bool,
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

    /// Commands that wait for a person, as the outbox has them.
    pub(crate) fn park(&mut self, parked: &[ParkedCommand]) {
        for one in parked {
            if let Some(group) = self.group_of(one.id) {
                (group.attempts, group.failures, group.dead) = (one.attempts, one.attempts, true);
                group.heeded = one.heeded;
                group.failed = Some(Failed {
                    error: one.error.clone(),
                    event: one.event.clone(),
                    first: annals_core::time(one.first),
                    last: annals_core::time(one.last),
                });
            }
        }
    }

    /// The first command of a key, if that is parked, for the outbox.
    pub(crate) fn parked(&mut self, key: &str, heeded: Position) -> Option<ParkedCommand> {
        let group = self.groups.get_mut(key).filter(|group| group.dead)?;
        group.heeded = heeded;
        let (command, failed) = (group.queue.front()?, group.failed.as_ref()?);
        Some(ParkedCommand {
            id: command.id(),
            error: failed.error[..failed.error.floor_char_boundary(ERROR_LEN_MAX)].to_owned(),
            event: failed.event.clone(),
            attempts: group.failures,
            first: failed.first.timestamp_micros(),
            last: failed.last.timestamp_micros(),
            heeded,
        })
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// All commands of the keys whose turn it is, the oldest first.
    pub(crate) fn due(&self, now: Instant) -> Vec<Vec<Outgoing>> {
        let mut due: Vec<&Group> = self
            .groups
            .values()
            .filter(|group| !group.dead && group.due.is_none_or(|due| due <= now))
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
        self.groups.values().filter(|group| !group.dead).map(wait).min()
    }

    /// The first commands of a key are done.
    pub(crate) fn done(&mut self, key: &str, count: usize) {
        let Some(group) = self.groups.get_mut(key) else {
            return;
        };
        self.count -= group.queue.drain(..count.min(group.queue.len())).count();
        if count > 0 {
            group.forget();
        }
        if group.queue.is_empty() {
            self.groups.remove(key);
        }
    }

    /// The first command of a key failed: it is tried again after a pause, or the key is parked. Whether it is.
    pub(crate) fn failed(&mut self, key: &str, failure: CommandFailure, event: EventName, backoff: Backoff) -> bool {
        let Some(group) = self.groups.get_mut(key) else {
            return false;
        };
        group.attempts = group.attempts.saturating_add(1);
        group.failures = group.failures.saturating_add(u32::from(failure.counts));
        // As the outbox keeps it.
        let now = annals_core::time(Utc::now().timestamp_micros());
        group.failed = Some(Failed {
            error: failure.error,
            event,
            first: group.failed.as_ref().map_or(now, |failed| failed.first),
            last: now,
        });
        group.dead = group.failures >= backoff.attempts_max;
        let seed = group.queue.front().map_or(0, |command| command.position.get());
        group.due = Some(Instant::now() + backoff.pause(group.attempts, seed));
        group.dead
    }

    /// A person asked for another attempt at this command, at that place in the log. Whether it was parked; one that was
    /// parked after that has had its attempt.
    pub(crate) fn again(&mut self, id: CommandId, at: Position) -> bool {
        let asked = |group: &&mut Group| !group.dead || group.heeded < at;
        let Some(group) = self.group_of(id).filter(asked) else {
            return false;
        };
        let parked = group.dead;
        (group.failures, group.due, group.dead) = (0, None, false);
        parked
    }

    /// Takes out a command that failed, and is not to be carried out.
    pub(crate) fn take(&mut self, id: CommandId) -> Option<Outgoing> {
        let group = self.group_of(id)?;
        let command = group.queue.pop_front()?;
        group.forget();
        if group.queue.is_empty() {
            self.groups.remove(&command.key);
        }
        self.count -= 1;
        Some(command)
    }

    fn group_of(&mut self, id: CommandId) -> Option<&mut Group> {
        let first = |group: &&mut Group| group.queue.front().is_some_and(|command| command.id() == id);
        self.groups.values_mut().find(first)
    }

    /// Keys that are parked.
    pub(crate) fn dead(&self) -> usize {
        self.groups.values().filter(|group| group.dead).count()
    }

    /// What failed, by key.
    pub(crate) fn letters(&self, reactor: &str) -> Vec<DeadLetter> {
        let mut letters: Vec<_> = self.groups.values().filter_map(|group| group.letter(reactor)).collect();
        letters.sort_unstable_by_key(|letter| (letter.position, letter.number));
        letters
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
                group.failed.as_ref().map_or("", |failed| failed.error.as_str())
            ))
        });
    }
}

impl Group {
    /// Its first command is done: the next one begins anew.
    fn forget(&mut self) {
        (self.attempts, self.failures, self.due, self.dead) = (0, 0, None, false);
        self.failed = None;
    }

    fn letter(&self, reactor: &str) -> Option<DeadLetter> {
        let (command, failed) = (self.queue.front()?, self.failed.as_ref()?);
        (self.failures > 0).then(|| DeadLetter {
            id: format!("{reactor}:{}:{}", command.position, command.number),
            projection: reactor.to_owned(),
            kind: ProjectionKind::Reactor,
            version: None,
            state: if self.dead {
                DeadLetterState::Parked
            } else {
                DeadLetterState::Retrying
            },
            key: Some(command.key.clone()),
            position: command.position,
            event_id: command.causation.clone(),
            event_type: failed.event.0.clone(),
            stream: failed.event.1.clone(),
            number: Some(command.number),
            command: Some(what(command)),
            error: failed.error.clone(),
            attempts: self.failures,
            waiting: self.queue.len() as u64,
            first_failed_at: failed.first,
            last_failed_at: failed.last,
        })
    }
}

/// What became of the commands of one key.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) key: String,
    pub(crate) done: usize,
    pub(crate) accepted: Vec<CommandId>,
    pub(crate) rejected: Vec<super::journal::Rejected>,
    pub(crate) failed: Option<CommandFailure>,
    /// The event of the command that failed.
    pub(crate) failed_at: Option<Position>,
}

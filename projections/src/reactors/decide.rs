//! What people decided about a reactor, and the event that holds it up: its worker asks here whether it may go on.

use super::running::RunningReactor;
use crate::ProjectionState;
use crate::failures::{DeadLetter, DeadLetterState, Decided, Operations, Verb, event_letter, letter};
use crate::store::Letter;
use annals_core::{EventLog, LogError, Position};
use std::time::Instant;

/// See the module.
pub(super) struct Decisions {
    operations: Operations,
    failing: Option<Failing>,
    /// Whether everybody was told that it rests.
    resting: bool,
}

/// An event that cannot be reacted to.
struct Failing {
    letter: Letter,
    /// When it is tried again; none: not by itself.
    due: Option<Instant>,
}

impl Decisions {
    pub(super) fn new(reactor: &str) -> Self {
        Self {
            operations: Operations::new(reactor, None),
            failing: None,
            resting: false,
        }
    }

    pub(super) fn operations(&self) -> &Operations {
        &self.operations
    }

    pub(super) fn read(&mut self, log: &dyn EventLog) -> Result<Vec<Decided>, LogError> {
        self.operations.read(log)
    }

    /// A decision that is not about a command.
    pub(super) fn heed(&mut self, reactor: &RunningReactor, verb: &Verb) {
        let (Verb::Retry(what) | Verb::Skip(what)) = verb else {
            return;
        };
        if self
            .failing
            .take_if(|failing| failing.letter.position == what.position)
            .is_some()
        {
            reactor.progress.enter(ProjectionState::Running, None);
        }
    }

    /// Whether the reactor was told to rest.
    pub(super) fn rests(&mut self, reactor: &RunningReactor) -> bool {
        let rests = self.operations.paused();
        if rests && !self.resting {
            reactor.progress.enter(ProjectionState::Paused, None);
        }
        if !rests && self.resting {
            reactor.progress.enter(ProjectionState::Running, None);
        }
        self.resting = rests;
        rests
    }

    /// Whether no event holds it up.
    pub(super) fn advances(&self) -> bool {
        let waits = |failing: &Failing| failing.due.is_none_or(|due| due > Instant::now());
        !self.failing.as_ref().is_some_and(waits)
    }

    /// Everything up to here is reacted to.
    pub(super) fn passed(&mut self, position: Position) {
        self.failing.take_if(|failing| failing.letter.position <= position);
    }

    /// The next event failed: it is tried again, or the reactor stops there.
    pub(super) fn failed(&mut self, reactor: &RunningReactor, position: Position, key: Option<String>, error: &str) {
        let mut letter = letter(&*reactor.shared.log, position, key, error);
        if let Some(before) = self
            .failing
            .take()
            .filter(|before| before.letter.position == position && before.due.is_some())
        {
            letter.attempts = before.letter.attempts + 1;
            letter.first_failed = before.letter.first_failed;
        }
        let attempts = letter.attempts;
        let pause = reactor.shared.settings.backoff().after(attempts, position.get());
        let text = match pause {
            Some(_) => format!("{error}; it is tried again, {attempts} times so far"),
            None => format!(
                "{error}; tried {attempts} times: correct the reactor's code and restart the server, or retry or skip the \
                 event, see `annals dead-letters list --view {}`",
                reactor.name()
            ),
        };
        match pause {
            Some(_) => reactor.progress.enter(ProjectionState::Running, Some(text)),
            None => reactor.stop(&text),
        }
        let due = pause.map(|pause| Instant::now() + pause);
        self.failing = Some(Failing { letter, due });
    }

    /// The event that the reactor has stopped at.
    pub(super) fn letters(&self, reactor: &str) -> Vec<DeadLetter> {
        let stopped = self.failing.as_ref().filter(|failing| failing.due.is_none());
        let shown = |failing: &Failing| event_letter(reactor, &failing.letter, DeadLetterState::Stopped);
        stopped.map(shown).into_iter().collect()
    }
}

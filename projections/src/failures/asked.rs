//! What people ask of running views and reactors: their dead letters, and decisions about them.
//!
//! A decision is appended to the log by the caller, who can append; [`Projections::decided`] then tells the worker to look.

use super::board::DeadLetter;
use super::operations::{Operation, OperationError, Verb, What};
use crate::{ProjectionState, ProjectionStatus, Projections};
use annals_core::Position;

impl Projections {
    /// All dead letters: view by view and reactor by reactor, in the order these were given. Does no I/O.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        let views = self.running.views.iter().flat_map(|view| view.dead_letters());
        let reactors = self.running.reactors.iter().flat_map(|reactor| reactor.dead_letters());
        views.chain(reactors).collect()
    }

    /// The dead letter of this id.
    pub fn dead_letter(&self, id: &str) -> Option<DeadLetter> {
        self.dead_letters().into_iter().find(|letter| letter.id == id)
    }

    /// The decision to try once more what failed.
    pub fn retry(&self, id: &str, reason: &str) -> Result<Operation, OperationError> {
        self.letter_operation(id, Verb::Retry, reason)
    }

    /// The decision to pass by what failed, for good. It needs a reason.
    pub fn skip(&self, id: &str, reason: &str) -> Result<Operation, OperationError> {
        self.letter_operation(id, Verb::Skip, reason)
    }

    fn letter_operation(&self, id: &str, verb: fn(What) -> Verb, reason: &str) -> Result<Operation, OperationError> {
        let unknown = || OperationError::UnknownLetter(id.chars().take(80).collect());
        self.dead_letter(id).ok_or_else(unknown)?.operation(verb, reason)
    }

    /// The decision that a view or reactor rests, or goes on.
    pub fn pause(&self, name: &str, pause: bool, reason: &str) -> Result<Operation, OperationError> {
        let views = self
            .running
            .views
            .iter()
            .map(|view| (view.name(), Some(view.definition.version())));
        let reactors = self.running.reactors.iter().map(|reactor| (reactor.name(), None));
        let known: Vec<_> = views.chain(reactors).collect();
        let verb = if pause { Verb::Pause } else { Verb::Resume };
        match known.iter().find(|(one, _)| *one == name) {
            Some((name, version)) => {
                if !pause {
                    self.check_rests(name)?;
                }
                Operation::new(name, *version, verb, reason)
            }
            None => Err(OperationError::Unknown {
                name: name.chars().take(80).collect(),
                known: known.iter().map(|(name, _)| (*name).to_owned()).collect(),
            }),
        }
    }

    /// The decision to tell a reactor from where to go on. To be recorded once [`Projections::resume_reactor`] has done it.
    pub fn going_on(&self, name: &str, from: Position, reason: &str) -> Result<Operation, OperationError> {
        let known = || self.running.reactors.iter().map(|reactor| reactor.name());
        if !known().any(|one| one == name) {
            return Err(OperationError::Unknown {
                name: name.chars().take(80).collect(),
                known: known().map(str::to_owned).collect(),
            });
        }
        Ok(Operation::new(name, None, Verb::Resume, reason)?.going_on_from(from))
    }

    /// An error if resuming could only seem to do something.
    fn check_rests(&self, name: &str) -> Result<(), OperationError> {
        let stopped = |status: &ProjectionStatus| status.name == name && status.state == ProjectionState::Stopped;
        let Some(status) = self.statuses().into_iter().find(stopped) else {
            return Ok(());
        };
        let (name, detail) = (name.to_owned(), status.error.unwrap_or_default());
        let reactor = self.running.reactors.iter().find(|reactor| reactor.name() == name);
        if reactor.is_some_and(|reactor| reactor.waits()) {
            Err(OperationError::Waits { name, detail })
        } else {
            Err(OperationError::Stopped { name, detail })
        }
    }

    /// Says that a decision about this view or reactor was appended: its worker looks at once.
    pub fn decided(&self, name: &str) {
        for view in self.running.views.iter().filter(|view| view.name() == name) {
            view.decide();
        }
        for reactor in self.running.reactors.iter().filter(|reactor| reactor.name() == name) {
            reactor.decide();
        }
    }
}

impl DeadLetter {
    /// A decision about it.
    pub fn operation(&self, verb: fn(What) -> Verb, reason: &str) -> Result<Operation, OperationError> {
        let what = What {
            position: self.position,
            key: self.key.clone(),
            number: self.number,
        };
        Operation::new(&self.projection, self.version, verb(what), reason)
    }
}

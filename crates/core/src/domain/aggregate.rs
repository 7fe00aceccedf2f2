//! Aggregates: decide commands against a state that is folded from events.

use super::boundary::Beside;
use super::command::Command;
use super::event::Event;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::future::Future;

/// A state that can be stored and shown. Derive it: `#[derive(Default, State)]`.
pub trait State: Default + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Text of its fields and their types, so that a change of them is noticed.
    const SCHEMA: &'static str;
}

/// A command that the domain does not accept: final, leaves no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Rejection {
    /// Stable, kebab-case, for programs.
    pub code: Cow<'static, str>,
    /// For people: what to do about it.
    pub message: String,
}

/// What comes of a command: events, perhaps none, or a rejection.
pub type Decision<E> = Result<Vec<E>, Rejection>;

/// Accepts a command with these events.
pub fn accept<E>(events: impl IntoIterator<Item = E>) -> Decision<E> {
    Ok(events.into_iter().collect())
}

/// Accepts a command that changes nothing, because what it asks for is already so.
pub fn accept_nothing<E>() -> Decision<E> {
    Ok(Vec::new())
}

/// Rejects a command: `code` is stable and for programs, `message` is for people.
pub fn reject<E>(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Decision<E> {
    Err(Rejection {
        code: code.into(),
        message: message.into(),
    })
}

/// The unit of consistency: one stream of events, one state, decided one command at a time.
pub trait Aggregate: State {
    /// Category of its streams, such as `orders`.
    const CATEGORY: &'static str;
    /// Its commands.
    type Command: Command;
    /// Its events.
    type Event: Event;

    /// Runs once before `decide`, for what needs randomness or a slow computation. Most aggregates need nothing.
    fn prepare(command: Self::Command) -> impl Future<Output = Result<Self::Command, Rejection>> + Send {
        std::future::ready(Ok(command))
    }

    /// Checks that a command fits the id of its stream, right before `decide`, which does not know it. Most aggregates
    /// take any id. Pure.
    fn check_id(id: &str, command: &Self::Command) -> Result<(), Rejection> {
        let _ = (id, command);
        Ok(())
    }

    /// What the command depends on beside the state, if anything: `Some(Beside::new(model))`. The model then decides, and
    /// nothing may come between. Most commands need nothing. Pure.
    fn beside(id: &str, command: &Self::Command) -> Option<Beside<Self>> {
        let _ = (id, command);
        None
    }

    /// Decides a command. Pure: it may be called again for the same command.
    fn decide(&self, command: Self::Command) -> Decision<Self::Event>;

    /// Folds one event into the state. Must accept every event that was ever recorded.
    fn evolve(&mut self, event: &Self::Event);
}

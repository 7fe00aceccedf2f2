//! Reactors: processes that answer events with commands, exactly once.

use super::aggregate::{Aggregate, State};
use super::command::{Command, InvalidCommand};
use super::event_set::{EventSet, Recorded};
use super::view::Keys;
use serde::{Deserialize, Serialize};

/// A command that a reactor sends: to which aggregate, and what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandCall {
    /// Category of the aggregate.
    pub category: String,
    /// Id of the stream.
    pub id: String,
    /// Name of the command.
    pub command: String,
    /// Its fields, MessagePack.
    #[serde(with = "serde_bytes")]
    pub body: Vec<u8>,
}

impl CommandCall {
    /// The command to the aggregate `A` with this id.
    pub fn to<A: Aggregate>(id: impl Into<String>, command: &A::Command) -> Result<Self, InvalidCommand> {
        Ok(Self {
            category: A::CATEGORY.into(),
            id: id.into(),
            command: command.name().into(),
            body: command.to_msgpack()?,
        })
    }
}

/// A process: a state per key folded from events, and commands in answer to them. The commands are kept in an outbox
/// that commits together with the state, so each has its effect exactly once, whatever is killed and restarted.
pub trait Reactor: Send + Sync + 'static {
    /// Its name, unique among reactors and views.
    const NAME: &'static str;
    /// What it reads.
    type Event: EventSet;
    /// Its state per key.
    type State: State;

    /// The keys whose state the event belongs to.
    fn route(&self, event: &Recorded<'_, Self::Event>) -> Keys;

    /// Folds the event into the state.
    fn evolve(&self, state: &mut Self::State, event: &Recorded<'_, Self::Event>);

    /// The commands that the event calls for, given the state with the event in it. An error stops the reactor.
    fn react(&self, state: &Self::State, event: &Recorded<'_, Self::Event>)
    -> Result<Vec<CommandCall>, InvalidCommand>;
}

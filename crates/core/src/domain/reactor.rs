//! Reactors: processes that answer events with commands, exactly once.

use super::aggregate::{Aggregate, State};
use super::command::{Command, InvalidCommand};
use super::event_set::{EventSet, Recorded};
use super::view::Keys;
use serde::{Deserialize, Serialize};
use std::time::Duration;

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

/// What [`Reactor::timers`] asks for: make it with [`after`] and [`cancel_timers`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Timer {
    /// A command that is sent once so much time has gone by since the event was recorded.
    After(Duration, CommandCall),
    /// Of the key, none of the timers that were set before goes off any more.
    CancelAll,
}

/// The command, once so much time has gone by: `after(Duration::from_secs(60), CommandCall::to::<Order>(id, &command)?)`.
pub fn after(delay: Duration, command: CommandCall) -> Timer {
    Timer::After(delay, command)
}

/// No timer of the key that was set before goes off any more.
pub fn cancel_timers() -> Timer {
    Timer::CancelAll
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

    /// The timers that the event sets or cancels for the key, in this order, given the state with the event in it. They are
    /// kept with the state. One goes off when the log's time has reached the event's recorded time and the delay, and then
    /// sends its command as `react` would have, exactly once. An event that occurred more than a day before it was
    /// recorded sets none, because histories are loaded so. Most reactors need none.
    fn timers(&self, state: &Self::State, event: &Recorded<'_, Self::Event>) -> Result<Vec<Timer>, InvalidCommand> {
        let _ = (state, event);
        Ok(Vec::new())
    }
}

//! Stories of a reactor: what happened before, one more event, and the commands that answer it.

use crate::happened::{Happened, Recorder};
use crate::stored::stored;
use annals_core::{Aggregate, CommandCall, Key, Reactor, Recorded, to_json};
use std::collections::BTreeMap;

/// A reactor that has read nothing yet.
pub fn reactor<R: Reactor>(reactor: R) -> ReactorStory<R> {
    ReactorStory {
        reactor,
        recorder: Recorder::default(),
        states: BTreeMap::new(),
    }
}

/// The command to the aggregate `A` with this id, as a reactor sends it.
///
/// # Panics
///
/// When the command cannot be written.
pub fn to<A: Aggregate>(id: &str, command: &A::Command) -> CommandCall {
    CommandCall::to::<A>(id, command).unwrap_or_else(|error| panic!("{error}"))
}

/// A reactor and its states so far.
pub struct ReactorStory<R: Reactor> {
    reactor: R,
    recorder: Recorder,
    states: BTreeMap<Key, R::State>,
}

impl<R: Reactor> ReactorStory<R> {
    /// Reads these events, in this order, whatever commands they call for.
    ///
    /// # Panics
    ///
    /// When an event or a state cannot be read back from its stored form, or the reactor fails.
    #[must_use]
    pub fn given<E: Into<Happened>>(mut self, events: impl IntoIterator<Item = E>) -> Self {
        for event in events {
            self.read(&event.into());
        }
        self
    }

    /// Reads one more event, whose commands matter.
    ///
    /// # Panics
    ///
    /// As [`ReactorStory::given`].
    pub fn when(mut self, event: impl Into<Happened>) -> ReactorOutcome<R> {
        let commands = self.read(&event.into());
        ReactorOutcome { story: self, commands }
    }

    fn read(&mut self, happened: &Happened) -> Vec<CommandCall> {
        let Self {
            reactor,
            recorder,
            states,
        } = self;
        recorder.record(happened, |record| {
            let event = Recorded::<R::Event>::decode(record).unwrap_or_else(|error| panic!("{error}"));
            event.map_or_else(Vec::new, |event| react(reactor, states, &event))
        })
    }
}

fn react<R: Reactor>(
    reactor: &R,
    states: &mut BTreeMap<Key, R::State>,
    event: &Recorded<'_, R::Event>,
) -> Vec<CommandCall> {
    let mut commands = Vec::new();
    for key in reactor.route(event) {
        let state = states.entry(key).or_default();
        reactor.evolve(state, event);
        *state = stored(state);
        commands.extend(reactor.react(state, event).unwrap_or_else(|error| panic!("{error}")));
    }
    commands
}

/// The commands that answered an event.
#[must_use]
pub struct ReactorOutcome<R: Reactor> {
    story: ReactorStory<R>,
    commands: Vec<CommandCall>,
}

impl<R: Reactor> ReactorOutcome<R> {
    /// Exactly these commands, in this order. The story may go on from there.
    ///
    /// # Panics
    ///
    /// When there were others.
    #[track_caller]
    pub fn then(self, expected: impl IntoIterator<Item = CommandCall>) -> ReactorStory<R> {
        let shown = |commands: &[CommandCall]| -> Vec<String> { commands.iter().map(show).collect() };
        let expected: Vec<CommandCall> = expected.into_iter().collect();
        assert_eq!(shown(&self.commands), shown(&expected), "commands of {}", R::NAME);
        self.story
    }

    /// No command.
    ///
    /// # Panics
    ///
    /// When there was one.
    #[track_caller]
    pub fn then_nothing(self) -> ReactorStory<R> {
        self.then([])
    }
}

/// The command as people read it: a difference in MessagePack bytes tells nobody anything.
fn show(call: &CommandCall) -> String {
    let body = to_json(&call.body).map_or_else(|| "malformed".to_owned(), |body| body.to_string());
    format!("{}/{} {} {body}", call.category, call.id, call.command)
}

//! Stories of a reactor: what happened before, one more event, and the commands that answer it, at once or later.

use crate::happened::{Happened, Recorder};
use crate::stored::stored;
use annals_core::{Aggregate, CommandCall, Key, Reactor, Recorded, Timer, to_json};
use std::collections::BTreeMap;
use std::time::Duration;

/// A reactor that has read nothing yet.
pub fn reactor<R: Reactor>(reactor: R) -> ReactorStory<R> {
    ReactorStory {
        reactor,
        recorder: Recorder::default(),
        states: BTreeMap::new(),
        timers: BTreeMap::new(),
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
    timers: BTreeMap<Key, Vec<SetTimer>>,
}

/// A timer that is set: when it was and for how long, and what it sends.
struct SetTimer {
    /// Microseconds since 1970.
    due: i64,
    delay: Duration,
    call: CommandCall,
}

/// An event that occurred longer before it was recorded sets no timer, as in a log.
const LATE_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

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

    /// So much time goes by after the last event: the commands of the timers that go off meanwhile, the first one first.
    /// A timer that was cancelled does not.
    ///
    /// # Panics
    ///
    /// When the time is too long for a clock.
    pub fn when_time_passes(mut self, time: Duration) -> ReactorOutcome<R> {
        let now = self.recorder.pass(time);
        let mut due: Vec<SetTimer> = Vec::new();
        for timers in self.timers.values_mut() {
            due.extend(timers.extract_if(.., |timer| timer.due <= now));
        }
        due.sort_by_key(|timer| timer.due);
        ReactorOutcome {
            story: self,
            commands: due.into_iter().map(|timer| timer.call).collect(),
        }
    }

    /// Exactly these timers are set for the key, in the order in which they were: how long, and what they send.
    ///
    /// # Panics
    ///
    /// When there are others.
    #[track_caller]
    #[must_use]
    pub fn timers(self, key: &str, expected: impl IntoIterator<Item = (Duration, CommandCall)>) -> Self {
        let line = |delay: Duration, call: &CommandCall| format!("after {delay:?}: {}", show(call));
        let set = self.timers.get(&Key::from(key)).map(Vec::as_slice).unwrap_or_default();
        let set: Vec<String> = set.iter().map(|timer| line(timer.delay, &timer.call)).collect();
        let expected: Vec<String> = expected.into_iter().map(|(delay, call)| line(delay, &call)).collect();
        assert_eq!(set, expected, "timers of {key} of {}", R::NAME);
        self
    }

    fn read(&mut self, happened: &Happened) -> Vec<CommandCall> {
        let Self {
            reactor,
            recorder,
            states,
            timers,
        } = self;
        recorder.record(happened, |record| {
            let event = Recorded::<R::Event>::decode(record).unwrap_or_else(|error| panic!("{error}"));
            event.map_or_else(Vec::new, |event| react(reactor, states, timers, &event))
        })
    }
}

fn react<R: Reactor>(
    reactor: &R,
    states: &mut BTreeMap<Key, R::State>,
    timers: &mut BTreeMap<Key, Vec<SetTimer>>,
    event: &Recorded<'_, R::Event>,
) -> Vec<CommandCall> {
    let mut commands = Vec::new();
    for key in reactor.route(event) {
        let set = timers.entry(key.clone()).or_default();
        let state = states.entry(key).or_default();
        reactor.evolve(state, event);
        *state = stored(state);
        commands.extend(reactor.react(state, event).unwrap_or_else(|error| panic!("{error}")));
        for timer in reactor.timers(state, event).unwrap_or_else(|error| panic!("{error}")) {
            let (recorded, occurred) = (event.recorded_at(), event.occurred_at());
            match timer {
                Timer::CancelAll => set.clear(),
                Timer::After(..) if (recorded - occurred).num_microseconds().unwrap_or(i64::MAX) > LATE_MICROS => {}
                Timer::After(delay, call) => set.push(SetTimer {
                    due: recorded.timestamp_micros() + delay.as_micros() as i64,
                    delay,
                    call,
                }),
            }
        }
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

//! Stories of one aggregate: its events so far, a command, and what comes of it.

use crate::happened::{Happened, Recorder, on, written};
use crate::stored::stored;
use annals_core::{Aggregate, Beside, Catalog, Command, Event, Payload, Rejection};
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// Id of the stream that a story of an aggregate is about.
pub const STORY_ID: &str = "self";

/// An aggregate to which these events happened: `given::<Account>([Opened { .. }])`.
///
/// # Panics
///
/// When an event or the state cannot be read back from its stored form.
pub fn given<A: Aggregate>(events: impl IntoIterator<Item = A::Event>) -> Given<A> {
    let mut given = Given {
        state: A::default(),
        happened: Vec::new(),
    };
    for event in events {
        given.evolve(event);
    }
    given
}

/// An aggregate's state after what happened to it.
#[derive(Debug)]
pub struct Given<A> {
    state: A,
    /// All events of the story, for decision models.
    happened: Vec<Happened>,
}

impl<A: Aggregate> Given<A> {
    fn evolve(&mut self, event: A::Event) {
        self.state.evolve(&read_back(&event));
        self.state = stored(&self.state);
        self.happened.push(on(&format!("{}/{STORY_ID}", A::CATEGORY), event));
    }

    /// Beside what happened to the aggregate, this happened in other streams: `.beside([on("users/bob", registered())])`.
    /// Only commands with a decision model see it.
    #[must_use]
    pub fn beside(mut self, events: impl IntoIterator<Item = Happened>) -> Self {
        self.happened.extend(events);
        self
    }

    /// What comes of the command.
    ///
    /// # Panics
    ///
    /// When the command cannot be read back from its stored form.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a story reads better without borrowing its parts"
    )]
    pub fn when(self, command: A::Command) -> Outcome<A> {
        let body = command.to_msgpack().unwrap_or_else(|error| panic!("{error}"));
        let command = A::Command::from_msgpack(command.name(), &body).unwrap_or_else(|error| panic!("{error}"));
        let decision = wait_for(A::prepare(command)).and_then(|command| match A::beside(STORY_ID, &command) {
            Some(model) => self.folded(model).decide(&self.state, command),
            None => self.state.decide(command),
        });
        Outcome { given: self, decision }
    }

    /// The model with everything that happened within its boundary.
    fn folded(&self, mut model: Beside<A>) -> Beside<A> {
        let boundary = model.boundary();
        let tags: Vec<String> = boundary.tags().iter().map(written).collect();
        let mut recorder = Recorder::default();
        for happened in &self.happened {
            let of_type = boundary.types().is_empty() || boundary.types().contains(&happened.event_type());
            let inside = of_type && tags.iter().all(|tag| happened.tags().contains(tag));
            recorder.record(happened, |record| {
                if inside {
                    let applied = model.apply(&Catalog::default(), record);
                    applied.unwrap_or_else(|error| panic!("{error}"));
                }
            });
        }
        model
    }

    /// The state, to be looked at.
    pub fn state(&self) -> &A {
        &self.state
    }
}

/// What came of a command.
#[derive(Debug)]
pub struct Outcome<A: Aggregate> {
    given: Given<A>,
    decision: Result<Vec<A::Event>, Rejection>,
}

impl<A: Aggregate> Outcome<A>
where
    A::Event: PartialEq + Debug,
{
    /// Exactly these events. The story may go on from there.
    ///
    /// # Panics
    ///
    /// When something else came of it.
    #[track_caller]
    pub fn then(mut self, expected: impl IntoIterator<Item = A::Event>) -> Given<A> {
        let expected: Vec<A::Event> = expected.into_iter().collect();
        match self.decision {
            Ok(events) => assert_eq!(events, expected, "other events than expected"),
            Err(rejection) => panic!("rejected with {rejection}, expected {expected:?}"),
        }
        for event in expected {
            self.given.evolve(event);
        }
        self.given
    }

    /// Accepted without an event, because it is already so.
    ///
    /// # Panics
    ///
    /// When there were events or a rejection.
    #[track_caller]
    pub fn then_nothing(self) -> Given<A> {
        self.then([])
    }

    /// Rejected with this code. Returns what the rejection says to people.
    ///
    /// # Panics
    ///
    /// When it was accepted, or rejected with another code.
    #[track_caller]
    pub fn then_rejected(self, code: &str) -> String {
        match self.decision {
            Ok(events) => panic!("accepted with {events:?}, expected the rejection {code}"),
            Err(rejection) => {
                assert_eq!(rejection.code, code, "rejected, but with {rejection}");
                rejection.message
            }
        }
    }
}

fn read_back<E: Event>(event: &E) -> E {
    let known = event.event_type();
    let bytes = event.encode().unwrap_or_else(|error| panic!("{error}"));
    let payload = Payload {
        content_type: annals_core::CONTENT_TYPE_MSGPACK,
        schema_version: known.version,
        bytes: &bytes,
    };
    match E::decode(known.name, payload) {
        Ok(Some(event)) => event,
        Ok(None) => panic!("{} is written but not read", known.name),
        Err(error) => panic!("{error}"),
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread: `prepare` is async, tests of domain code are not.
fn wait_for<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

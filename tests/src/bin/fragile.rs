//! A backend of its own, as a user writes one, whose view and reactor fail where the suite of operations wants them to:
//! the view `sums` at the text `poison`, the view `strict` at `stop`, the reactor `postman` because nobody takes its
//! letters. With `FRAGILE_MENDED` in the environment nothing fails: that is the program after its bugs were mended.

use annals::Backend;
use annals_core::{
    Aggregate, Command, CommandCall, Decision, Event, FailurePolicy, InvalidCommand, Key, Keys, Reactor, Recorded, Row,
    State, View, accept,
};
use std::process::ExitCode;

#[derive(Event)]
enum NoteEvent {
    NoteWritten { text: String, amount: i64 },
}

#[derive(Command)]
enum NoteCommand {
    Write { text: String, amount: i64 },
}

#[derive(Default, State)]
struct Note {
    written: u64,
}

impl Aggregate for Note {
    const CATEGORY: &'static str = "notes";
    type Command = NoteCommand;
    type Event = NoteEvent;

    fn decide(&self, command: NoteCommand) -> Decision<NoteEvent> {
        let NoteCommand::Write { text, amount } = command;
        accept([NoteEvent::NoteWritten { text, amount }])
    }

    fn evolve(&mut self, _: &NoteEvent) {
        self.written += 1;
    }
}

#[derive(Event)]
enum LetterEvent {
    LetterSent { text: String },
}

#[derive(Command)]
enum LetterCommand {
    Send { text: String },
}

#[derive(Default, State)]
struct Letter {
    sent: u64,
}

impl Aggregate for Letter {
    const CATEGORY: &'static str = "letters";
    type Command = LetterCommand;
    type Event = LetterEvent;

    fn decide(&self, command: LetterCommand) -> Decision<LetterEvent> {
        let LetterCommand::Send { text } = command;
        accept([LetterEvent::LetterSent { text }])
    }

    fn evolve(&mut self, _: &LetterEvent) {
        self.sent += 1;
    }
}

#[derive(Default, Row)]
struct Sum {
    #[index]
    amount: i64,
    notes: u64,
}

/// Adds up the amounts of each stream.
fn add(row: Option<Sum>, event: &Recorded<'_, NoteEvent>) -> Option<Sum> {
    let NoteEvent::NoteWritten { amount, .. } = event.data();
    let row = row.unwrap_or_default();
    Some(Sum {
        amount: row.amount + amount,
        notes: row.notes + 1,
    })
}

struct Sums {
    mended: bool,
}

impl View for Sums {
    const NAME: &'static str = "sums";
    const VERSION: u32 = 1;
    const ON_FAILURE: FailurePolicy = FailurePolicy::Park;
    type Event = NoteEvent;
    type Row = Sum;

    fn route(&self, event: &Recorded<'_, NoteEvent>) -> Keys {
        Keys::one(event.stream_id())
    }

    fn fold(&self, _: &Key, row: Option<Sum>, event: &Recorded<'_, NoteEvent>) -> Option<Sum> {
        let NoteEvent::NoteWritten { text, .. } = event.data();
        assert!(self.mended || text != "poison", "the poison works");
        add(row, event)
    }
}

struct Strict {
    mended: bool,
}

impl View for Strict {
    const NAME: &'static str = "strict";
    const VERSION: u32 = 1;
    type Event = NoteEvent;
    type Row = Sum;

    fn route(&self, event: &Recorded<'_, NoteEvent>) -> Keys {
        Keys::one(event.stream_id())
    }

    fn fold(&self, _: &Key, row: Option<Sum>, event: &Recorded<'_, NoteEvent>) -> Option<Sum> {
        let NoteEvent::NoteWritten { text, .. } = event.data();
        assert!(self.mended || text != "stop", "here it stops");
        add(row, event)
    }
}

struct Postman;

impl Reactor for Postman {
    const NAME: &'static str = "postman";
    type Event = NoteEvent;
    type State = Note;

    fn route(&self, event: &Recorded<'_, NoteEvent>) -> Keys {
        Keys::one(event.stream_id())
    }

    fn evolve(&self, state: &mut Note, _: &Recorded<'_, NoteEvent>) {
        state.written += 1;
    }

    fn react(&self, _: &Note, event: &Recorded<'_, NoteEvent>) -> Result<Vec<CommandCall>, InvalidCommand> {
        let NoteEvent::NoteWritten { text, .. } = event.data();
        if !text.starts_with("post") {
            return Ok(Vec::new());
        }
        let send = LetterCommand::Send { text: text.clone() };
        Ok(vec![CommandCall::to::<Letter>(event.stream_id(), &send)?])
    }
}

fn main() -> ExitCode {
    let mended = std::env::var_os("FRAGILE_MENDED").is_some();
    let backend = Backend::new("fragile")
        .aggregate::<Note>()
        .view(Sums { mended })
        .view(Strict { mended })
        .reactor(Postman);
    annals::run(if mended { backend.aggregate::<Letter>() } else { backend })
}

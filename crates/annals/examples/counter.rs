//! A domain of one's own, as small as can be: counters. `docs/tutorial.md` explains it.

use annals::prelude::*;

#[derive(Event)]
enum CounterEvent {
    Raised { by: u32 },
    Lowered { by: u32 },
}

#[derive(Command)]
enum CounterCommand {
    Raise { by: u32 },
    Lower { by: u32 },
}

#[derive(Default, State)]
struct Counter {
    value: u64,
}

impl Aggregate for Counter {
    const CATEGORY: &'static str = "counters";
    type Command = CounterCommand;
    type Event = CounterEvent;

    fn decide(&self, command: CounterCommand) -> Decision<CounterEvent> {
        match command {
            CounterCommand::Raise { by } => accept([CounterEvent::Raised { by }]),
            CounterCommand::Lower { by } if u64::from(by) > self.value => {
                reject("too-low", format!("the counter is at {}", self.value))
            }
            CounterCommand::Lower { by } => accept([CounterEvent::Lowered { by }]),
        }
    }

    fn evolve(&mut self, event: &CounterEvent) {
        match event {
            CounterEvent::Raised { by } => self.value += u64::from(*by),
            CounterEvent::Lowered { by } => self.value -= u64::from(*by),
        }
    }
}

struct Totals;

#[derive(Default, Row)]
struct Total {
    #[index]
    value: i64,
    changes: u64,
}

impl View for Totals {
    const NAME: &'static str = "totals";
    const VERSION: u32 = 1;
    type Event = CounterEvent;
    type Row = Total;

    fn route(&self, event: &Recorded<'_, CounterEvent>) -> Keys {
        Keys::one(event.stream_id())
    }

    fn fold(&self, _: &Key, row: Option<Total>, event: &Recorded<'_, CounterEvent>) -> Option<Total> {
        let Total { value, changes } = row.unwrap_or_default();
        let by = match event.data() {
            CounterEvent::Raised { by } => i64::from(*by),
            CounterEvent::Lowered { by } => -i64::from(*by),
        };
        Some(Total {
            value: value + by,
            changes: changes + 1,
        })
    }
}

fn main() -> ExitCode {
    annals::run(Backend::new("counter").aggregate::<Counter>().view(Totals))
}

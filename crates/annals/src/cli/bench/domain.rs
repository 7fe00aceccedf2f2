//! What the benchmark measures with: one aggregate that accepts everything, one view that counts, and which streams.
//!
//! Commands and appends go to streams of different categories, so that what was appended before does not have to be
//! folded by the commands: each measurement of commands begins with streams that are empty.

use crate::backend::Backend;
use annals_commerce as commerce;
use annals_core::{Aggregate, Command, Decision, Event, Key, Keys, Recorded, Row, State, View, accept};

/// Streams that events go to.
pub(super) const STREAMS: u64 = 100_000;
/// Category of the streams that events are appended to.
pub(super) const CATEGORY: &str = "bench";
pub(super) const EVENT_TYPE: &str = "Benched";

/// Name of the domain that a log of the benchmark is written by.
pub(super) const DOMAIN: &str = "bench";

/// The benchmark's own aggregate and view.
pub(super) fn backend() -> Backend {
    Backend::new(DOMAIN).aggregate::<Bench>().view(Counts)
}

/// The reference domain with all its views, on a log of the benchmark. No reactor: its commands would be load of its own.
pub(super) fn commerce_backend() -> Backend {
    commerce_named(DOMAIN)
}

/// The same on a log of orders, which the reference domain itself can open, too.
pub(super) fn orders_backend() -> Backend {
    commerce_named("commerce")
}

fn commerce_named(name: &'static str) -> Backend {
    Backend::new(name)
        .aggregate::<commerce::User>()
        .aggregate::<commerce::Order>()
        .aggregate::<commerce::Payment>()
        .aggregate::<commerce::Shipment>()
        .view(commerce::Orders)
        .view(commerce::Payments)
        .view(commerce::Customers)
        .view(commerce::SalesByDay)
        .view(commerce::PaymentsByMethod)
        .view(commerce::Products)
        .view(commerce::OnlineUsers)
}

/// What is appended, as the view reads it.
#[derive(Event)]
pub(super) enum BenchEvent {
    Benched { note: String },
}

/// What commands come to.
#[derive(Event)]
pub(super) enum WrittenEvent {
    BenchWritten { note: String },
}

#[derive(Command)]
pub(super) enum BenchCommand {
    Write { note: String },
}

#[derive(Default, State)]
pub(super) struct Bench {
    events: u64,
}

impl Aggregate for Bench {
    const CATEGORY: &'static str = "bench-commands";
    type Command = BenchCommand;
    type Event = WrittenEvent;

    fn decide(&self, command: BenchCommand) -> Decision<WrittenEvent> {
        let BenchCommand::Write { note } = command;
        accept([WrittenEvent::BenchWritten { note }])
    }

    fn evolve(&mut self, _event: &WrittenEvent) {
        self.events += 1;
    }
}

/// Counts the events and bytes of every stream.
pub(super) struct Counts;

#[derive(Default, Row)]
pub(super) struct Count {
    #[index]
    events: u64,
    bytes: u64,
}

impl View for Counts {
    const NAME: &'static str = "bench-counts";
    const VERSION: u32 = 1;
    type Event = BenchEvent;
    type Row = Count;

    fn route(&self, event: &Recorded<'_, BenchEvent>) -> Keys {
        Keys::one(event.stream_id())
    }

    fn fold(&self, _key: &Key, row: Option<Count>, event: &Recorded<'_, BenchEvent>) -> Option<Count> {
        let BenchEvent::Benched { note } = event.data();
        let row = row.unwrap_or_default();
        Some(Count {
            events: row.events + 1,
            bytes: row.bytes + note.len() as u64,
        })
    }
}

/// Ids of streams in an order that jumps about, different for each worker.
pub(super) struct StreamIds(u64);

impl StreamIds {
    pub(super) fn of(worker: usize) -> Self {
        Self(worker as u64 * 1_000_003)
    }

    pub(super) fn next_id(&mut self) -> String {
        // A prime that does not divide the number of streams: each stream comes once before one comes again.
        self.0 = self.0.wrapping_add(61_403);
        format!("s-{:06}", self.0 % STREAMS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_gets_its_turn() {
        let mut ids = StreamIds::of(3);
        let seen: std::collections::HashSet<String> = (0..STREAMS).map(|_| ids.next_id()).collect();
        assert_eq!(seen.len() as u64, STREAMS);
    }
}

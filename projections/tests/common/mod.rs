//! A small domain, a log in memory, and what the suites do with them again and again.

#![allow(dead_code, reason = "each suite uses a part of it")]
#![allow(clippy::unwrap_used, reason = "helpers of tests, where a failure is a panic")]

use annals_core::*;
use annals_event_store::MemoryLog;
use annals_projections::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Debug, Clone, PartialEq, Event)]
pub(crate) enum CountEvent {
    Counted { amount: i64, label: String },
    Emptied,
    Poisoned,
    Grown { bytes: usize },
}

#[derive(Debug, Default, Clone, PartialEq, Row)]
pub(crate) struct Total {
    #[index]
    pub(crate) total: i64,
    #[index]
    pub(crate) label: String,
    pub(crate) entries: u32,
    pub(crate) filler: String,
}

/// Sums per stream; `Poisoned` panics, so that it can be seen what a failing event does.
pub(crate) struct Totals;

impl View for Totals {
    const NAME: &'static str = "totals";
    const VERSION: u32 = 1;
    type Event = CountEvent;
    type Row = Total;

    fn route(&self, event: &Recorded<'_, CountEvent>) -> Keys {
        match event.data() {
            CountEvent::Poisoned => Keys::many([event.stream_id(), "zzz"]),
            _ => Keys::one(event.stream_id()),
        }
    }

    fn fold(&self, key: &Key, row: Option<Total>, event: &Recorded<'_, CountEvent>) -> Option<Total> {
        let mut row = row.unwrap_or_default();
        match event.data() {
            CountEvent::Counted { amount, label } => {
                row.total += amount;
                row.label.clone_from(label);
                row.entries += 1;
            }
            CountEvent::Emptied => return None,
            CountEvent::Poisoned => assert_ne!(key.as_str(), "zzz", "the poison works"),
            CountEvent::Grown { bytes } => row.filler = "x".repeat(*bytes),
        }
        Some(row)
    }
}

/// Counts events in one row that is always hot, and does not mind the poison.
pub(crate) struct Census;

#[derive(Debug, Default, PartialEq, Row)]
pub(crate) struct Count {
    pub(crate) events: u64,
    pub(crate) last: u64,
}

impl View for Census {
    const NAME: &'static str = "census";
    const VERSION: u32 = 1;
    type Event = CountEvent;
    type Row = Count;

    fn route(&self, _: &Recorded<'_, CountEvent>) -> Keys {
        Keys::one("all")
    }

    fn fold(&self, _: &Key, row: Option<Count>, event: &Recorded<'_, CountEvent>) -> Option<Count> {
        let events = row.map_or(0, |row| row.events) + 1;
        Some(Count {
            events,
            last: event.position().get(),
        })
    }
}

pub(crate) fn append(log: &dyn Appender, id: &str, events: &[CountEvent]) -> Position {
    let events = events
        .iter()
        .map(|event| NewEvent::new(event.event_type().name, event.encode().unwrap()))
        .collect();
    let append = log.append(Append::new(StreamId::new("counts", id).unwrap(), events));
    futures_ready(append).unwrap().position
}

/// The result of a future that never waits, as those of the log in memory.
pub(crate) fn futures_ready<T>(future: BoxFuture<'static, T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(future)
}

pub(crate) fn counted(amount: i64, label: &str) -> CountEvent {
    CountEvent::Counted {
        amount,
        label: label.into(),
    }
}

pub(crate) fn catalog() -> Arc<Catalog> {
    let mut catalog = Catalog::default();
    catalog.own::<CountEvent>("counts").unwrap();
    Arc::new(catalog)
}

pub(crate) fn settings(dir: &Path) -> ProjectionSettings {
    let mut settings = ProjectionSettings::new(dir.join("views"), dir.join("reactors"));
    settings.reserve_bytes = 0;
    settings
}

/// Starts the views and waits until their first build is over: what is appended then is followed, not built.
pub(crate) fn start(log: &MemoryLog, views: Vec<ViewDefinition>, settings: ProjectionSettings) -> Projections {
    let projections = Projections::start(Arc::new(log.clone()), catalog(), views, Vec::new(), None, settings).unwrap();
    until("the views are built", || {
        let building = [ProjectionState::Starting, ProjectionState::Rebuilding];
        let statuses = projections.statuses();
        !statuses.iter().any(|status| building.contains(&status.state))
    });
    projections
}

/// Waits until a condition holds; ten seconds are taken for "never".
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(10), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn reach(projections: &Projections, view: &str, position: Position) {
    let view = projections.view(view).unwrap();
    until("the view is there", || view.position() >= position);
}

/// What the rows must be: folded in memory.
pub(crate) fn folded(log: &dyn EventLog, view: &ViewDefinition) -> BTreeMap<String, Vec<u8>> {
    fold_rows(log, &catalog(), view, Cutoff::Head, None, &mut |_| {}).unwrap()
}

pub(crate) fn dumped(settings: &ProjectionSettings, view: &ViewDefinition) -> BTreeMap<String, Vec<u8>> {
    dump_rows(settings, view).unwrap().into_iter().collect()
}

pub(crate) fn total(row: &[u8]) -> Total {
    rmp_serde::from_slice(row).unwrap()
}

/// Numbers that look random and are the same in each run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    pub(crate) fn event(&mut self) -> CountEvent {
        match self.roll(12) {
            0 => CountEvent::Emptied,
            1 => CountEvent::Grown {
                bytes: self.roll(60_000) as usize,
            },
            _ => counted(
                self.roll(100) as i64 - 50,
                ["red", "green", "blue"][self.roll(3) as usize],
            ),
        }
    }
}

/// Asks for a `note` of each tenth that a stream has counted, numbered, to a stream of its own.
pub(crate) struct Tens;

#[derive(Default, State)]
pub(crate) struct Counted {
    total: i64,
    noted: i64,
}

impl Reactor for Tens {
    const NAME: &'static str = "tens";
    type Event = CountEvent;
    type State = Counted;

    fn route(&self, event: &Recorded<'_, CountEvent>) -> Keys {
        Keys::one(event.stream_id())
    }

    fn evolve(&self, state: &mut Counted, event: &Recorded<'_, CountEvent>) {
        if let CountEvent::Counted { amount, .. } = event.data() {
            state.noted = state.total / 10;
            state.total += amount;
        }
    }

    fn react(&self, state: &Counted, event: &Recorded<'_, CountEvent>) -> Result<Vec<CommandCall>, InvalidCommand> {
        assert_ne!(event.data(), &CountEvent::Poisoned, "the poison works");
        let note = |ten: i64| CommandCall {
            category: "notes".into(),
            id: event.stream_id().into(),
            command: "note".into(),
            body: ten.to_be_bytes().to_vec(),
        };
        if !matches!(event.data(), CountEvent::Counted { .. }) {
            return Ok(Vec::new());
        }
        Ok((state.noted + 1..=state.total / 10).map(note).collect())
    }
}

/// The notes that there must be: 1, 2, 3 … up to the tens that each stream has counted.
pub(crate) fn tens(log: &dyn EventLog) -> BTreeMap<String, Vec<i64>> {
    let mut totals: BTreeMap<String, i64> = BTreeMap::new();
    for block in log.read(Position::ZERO, usize::MAX).unwrap() {
        for record in block.iter() {
            let record = record.unwrap();
            if let Some(event) = catalog().decode::<CountEvent>(&record).unwrap()
                && let CountEvent::Counted { amount, .. } = event.data()
            {
                *totals.entry(event.stream_id().to_owned()).or_default() += amount;
            }
        }
    }
    let tens = |(id, total): (String, i64)| (id, (1..=total / 10).collect());
    totals.into_iter().map(tens).collect()
}

//! Views are folded by several threads at a time: what comes of it is what one thread makes, byte by byte.

#![allow(clippy::unwrap_used, reason = "tests, where a failure is a panic")]

use super::directory::ViewsDir;
use crate::common::{CountEvent, Dice, Total, Totals, append, catalog, counted, reach, settings, start, until};
use crate::store::{Scan, Stores};
use crate::{
    Cutoff, ProjectionSettings, ProjectionState, Projections, RebuildOptions, ViewDefinition, fold_rows,
    rebuild_offline,
};
use annals_core::*;
use annals_event_store::MemoryLog;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

/// Rows of streams, of labels and of all, so that an event has several keys in several parts.
struct Sides;

impl View for Sides {
    const NAME: &'static str = "sides";
    const VERSION: u32 = 1;
    type Event = CountEvent;
    type Row = Total;

    fn route(&self, event: &Recorded<'_, CountEvent>) -> Keys {
        match event.data() {
            CountEvent::Counted { label, .. } => Keys::many([event.stream_id(), label.as_str(), "all"]),
            CountEvent::Poisoned => Keys::many(["zzz", "all"]),
            _ => Keys::one(event.stream_id()),
        }
    }

    fn fold(&self, key: &Key, row: Option<Total>, event: &Recorded<'_, CountEvent>) -> Option<Total> {
        let mut row = Totals.fold(key, row, event)?;
        // Events that are folded in another order make another row.
        row.total = row.total.wrapping_mul(31).wrapping_add(event.position().get() as i64);
        Some(row)
    }
}

fn some_events(log: &MemoryLog, dice: &mut Dice, count: usize) {
    let mut left = count;
    while left > 0 {
        let some = (1 + dice.roll(20) as usize).min(left);
        let events: Vec<CountEvent> = (0..some)
            .map(|_| match dice.roll(15) {
                0 => CountEvent::Emptied,
                1 => CountEvent::Grown {
                    bytes: dice.roll(300) as usize,
                },
                _ => counted(
                    dice.roll(100) as i64 - 50,
                    ["red", "green", "blue"][dice.roll(3) as usize],
                ),
            })
            .collect();
        append(log, &format!("c-{}", dice.roll(900)), &events);
        left -= some;
    }
}

fn with_threads(dir: &Path, threads: usize) -> ProjectionSettings {
    let mut settings = settings(&dir.join(format!("threads-{threads}")));
    settings.fold_threads = threads;
    // Small, so that rows are written, forgotten and read again many times.
    settings.build_rows_max = 1_500;
    settings.table_bytes_max = 100_000;
    // So that large batches go past the table in memory, and small ones do not.
    settings.spill_bytes = 1;
    settings
}

fn rebuilt(log: &MemoryLog, view: &ViewDefinition, settings: &ProjectionSettings) {
    rebuild_offline(log, &catalog(), view, settings, RebuildOptions::default(), &mut |_| {}).unwrap();
}

/// All keys and values of the store that serves a view.
fn stored(view: &ViewDefinition, settings: &ProjectionSettings) -> Vec<(Vec<u8>, Vec<u8>)> {
    let directory = ViewsDir::open(&settings.views_dir, Arc::new(Stores::new(settings))).unwrap();
    let store = directory
        .open_serving(&directory.serving(view.name()).unwrap())
        .unwrap();
    let mut all = Vec::new();
    let range = (Bound::Unbounded, Bound::Unbounded);
    let reader = store.rows().reader();
    reader
        .scan(range, &mut |key, value| {
            all.push((key.to_vec(), value.to_vec()));
            Ok(Scan::Go)
        })
        .unwrap();
    all
}

#[test]
fn several_threads_make_the_same_bytes_as_one() {
    let (log, mut dice) = (MemoryLog::new("test"), Dice(11));
    some_events(&log, &mut dice, 6_000);
    for history in [History::Off, History::Kept] {
        let (dir, view) = (
            tempfile::tempdir().unwrap(),
            ViewDefinition::of(Sides).with_history(history),
        );
        let of = |threads| {
            let settings = with_threads(dir.path(), threads);
            rebuilt(&log, &view, &settings);
            stored(&view, &settings)
        };
        let alone = of(1);
        assert!(alone.len() > 900, "{} keys and values", alone.len());
        for threads in [2, 8] {
            assert!(of(threads) == alone, "{threads} threads, history {history:?}");
        }
    }
}

#[test]
fn a_worker_that_was_stopped_long_ago_catches_up_to_what_a_rebuild_makes() {
    let (log, mut dice, dir) = (MemoryLog::new("test"), Dice(5), tempfile::tempdir().unwrap());
    for history in [History::Off, History::Kept] {
        let view = ViewDefinition::of(Sides).with_history(history);
        let mut settings = with_threads(&dir.path().join(format!("{history:?}")), 3);
        // A lag of more than four batches is caught up with in batches of eight.
        settings.batch_events_max = 300;
        some_events(&log, &mut dice, 500);
        rebuilt(&log, &view, &settings);
        some_events(&log, &mut dice, 4_000);
        let projections = start(&log, vec![view.clone()], settings.clone());
        reach(&projections, "sides", log.head());
        projections.shutdown();
        let caught_up = stored(&view, &settings);
        rebuilt(&log, &view, &settings);
        assert!(caught_up == stored(&view, &settings), "history {history:?}");
    }
}

fn stopped(log: &MemoryLog, settings: ProjectionSettings) -> (Position, String) {
    let projections: Projections = start(log, vec![ViewDefinition::of(Sides)], settings);
    until("the view stops", || {
        projections.statuses()[0].state == ProjectionState::Stopped
    });
    let mut statuses = projections.statuses();
    let status = statuses.remove(0);
    (status.position, status.error.unwrap_or_default())
}

#[test]
fn the_first_event_that_fails_is_the_one_that_is_told_however_many_threads_meet_others() {
    let (log, mut dice, dir) = (MemoryLog::new("test"), Dice(3), tempfile::tempdir().unwrap());
    some_events(&log, &mut dice, 700);
    let before = log.head();
    for _ in 0..40 {
        append(&log, "c-1", &[CountEvent::Poisoned]);
        some_events(&log, &mut dice, 30);
    }
    let told = [1, 4].map(|threads| {
        let mut settings = with_threads(dir.path(), threads);
        settings.attempts_max = 1;
        stopped(&log, settings)
    });
    assert_eq!(told[0], told[1]);
    let (_, error) = &told[0];
    assert!(error.contains(&format!("{}", before.next())), "{error}");
}

/// How many versions and index entries there are that have ended, and how many of them at a position or before.
fn ended(all: &[(Vec<u8>, Vec<u8>)], at: Position) -> (usize, usize) {
    let past = all.iter().filter(|(key, _)| matches!(key[0], b'h' | b'j'));
    let to = |value: &[u8]| u64::from_be_bytes(*value.first_chunk().unwrap());
    let past: Vec<u64> = past.map(|(_, value)| to(value)).collect();
    (past.len(), past.iter().filter(|to| **to <= at.get()).count())
}

#[test]
fn what_ended_before_the_horizon_goes_and_all_that_can_be_asked_for_stays() {
    let (log, mut dice, dir) = (MemoryLog::new("test"), Dice(23), tempfile::tempdir().unwrap());
    some_events(&log, &mut dice, 1_500);
    let view = ViewDefinition::of(Sides);
    let settings = with_threads(dir.path(), 2);
    rebuilt(&log, &view, &settings);
    for part in [3, 2, 1] {
        let horizon = Position::new(log.head().get() / part);
        let before = ended(&stored(&view, &settings), horizon);
        assert!(before.1 > 100, "{before:?}");
        {
            let directory = ViewsDir::open(&settings.views_dir, Arc::new(Stores::new(&settings))).unwrap();
            let store = directory
                .open_serving(&directory.serving(view.name()).unwrap())
                .unwrap();
            let mut checkpoint = store.rows().checkpoint().unwrap().unwrap();
            checkpoint.history = Some(horizon);
            store.rows().commit(&[], &checkpoint).unwrap();
            let mut after = None;
            loop {
                after = store
                    .rows()
                    .forget_past(&checkpoint, after.as_ref(), 1 + dice.roll(200) as usize)
                    .unwrap();
                if after.is_none() {
                    break;
                }
            }
            store.rows().sync().unwrap();
            assert_eq!(store.rows().horizon(), horizon);
            let reader = store.rows().reader();
            for _ in 0..6 {
                let at = Position::new(horizon.get() + dice.roll(log.head().get() - horizon.get() + 1));
                let folded = fold_rows(&log, &catalog(), &view, Cutoff::Position(at), None, &mut |_| {}).unwrap();
                let keys = (0..900).map(|n| format!("c-{n}"));
                for key in keys.chain(["all", "red"].map(String::from)) {
                    let row = reader.row_as_of(&key, at).unwrap().map(|stored| stored.row);
                    assert_eq!(row.as_ref(), folded.get(&key), "{key} at {at}, horizon {horizon}");
                }
            }
        }
        assert_eq!(ended(&stored(&view, &settings), horizon), (before.0 - before.1, 0));
    }
}

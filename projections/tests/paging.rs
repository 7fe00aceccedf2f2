//! Paging while others write: a row that stays where it is comes exactly once, whatever comes, goes and moves around it.

#![allow(clippy::unwrap_used, reason = "helpers of tests, where a failure is a panic")]

mod common;

use annals_core::*;
use annals_event_store::MemoryLog;
use annals_projections::*;
use common::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Rows that stay in place, at totals 10, 20, 30…, while their contents change.
const STAY: i64 = 60;
/// Walks through all pages, each with another query.
const WALKS: u64 = 48;

fn stays(number: i64) -> String {
    format!("stay-{number:02}")
}

/// Rows come, go and move between those that stay, and those that stay get other contents.
fn write(log: &MemoryLog, dice: &mut Dice) {
    let mover = format!(
        "{}-{}",
        ["a", "move", "stay-30", "z"][dice.roll(4) as usize],
        dice.roll(20)
    );
    match dice.roll(6) {
        0 => append(log, &mover, &[CountEvent::Emptied]),
        1 => {
            let bytes = dice.roll(3_000) as usize;
            append(
                log,
                &stays(dice.roll(STAY as u64) as i64 + 1),
                &[CountEvent::Grown { bytes }],
            )
        }
        _ => {
            let label = ["red", "green", "blue"][dice.roll(3) as usize];
            append(log, &mover, &[counted(dice.roll(400) as i64 - 200, label)])
        }
    };
}

/// The queries in turn: by key, by number and by text, whole and in part, in both orders; and which rows that stay they
/// have, from the lowest on.
fn query(number: u64, dice: &mut Dice) -> (ListQuery, Vec<String>) {
    let value = |number: i64| Some(IndexValue::Number(number.into()));
    let between = |from, to| IndexRange::Between { from, to };
    let (from, to) = (dice.roll(30) as i64 + 1, dice.roll(30) as i64 + 31);
    let (index, rows) = match number % 4 {
        0 => (None, 1..=STAY),
        1 => (Some(("total", between(None, None))), 1..=STAY),
        2 => (Some(("total", between(value(from * 10), value(to * 10)))), from..=to),
        _ => (
            Some(("label", IndexRange::Equal(IndexValue::Text("blue".into())))),
            1..=STAY,
        ),
    };
    let query = ListQuery {
        index: index.map(|(name, range)| (name.to_owned(), range)),
        order: if (number / 4).is_multiple_of(2) {
            Order::Ascending
        } else {
            Order::Descending
        },
        limit: dice.roll(7) as usize + 1,
        ..ListQuery::default()
    };
    (query, rows.map(stays).collect())
}

#[test]
fn a_row_that_stays_comes_exactly_once_while_others_come_go_and_move() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new("test");
    for number in 1..=STAY {
        append(&log, &stays(number), &[counted(number * 10, "blue")]);
    }
    let projections = start(&log, vec![ViewDefinition::of(Totals)], settings(dir.path()));
    let view = projections.view("totals").unwrap();
    reach(&projections, "totals", log.head());
    let (done, written) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut dice = Dice(7);
            while !done.load(Ordering::Relaxed) {
                write(&log, &mut dice);
                written.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        let walked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| walk_all(&view, &written)));
        done.store(true, Ordering::Relaxed);
        walked.unwrap();
    });
    assert!(written.load(Ordering::Relaxed) > WALKS, "nothing was written meanwhile");
    projections.shutdown();
}

fn walk_all(view: &ViewHandle, written: &AtomicU64) {
    let mut dice = Dice(11);
    for number in 0..WALKS {
        let (query, mut expected) = query(number, &mut dice);
        if query.order == Order::Descending {
            expected.reverse();
        }
        // Between two pages there is always something new.
        let found = walk(view, &query, || {
            let before = written.load(Ordering::Relaxed);
            until("something is written", || written.load(Ordering::Relaxed) > before);
        });
        let stayed: Vec<&String> = found.iter().filter(|key| expected.contains(key)).collect();
        assert_eq!(stayed, expected.iter().collect::<Vec<_>>(), "{query:?}");
        if query.index.is_none() {
            let mut distinct = found.clone();
            distinct.sort();
            distinct.dedup();
            assert_eq!(distinct.len(), found.len(), "a key comes twice: {found:?}");
        }
    }
}

fn walk(view: &ViewHandle, query: &ListQuery, pause: impl Fn()) -> Vec<String> {
    let (mut query, mut keys) = (query.clone(), Vec::new());
    loop {
        let page = view.list(&query).unwrap();
        keys.extend(page.rows.into_iter().map(|(key, _)| key));
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => return keys,
        }
        pause();
    }
}

//! Rows, lists and indexes as of every position, against the fold of the log's beginning; versions of rows; and views
//! that keep none.

#![allow(clippy::unwrap_used, reason = "helpers of tests, where a failure is a panic")]

mod common;

use annals_core::*;
use annals_event_store::MemoryLog;
use annals_projections::*;
use common::*;
use std::collections::BTreeMap;
use std::time::Duration;

type Rows = BTreeMap<String, Vec<u8>>;

fn folded_at(log: &MemoryLog, view: &ViewDefinition, position: u64) -> Rows {
    let at = Cutoff::Position(Position::new(position));
    fold_rows(log, &catalog(), view, at, None, &mut |_| {}).unwrap()
}

fn all_pages(view: &ViewHandle, query: &ListQuery) -> Vec<(String, Vec<u8>)> {
    let (mut query, mut rows) = (query.clone(), Vec::new());
    loop {
        let page = view.list(&query).unwrap();
        assert_eq!(Some(page.position), query.as_of.or(Some(page.position)));
        rows.extend(page.rows);
        match page.next_cursor {
            // The cursor alone says as of which position.
            Some(cursor) => {
                query.cursor = Some(cursor);
                query.as_of = None;
            }
            None => return rows,
        }
    }
}

fn as_of(position: u64, order: Order, index: Option<(&str, IndexRange)>, limit: usize) -> ListQuery {
    ListQuery {
        index: index.map(|(name, range)| (name.to_owned(), range)),
        order,
        limit,
        cursor: None,
        as_of: Some(Position::new(position)),
    }
}

/// By total from `low` to `high`, then by key.
fn by_total(rows: &Rows, low: i64, high: i64) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = rows
        .iter()
        .map(|(key, row)| (total(row).total, key.clone(), row.clone()))
        .filter(|(total, ..)| (low..=high).contains(total))
        .collect();
    found.sort();
    found.into_iter().map(|(_, key, row)| (key, row)).collect()
}

fn assert_as_folded(log: &MemoryLog, handle: &ViewHandle, position: u64, dice: &mut Dice) {
    let rows = folded_at(log, handle.definition(), position);
    let in_order: Vec<_> = rows.clone().into_iter().collect();
    let limit = 1 + dice.roll(9) as usize;
    assert!(
        all_pages(handle, &as_of(position, Order::Ascending, None, limit)) == in_order,
        "{position}"
    );
    let mut down = all_pages(handle, &as_of(position, Order::Descending, None, limit));
    down.reverse();
    assert!(down == in_order, "{position}, backwards");
    for n in 0..12 {
        let key = format!("k{n}");
        let answer = handle.row_as_of(&key, Position::new(position)).unwrap();
        assert!(answer.row.as_ref() == rows.get(&key), "{key} at {position}");
        assert_eq!(answer.position.get(), position);
    }
    let low = dice.roll(60) as i64 - 30;
    let high = low + dice.roll(40) as i64;
    let number = |number: i64| Some(IndexValue::Number(number.into()));
    let range = || IndexRange::Between {
        from: number(low),
        to: number(high),
    };
    let expected = by_total(&rows, low, high);
    let found = all_pages(
        handle,
        &as_of(position, Order::Ascending, Some(("total", range())), limit),
    );
    assert!(found == expected, "{low}..={high} at {position}");
    let mut down = all_pages(
        handle,
        &as_of(position, Order::Descending, Some(("total", range())), limit),
    );
    down.reverse();
    assert!(down == expected, "{low}..={high} at {position}, backwards");
    let red = IndexRange::Equal(IndexValue::Text("red".into()));
    let found = all_pages(handle, &as_of(position, Order::Ascending, Some(("label", red)), limit));
    let reds: Vec<_> = in_order
        .into_iter()
        .filter(|(_, row)| total(row).label == "red")
        .collect();
    assert!(found == reds, "red at {position}");
}

/// Few keys and small totals, so that keys come, go and come back, and stand in an index again and again.
fn some_events(log: &MemoryLog, dice: &mut Dice, count: u64) {
    for _ in 0..count {
        let id = format!("k{}", dice.roll(12));
        let events: Vec<_> = (0..=dice.roll(4))
            .map(|_| match dice.roll(7) {
                0 => CountEvent::Emptied,
                1 => counted(0, "red"),
                _ => counted(dice.roll(21) as i64 - 10, ["red", "green"][dice.roll(2) as usize]),
            })
            .collect();
        append(log, &id, &events);
    }
}

#[test]
fn every_position_is_answered_as_the_log_up_to_there_folds() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new("test");
    let mut settings = settings(dir.path());
    // Spills and merges go on meanwhile.
    settings.spill_every = Duration::from_millis(15);
    let mut dice = Dice(31);
    for round in 0..5 {
        let projections = start(&log, vec![ViewDefinition::of(Totals)], settings.clone());
        some_events(&log, &mut dice, 60);
        reach(&projections, "totals", log.head());
        let handle = projections.view("totals").unwrap();
        if round == 3 {
            projections.rebuild("totals").unwrap();
            until("it is rebuilt", || {
                projections.rebuild_status("totals").unwrap().state == RebuildState::Done
            });
        }
        for _ in 0..40 {
            let position = dice.roll(log.head().get() + 1);
            assert_as_folded(&log, &handle, position, &mut dice);
        }
        projections.shutdown();
    }
}

#[test]
fn pages_as_of_a_position_are_of_one_state_whatever_is_written_between_them() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new("test");
    for n in 0..20 {
        append(&log, &format!("k{n:02}"), &[counted(n, "red")]);
    }
    let projections = start(&log, vec![ViewDefinition::of(Totals)], settings(dir.path()));
    reach(&projections, "totals", log.head());
    let handle = projections.view("totals").unwrap();
    let at = log.head();
    let first = handle.list(&as_of(at.get(), Order::Ascending, None, 5)).unwrap();
    for n in 0..20 {
        let event = if n % 2 == 0 {
            CountEvent::Emptied
        } else {
            counted(100, "blue")
        };
        reach(&projections, "totals", append(&log, &format!("k{n:02}"), &[event]));
    }
    let mut query = as_of(at.get(), Order::Ascending, None, 5);
    query.cursor = first.next_cursor;
    let mut keys: Vec<_> = first.rows.into_iter().map(|(key, _)| key).collect();
    keys.extend(all_pages(&handle, &query).into_iter().map(|(key, row)| {
        assert_eq!(total(&row).label, "red");
        key
    }));
    let all: Vec<_> = (0..20).map(|n| format!("k{n:02}")).collect();
    assert_eq!(keys, all);
    let plain = handle
        .list(&ListQuery {
            limit: 2,
            ..ListQuery::default()
        })
        .unwrap();
    query.cursor = plain.next_cursor;
    assert_eq!(
        handle.list(&query).unwrap_err(),
        QueryError::BadCursor,
        "a cursor of another list"
    );
}

fn history(handle: &ViewHandle, key: &str, order: Order, limit: usize) -> Vec<RowVersion> {
    let mut query = HistoryQuery {
        order,
        limit,
        cursor: None,
        with_before: true,
    };
    let mut versions = Vec::new();
    loop {
        let page = handle.history(key, &query).unwrap();
        assert!(page.versions.len() <= limit);
        versions.extend(page.versions);
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => return versions,
        }
    }
}

/// From, to and row of each version, by folding up to every position.
fn folded_versions(log: &MemoryLog, view: &ViewDefinition, key: &str) -> Vec<(u64, Option<u64>, Option<Vec<u8>>)> {
    let mut versions: Vec<(u64, Option<u64>, Option<Vec<u8>>)> = Vec::new();
    let mut now = None;
    for position in 1..=log.head().get() {
        let row = folded_at(log, view, position).remove(key);
        if row != now {
            if let Some(last) = versions.last_mut() {
                last.1 = Some(position);
            }
            versions.push((position, None, row.clone()));
            now = row;
        }
    }
    versions
}

#[test]
fn the_versions_of_a_row_are_those_that_the_log_tells() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new("test");
    let mut dice = Dice(77);
    some_events(&log, &mut dice, 50);
    let view = ViewDefinition::of(Totals);
    let projections = start(&log, vec![view.clone()], settings(dir.path()));
    some_events(&log, &mut dice, 30);
    reach(&projections, "totals", log.head());
    let handle = projections.view("totals").unwrap();
    for n in 0..12 {
        let key = format!("k{n}");
        let expected = folded_versions(&log, &view, &key);
        for limit in [1, 2, 7, 1_000] {
            let up = history(&handle, &key, Order::Ascending, limit);
            let told: Vec<_> = up
                .iter()
                .map(|version| (version.from.get(), version.to.map(Position::get), version.row.clone()))
                .collect();
            assert!(told == expected, "{key}, {limit} at a time");
            for pair in up.windows(2) {
                assert!(pair[1].before == pair[0].row);
            }
            let mut down = history(&handle, &key, Order::Descending, limit);
            down.reverse();
            assert!(down == up, "{key}, {limit} at a time, backwards");
        }
        for version in history(&handle, &key, Order::Ascending, 1_000) {
            let record = log.read_one(version.from).unwrap().unwrap();
            assert_eq!(version.event, EventNote::of(&record.view().unwrap()));
        }
    }
    assert!(history(&handle, "nobody", Order::Descending, 5).is_empty());
}

/// `Totals` without history.
struct Forgetful;

impl View for Forgetful {
    const NAME: &'static str = "totals";
    const VERSION: u32 = 1;
    const HISTORY: History = History::Off;
    type Event = CountEvent;
    type Row = Total;

    fn route(&self, event: &Recorded<'_, CountEvent>) -> Keys {
        Totals.route(event)
    }

    fn fold(&self, key: &Key, row: Option<Total>, event: &Recorded<'_, CountEvent>) -> Option<Total> {
        Totals.fold(key, row, event)
    }
}

#[test]
fn a_view_without_history_says_so_and_is_built_anew_when_it_is_switched_on() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new("test");
    let settings = settings(dir.path());
    append(&log, "ann", &[counted(1, "red"), counted(1, "red")]);
    let projections = start(&log, vec![ViewDefinition::of(Forgetful)], settings.clone());
    reach(&projections, "totals", log.head());
    let handle = projections.view("totals").unwrap();
    assert!(handle.row("ann").unwrap().row.is_some());
    let error = handle.row_as_of("ann", Position::new(1)).unwrap_err();
    assert!(
        matches!(&error, QueryError::NoHistory(view) if view == "totals"),
        "{error}"
    );
    let error = handle.list(&as_of(1, Order::Ascending, None, 5)).unwrap_err();
    assert!(matches!(error, QueryError::NoHistory(_)), "{error}");
    projections.shutdown();
    let projections = start(&log, vec![ViewDefinition::of(Totals)], settings);
    reach(&projections, "totals", log.head());
    let handle = projections.view("totals").unwrap();
    let row = handle.row_as_of("ann", Position::new(1)).unwrap().row.unwrap();
    assert_eq!(total(&row).total, 1);
    let beyond = handle.row_as_of("ann", Position::new(3)).unwrap_err();
    assert!(
        matches!(beyond, QueryError::InFuture { head, .. } if head == log.head()),
        "{beyond}"
    );
}

/// Waits until the horizon stands at the log's end, so that nothing is left of what was.
fn forgotten(handle: &ViewHandle, head: Position) {
    until("the past is forgotten", || {
        let before = handle.row_as_of("k1", head.previous());
        matches!(before, Err(QueryError::BeforeHorizon { horizon, .. }) if horizon == head)
    });
}

#[test]
fn what_is_older_than_the_time_for_which_history_is_kept_is_refused_and_told() {
    let (dir, log, mut dice) = (tempfile::tempdir().unwrap(), MemoryLog::new("test"), Dice(8));
    let view = ViewDefinition::of(Totals);
    let mut settings = settings(dir.path());
    // Longer than any test runs: all is there. Then nothing is kept.
    settings.history_kept = Some(Duration::from_secs(86_400));
    let some = |dice: &mut Dice| {
        for _ in 0..60 {
            let event = dice.event();
            append(&log, &format!("k{}", dice.roll(6)), &[event]);
        }
        append(&log, "k1", &[counted(1, "red"), counted(2, "red")]);
    };
    some(&mut dice);
    let projections = start(&log, vec![view.clone()], settings.clone());
    reach(&projections, "totals", log.head());
    let handle = projections.view("totals").unwrap();
    for position in 1..=log.head().get() {
        assert_as_folded(&log, &handle, position, &mut dice);
    }
    let page = handle.history("k1", &history_of(100)).unwrap();
    assert_eq!(page.cut_at, None);
    projections.shutdown();

    settings.history_kept = Some(Duration::ZERO);
    for rebuild in [false, true] {
        let projections = start(&log, vec![view.clone()], settings.clone());
        let handle = projections.view("totals").unwrap();
        if rebuild {
            projections.rebuild("totals").unwrap();
            until("it is rebuilt", || {
                projections.rebuild_status("totals").unwrap().state == RebuildState::Done
            });
        }
        some(&mut dice);
        reach(&projections, "totals", log.head());
        forgotten(&handle, log.head());
        assert_as_folded(&log, &handle, log.head().get(), &mut dice);
        let page = handle.history("k1", &history_of(100)).unwrap();
        assert_eq!((page.cut_at, page.versions.len()), (Some(log.head()), 1));
        projections.shutdown();
    }
    // What is gone does not come back when more is to be kept, and is still refused.
    settings.history_kept = None;
    let projections = start(&log, vec![view], settings);
    let handle = projections.view("totals").unwrap();
    let gone = handle.row_as_of("k1", log.head().previous()).unwrap_err().to_string();
    assert!(gone.contains(&format!("from position {} on", log.head())), "{gone}");
    projections.shutdown();
}

fn history_of(limit: usize) -> HistoryQuery {
    HistoryQuery {
        order: Order::Descending,
        limit,
        cursor: None,
        with_before: false,
    }
}

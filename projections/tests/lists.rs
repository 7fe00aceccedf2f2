//! Lists by key and by index, page by page.

#![allow(clippy::unwrap_used, reason = "helpers of tests, where a failure is a panic")]

mod common;

use annals_core::*;
use annals_event_store::MemoryLog;
use annals_projections::*;
use common::*;

fn keys(view: &ViewHandle, query: &ListQuery) -> Vec<String> {
    let mut query = query.clone();
    let mut keys = Vec::new();
    loop {
        let page = view.list(&query).unwrap();
        assert!(page.rows.len() <= query.limit);
        keys.extend(page.rows.into_iter().map(|(key, _)| key));
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => return keys,
        }
    }
}

fn by(index: &str, range: IndexRange) -> ListQuery {
    ListQuery {
        index: Some((index.into(), range)),
        limit: 3,
        ..ListQuery::default()
    }
}

fn between(from: Option<i64>, to: Option<i64>) -> IndexRange {
    let number = |number: i64| IndexValue::Number(number.into());
    IndexRange::Between {
        from: from.map(number),
        to: to.map(number),
    }
}

/// k0 … k9 with totals -5 … 4, every third one red.
fn ten(log: &MemoryLog, dir: &std::path::Path) -> (Projections, ViewHandle) {
    for n in 0..10 {
        let label = if n % 3 == 0 { "red" } else { "blue" };
        append(log, &format!("k{n}"), &[counted(0, "green"), counted(n - 5, label)]);
    }
    append(log, "k4", &[CountEvent::Grown { bytes: 40_000 }]);
    let projections = start(log, vec![ViewDefinition::of(Totals)], settings(dir));
    reach(&projections, "totals", log.head());
    let view = projections.view("totals").unwrap();
    (projections, view)
}

#[test]
fn a_list_runs_through_its_pages_in_both_orders() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new("test");
    let (_running, view) = ten(&log, dir.path());
    let all: Vec<String> = (0..10).map(|n| format!("k{n}")).collect();
    let backwards: Vec<String> = all.iter().rev().cloned().collect();
    for limit in [1, 3, 10, 50] {
        let query = ListQuery {
            limit,
            ..ListQuery::default()
        };
        assert_eq!(keys(&view, &query), all);
        let query = ListQuery {
            order: Order::Descending,
            ..query
        };
        assert_eq!(keys(&view, &query), backwards);
    }
}

#[test]
fn an_index_finds_by_value_and_by_range_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new("test");
    let (_running, view) = ten(&log, dir.path());
    let red = IndexRange::Equal(IndexValue::Text("red".into()));
    assert_eq!(keys(&view, &by("label", red.clone())), ["k0", "k3", "k6", "k9"]);
    let descending = ListQuery {
        order: Order::Descending,
        ..by("label", red)
    };
    assert_eq!(keys(&view, &descending), ["k9", "k6", "k3", "k0"]);
    assert_eq!(
        keys(&view, &by("total", between(Some(-2), Some(1)))),
        ["k3", "k4", "k5", "k6"]
    );
    assert_eq!(keys(&view, &by("total", between(Some(3), None))), ["k8", "k9"]);
    assert_eq!(keys(&view, &by("total", between(None, Some(-4)))), ["k0", "k1"]);
    assert!(keys(&view, &by("total", between(Some(2), Some(1)))).is_empty());
    let green = IndexRange::Equal(IndexValue::Text("green".into()));
    assert!(
        keys(&view, &by("label", green)).is_empty(),
        "values that rows had before are not found"
    );
}

#[test]
fn a_row_that_moves_between_two_pages_is_neither_lost_nor_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new("test");
    let (running, view) = ten(&log, dir.path());
    let mut query = by("total", between(None, None));
    let first = view.list(&query).unwrap();
    assert_eq!(first.rows.len(), 3);
    append(&log, "k9", &[CountEvent::Emptied]);
    reach(&running, "totals", append(&log, "k5", &[counted(100, "blue")]));
    query.cursor = first.next_cursor;
    query.limit = 100;
    assert_eq!(keys(&view, &query), ["k3", "k4", "k6", "k7", "k8", "k5"]);
}

#[test]
fn wrong_questions_are_answered_with_what_to_ask() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new("test");
    let (_running, view) = ten(&log, dir.path());
    let unknown = view.list(&by("colour", between(None, None))).unwrap_err().to_string();
    assert!(unknown.contains("total, label"), "{unknown}");
    let kind = view.list(&by("label", between(Some(1), None))).unwrap_err();
    assert!(matches!(
        kind,
        QueryError::WrongKind {
            kind: IndexKind::Text,
            ..
        }
    ));
    assert_eq!(view.index_kind("total").unwrap(), IndexKind::Number);
    let of_another_list = view
        .list(&by("total", between(Some(0), None)))
        .unwrap()
        .next_cursor
        .unwrap();
    for cursor in ["", "x", "zz", "0", "ff00", "é2", &of_another_list, &"00".repeat(9_000)] {
        let query = ListQuery {
            cursor: Some(cursor.into()),
            ..ListQuery::default()
        };
        assert_eq!(view.list(&query).unwrap_err(), QueryError::BadCursor, "{cursor}");
    }
    let most = ListQuery {
        limit: usize::MAX,
        ..ListQuery::default()
    };
    assert_eq!(view.list(&most).unwrap().rows.len(), 10);
}

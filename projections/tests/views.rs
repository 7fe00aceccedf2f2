//! Views as their readers and operators meet them.

#![allow(clippy::unwrap_used, reason = "helpers of tests, where a failure is a panic")]

mod common;

use annals_core::*;
use annals_event_store::MemoryLog;
use annals_projections::*;
use common::*;
use std::time::Duration;

#[test]
fn what_is_appended_is_soon_in_the_view() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new("test");
    let projections = start(&log, vec![ViewDefinition::of(Totals)], settings(dir.path()));
    let position = append(&log, "ann", &[counted(5, "red"), counted(7, "blue")]);
    reach(&projections, "totals", position);
    let answer = projections.view("totals").unwrap().row("ann").unwrap();
    let row = total(&answer.row.unwrap());
    assert_eq!((row.total, row.label.as_str(), row.entries), (12, "blue", 2));
    assert_eq!((answer.position, answer.epoch), (position, log.epoch()));
    assert!(projections.view("totals").unwrap().row("bob").unwrap().row.is_none());
    assert!(projections.view("nothing").is_none());
    projections.shutdown();
}

#[test]
fn a_reader_waits_for_what_it_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new("test");
    let projections = start(&log, vec![ViewDefinition::of(Totals)], settings(dir.path()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let view = projections.view("totals").unwrap();
    let position = append(&log, "ann", &[counted(5, "red")]);
    assert!(runtime.block_on(view.wait_for(position, Duration::from_secs(5))) >= position);
    assert!(view.row("ann").unwrap().row.is_some());
    let reached = runtime.block_on(view.wait_for(position.next(), Duration::from_millis(20)));
    assert_eq!(reached, position);
}

#[test]
fn an_etag_changes_when_the_row_does_and_only_then() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new("test");
    let projections = start(&log, vec![ViewDefinition::of(Totals)], settings(dir.path()));
    let view = projections.view("totals").unwrap();
    let mut etags = Vec::new();
    for id in ["ann", "bob", "ann"] {
        reach(&projections, "totals", append(&log, id, &[counted(1, "red")]));
        etags.push(view.row("ann").unwrap().etag);
    }
    assert_eq!(etags[0], etags[1]);
    assert_ne!(etags[1], etags[2]);
    assert_eq!(view.row("nobody").unwrap().etag, "");
}

#[test]
fn whatever_is_stopped_when_the_rows_are_those_of_the_pure_fold() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new("test");
    let mut settings = settings(dir.path());
    settings.batch_rows_max = 20;
    settings.table_bytes_max = 50_000;
    let mut dice = Dice(7);
    let view = ViewDefinition::of(Totals);
    for round in 0..12 {
        let projections = start(&log, vec![view.clone(), ViewDefinition::of(Census)], settings.clone());
        for _ in 0..dice.roll(150) {
            let id = format!("k{}", dice.roll(40));
            let events: Vec<_> = (0..=dice.roll(4)).map(|_| dice.event()).collect();
            append(&log, &id, &events);
        }
        if round % 3 == 0 {
            reach(&projections, "totals", log.head());
        }
        projections.shutdown();
    }
    let projections = start(&log, vec![view.clone()], settings.clone());
    reach(&projections, "totals", log.head());
    projections.shutdown();
    assert!(dumped(&settings, &view) == folded(&log, &view));
}

#[test]
fn a_failing_event_stops_its_view_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new("test");
    let (totals, census) = (ViewDefinition::of(Totals), ViewDefinition::of(Census));
    let projections = start(&log, vec![totals, census], settings(dir.path()));
    append(&log, "ann", &[counted(1, "red"), counted(1, "red")]);
    let poison = append(&log, "bob", &[counted(3, "red"), CountEvent::Poisoned]);
    let last = append(&log, "ann", &[counted(1, "red")]);
    reach(&projections, "census", last);
    until("the view stops", || {
        projections.statuses()[0].state == ProjectionState::Stopped
    });
    let status = &projections.statuses()[0];
    assert_eq!(
        status.position,
        poison.previous(),
        "all before the failing event is folded"
    );
    assert_eq!(status.lag_events, 2);
    let error = status.error.as_deref().unwrap();
    for part in ["event 4", "Poisoned", "the poison works", "VERSION"] {
        assert!(error.contains(part), "{error} does not say {part}");
    }
    let view = projections.view("totals").unwrap();
    assert_eq!(
        total(&view.row("bob").unwrap().row.unwrap()).total,
        3,
        "what it has is served on"
    );
    assert_eq!(projections.statuses()[1].state, ProjectionState::Running);
    assert_eq!(projections.statuses()[1].lag_seconds, 0.0);
}

#[test]
fn a_row_that_grows_beyond_its_bound_stops_the_view_and_says_which() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new("test");
    let mut settings = settings(dir.path());
    settings.row_bytes_max = 100_000;
    append(&log, "ann", &[counted(1, "red"), CountEvent::Grown { bytes: 90_000 }]);
    let projections = start(&log, vec![ViewDefinition::of(Totals)], settings);
    reach(&projections, "totals", Position::new(2));
    append(
        &log,
        "ann",
        &[
            counted(1, "red"),
            CountEvent::Grown { bytes: 200_000 },
            counted(1, "red"),
        ],
    );
    until("the view stops", || {
        projections.statuses()[0].state == ProjectionState::Stopped
    });
    let status = &projections.statuses()[0];
    assert_eq!(status.position, Position::new(3));
    assert!(status.error.as_deref().unwrap().contains("\"ann\""), "{status:?}");
    let row = total(&projections.view("totals").unwrap().row("ann").unwrap().row.unwrap());
    assert_eq!((row.total, row.filler.len()), (2, 90_000));
}

#[test]
fn events_that_only_look_like_ours_are_not_folded() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new("test");
    let event = NewEvent::new("Counted", counted(5, "red").encode().unwrap());
    let foreign = Append::new(StreamId::new("elsewhere", "ann").unwrap(), vec![event]);
    let position = futures_ready(log.append(foreign)).unwrap().position;
    let projections = start(&log, vec![ViewDefinition::of(Totals)], settings(dir.path()));
    reach(&projections, "totals", position);
    assert!(projections.view("totals").unwrap().row("ann").unwrap().row.is_none());
}

#[test]
fn a_full_disk_makes_the_view_wait_and_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new("test");
    let mut settings = settings(dir.path());
    start(&log, vec![ViewDefinition::of(Totals)], settings.clone()).shutdown();
    settings.reserve_bytes = u64::MAX;
    let projections = start(&log, vec![ViewDefinition::of(Totals)], settings.clone());
    append(&log, "ann", &[counted(1, "red")]);
    until("the view waits", || {
        projections.statuses()[0].state == ProjectionState::WaitingForSpace
    });
    assert!(
        projections.statuses()[0]
            .error
            .as_deref()
            .unwrap()
            .contains("free some space")
    );
    assert!(projections.view("totals").unwrap().row("ann").unwrap().row.is_none());
    projections.shutdown();
    settings.reserve_bytes = 0;
    let projections = start(&log, vec![ViewDefinition::of(Totals)], settings);
    reach(&projections, "totals", Position::new(1));
}

#[test]
fn two_of_one_name_and_names_that_are_no_paths_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = std::sync::Arc::new(MemoryLog::new("test"));
    let views = vec![ViewDefinition::of(Totals), ViewDefinition::of(Totals)];
    let started = Projections::start(log, catalog(), views, Vec::new(), None, settings(dir.path()));
    assert!(matches!(started, Err(ProjectionError::NameTwice(name)) if name == "totals"));
}

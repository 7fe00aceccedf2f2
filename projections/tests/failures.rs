//! Events that fail: tried again, stopped at or parked with their key, retried and skipped by people. No failing view
//! ever touches another.

#![allow(clippy::unwrap_used, reason = "helpers of tests, where a failure is a panic")]

mod common;

use annals_core::*;
use annals_event_store::MemoryLog;
use annals_projections::*;
use common::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// Sums per stream as [`Totals`] does, and fails as it is told to.
struct Fragile;

/// While this is true, `Poisoned` cannot be folded.
static POISON_WORKS: AtomicBool = AtomicBool::new(true);
/// So many of the next folds of `Emptied` fail.
static HICCUPS: AtomicU32 = AtomicU32::new(0);
/// The tests that share these take turns.
static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn turn() -> std::sync::MutexGuard<'static, ()> {
    let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    POISON_WORKS.store(true, Ordering::SeqCst);
    HICCUPS.store(0, Ordering::SeqCst);
    turn
}

impl View for Fragile {
    const NAME: &'static str = "fragile";
    const VERSION: u32 = 1;
    const ON_FAILURE: FailurePolicy = FailurePolicy::Park;
    type Event = CountEvent;
    type Row = Total;

    fn route(&self, event: &Recorded<'_, CountEvent>) -> Keys {
        assert_ne!(event.stream_id(), "nowhere", "no key for this one");
        match event.data() {
            CountEvent::Poisoned => Keys::many([event.stream_id(), "shared"]),
            _ => Keys::one(event.stream_id()),
        }
    }

    fn fold(&self, key: &Key, row: Option<Total>, event: &Recorded<'_, CountEvent>) -> Option<Total> {
        let mut row = row.unwrap_or_default();
        row.entries += 1;
        match event.data() {
            CountEvent::Counted { amount, label } => {
                row.total += amount;
                row.label.push_str(label);
            }
            CountEvent::Emptied => {
                let hiccup = HICCUPS.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
                assert!(hiccup.is_err(), "a hiccup");
            }
            CountEvent::Poisoned => {
                let works = key.as_str() != "shared" && POISON_WORKS.load(Ordering::SeqCst);
                assert!(!works, "the poison works");
            }
            CountEvent::Grown { bytes } => row.filler = "x".repeat(*bytes),
        }
        Some(row)
    }
}

fn quick(dir: &Path) -> ProjectionSettings {
    let mut settings = settings(dir);
    settings.attempts_max = 3;
    settings.retry_pause_min = Duration::from_millis(2);
    settings.retry_pause_max = Duration::from_millis(10);
    settings
}

fn fragile() -> ViewDefinition {
    ViewDefinition::of(Fragile)
}

fn decide(projections: &Projections, log: &MemoryLog, operation: &Operation) -> Position {
    let metadata = Metadata {
        actor: Some("ops@example.com".into()),
        ..Metadata::default()
    };
    let appended = futures_ready(log.append(operation.append(metadata).unwrap())).unwrap();
    projections.decided(operation.projection());
    appended.position
}

/// The one dead letter that there is, once no attempt is left.
fn dead(projections: &Projections) -> DeadLetter {
    until("there is a dead letter", || {
        let letters = projections.dead_letters();
        letters.len() == 1 && letters[0].state != DeadLetterState::Retrying
    });
    projections.dead_letters().remove(0)
}

fn row(projections: &Projections, key: &str) -> (Option<Total>, Option<Position>) {
    let answer = projections.view("fragile").unwrap().row(key).unwrap();
    (answer.row.as_deref().map(total), answer.parked)
}

fn entries(projections: &Projections, key: &str) -> u32 {
    row(projections, key).0.map_or(0, |row| row.entries)
}

fn state(projections: &Projections) -> ProjectionState {
    projections.statuses()[0].state
}

#[test]
fn a_poisoned_key_is_parked_and_all_others_go_on() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new("test");
    let projections = start(&log, vec![fragile()], quick(dir.path()));
    append(&log, "ann", &[counted(1, "a"), CountEvent::Poisoned, counted(2, "b")]);
    append(&log, "bob", &[counted(5, "c")]);
    append(&log, "ann", &[counted(4, "d")]);
    reach(&projections, "fragile", log.head());
    let letter = dead(&projections);
    assert_eq!(
        (letter.key.as_deref(), letter.position, letter.event_type.as_str()),
        (Some("ann"), Position::new(2), "Poisoned")
    );
    assert_eq!(
        (letter.stream.as_str(), letter.attempts, letter.waiting),
        ("counts/ann", 3, 3)
    );
    assert!(letter.error.contains("the poison works"), "{}", letter.error);
    assert!(letter.first_failed_at <= letter.last_failed_at);

    let (ann, parked) = row(&projections, "ann");
    assert_eq!(
        (ann.unwrap().total, parked),
        (1, Some(Position::new(2))),
        "served as it stands, and says so"
    );
    assert_eq!((entries(&projections, "bob"), entries(&projections, "shared")), (1, 1));
    let page = projections
        .view("fragile")
        .unwrap()
        .list(&ListQuery::default())
        .unwrap();
    assert_eq!(page.parked, BTreeMap::from([("ann".to_owned(), Position::new(2))]));
    let status = &projections.statuses()[0];
    assert_eq!((status.state, status.dead_letters), (ProjectionState::Running, 1));
}

#[test]
fn a_skip_folds_what_waited_in_order_and_outlives_restart_and_rebuild() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new("test");
    let projections = start(&log, vec![fragile()], quick(dir.path()));
    append(
        &log,
        "ann",
        &[counted(1, "a"), CountEvent::Poisoned, counted(2, "b"), counted(4, "c")],
    );
    let letter = dead(&projections);
    assert!(projections.skip(&letter.id, " ").is_err(), "a skip needs a reason");
    let skip = projections.skip(&letter.id, "the till was broken").unwrap();
    let at = decide(&projections, &log, &skip);
    reach(&projections, "fragile", at);
    let (ann, parked) = row(&projections, "ann");
    assert_eq!(
        (ann.unwrap().label.as_str(), parked),
        ("abc", None),
        "who waits for the decision finds it heeded"
    );
    assert!(projections.dead_letters().is_empty());
    assert!(projections.skip(&letter.id, "again").is_err(), "it is settled");

    let record = log.read_one(at).unwrap().unwrap();
    let record = record.view().unwrap();
    assert_eq!(
        (record.header.stream, record.header.event_type),
        ("$operations/fragile", "DeadLetterSkipped")
    );
    assert_eq!(record.header.actor, Some("ops@example.com"));
    let said = to_json(record.payload).unwrap();
    assert_eq!(
        (said["key"].as_str(), said["position"].as_u64()),
        (Some("ann"), Some(2))
    );
    assert_eq!(
        (said["version"].as_u64(), said["reason"].as_str()),
        (Some(1), Some("the till was broken"))
    );

    projections.rebuild("fragile").unwrap();
    until("it is rebuilt", || {
        projections.rebuild_status("fragile").unwrap().state == RebuildState::Done
    });
    assert_eq!(row(&projections, "ann").0.unwrap().label, "abc");
    append(&log, "ann", &[counted(8, "d")]);
    reach(&projections, "fragile", log.head());
    projections.shutdown();
    assert!(dumped(&quick(dir.path()), &fragile()) == folded(&log, &fragile()));
    std::fs::remove_dir_all(dir.path().join("views")).unwrap();
    let projections = start(&log, vec![fragile()], quick(dir.path()));
    assert_eq!(row(&projections, "ann").0.unwrap().label, "abcd");
    assert!(projections.dead_letters().is_empty());
}

#[test]
fn a_retry_after_the_cause_is_mended_folds_what_waited() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new("test");
    let projections = start(&log, vec![fragile()], quick(dir.path()));
    append(
        &log,
        "ann",
        &[
            CountEvent::Poisoned,
            counted(2, "b"),
            CountEvent::Poisoned,
            counted(3, "c"),
        ],
    );
    let letter = dead(&projections);
    let retry = projections.retry(&letter.id, "").unwrap();
    let at = decide(&projections, &log, &retry);
    reach(&projections, "fragile", at);
    assert_eq!(dead(&projections).position, Position::new(1), "nothing was mended");
    let skip = projections.skip(&letter.id, "one of two").unwrap();
    decide(&projections, &log, &skip);
    until("the second poison is met", || {
        projections
            .dead_letters()
            .iter()
            .any(|letter| letter.position == Position::new(3))
    });
    let second = dead(&projections);
    assert_eq!(
        (second.waiting, row(&projections, "ann").0.unwrap().label.as_str()),
        (2, "b")
    );
    POISON_WORKS.store(false, Ordering::SeqCst);
    let retry = projections.retry(&second.id, "a new till").unwrap();
    let at = decide(&projections, &log, &retry);
    reach(&projections, "fragile", at);
    assert_eq!(row(&projections, "ann").0.unwrap().label, "bc");
    assert!(projections.dead_letters().is_empty());
    projections.shutdown();
    assert!(dumped(&quick(dir.path()), &fragile()) == folded(&log, &fragile()));
}

#[test]
fn what_fails_now_and_then_needs_nobody() {
    let _turn = turn();
    for policy in [FailurePolicy::Park, FailurePolicy::Stop] {
        let dir = tempfile::tempdir().unwrap();
        let log = MemoryLog::new("test");
        let mut settings = quick(dir.path());
        settings.on_failure.insert("fragile".into(), policy);
        settings.attempts_max = 50;
        let projections = start(&log, vec![fragile()], settings.clone());
        for n in 0..20 {
            HICCUPS.store(n % 3, Ordering::SeqCst);
            append(
                &log,
                &format!("k{}", n % 4),
                &[counted(1, "a"), CountEvent::Emptied, counted(2, "b")],
            );
            if n % 5 == 0 {
                reach(&projections, "fragile", log.head());
            }
        }
        reach(&projections, "fragile", log.head());
        until("nothing is parked", || projections.dead_letters().is_empty());
        assert_eq!(state(&projections), ProjectionState::Running);
        projections.shutdown();
        HICCUPS.store(0, Ordering::SeqCst);
        assert!(dumped(&settings, &fragile()) == folded(&log, &fragile()), "{policy:?}");
    }
}

#[test]
fn parked_keys_and_what_waits_for_them_outlive_restarts_and_are_found_again_by_a_rebuild() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new("test");
    let projections = start(&log, vec![fragile()], quick(dir.path()));
    append(&log, "ann", &[counted(1, "a"), CountEvent::Poisoned]);
    append(&log, "bob", &[CountEvent::Poisoned]);
    until("both are parked", || projections.statuses()[0].dead_letters == 2);
    projections.shutdown();
    append(&log, "ann", &[counted(2, "b")]);
    let projections = start(&log, vec![fragile()], quick(dir.path()));
    append(&log, "ann", &[counted(4, "c")]);
    reach(&projections, "fragile", log.head());
    let waiting = |projections: &Projections| -> Vec<(Option<String>, u64)> {
        let letters = projections.dead_letters();
        letters.into_iter().map(|letter| (letter.key, letter.waiting)).collect()
    };
    let expected = [(Some("ann".to_owned()), 3), (Some("bob".to_owned()), 1)];
    assert_eq!(waiting(&projections), expected);
    projections.rebuild("fragile").unwrap();
    until("it is rebuilt", || {
        projections.rebuild_status("fragile").unwrap().state == RebuildState::Done
    });
    append(&log, "zoe", &[counted(4, "c")]);
    reach(&projections, "fragile", log.head());
    assert_eq!(waiting(&projections), expected, "they are derived");
    assert_eq!(
        row(&projections, "ann"),
        (row(&projections, "ann").0, Some(Position::new(2)))
    );
}

#[test]
fn a_view_that_stops_at_an_event_goes_on_without_a_restart_once_it_is_skipped() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new("test");
    let mut settings = quick(dir.path());
    settings.on_failure.insert("fragile".into(), FailurePolicy::Stop);
    let projections = start(&log, vec![fragile()], settings.clone());
    append(&log, "ann", &[counted(1, "a"), CountEvent::Poisoned, counted(2, "b")]);
    until("it stops", || state(&projections) == ProjectionState::Stopped);
    let letter = dead(&projections);
    assert_eq!(
        (letter.state, letter.attempts, letter.key.as_deref()),
        (DeadLetterState::Stopped, 3, Some("ann"))
    );
    let error = projections.statuses()[0].error.clone().unwrap();
    assert!(
        error.contains("tried 3 times") && error.contains("dead-letters list --view fragile"),
        "{error}"
    );
    assert_eq!(projections.statuses()[0].position, Position::new(1));
    decide(&projections, &log, &projections.retry(&letter.id, "").unwrap());
    until("it was tried and stopped again", || {
        state(&projections) == ProjectionState::Stopped
            && projections
                .dead_letters()
                .first()
                .is_some_and(|again| again.first_failed_at > letter.first_failed_at)
    });
    let at = decide(&projections, &log, &projections.skip(&letter.id, "known").unwrap());
    reach(&projections, "fragile", at);
    assert_eq!(state(&projections), ProjectionState::Running);
    assert_eq!(row(&projections, "ann").0.unwrap().label, "ab");
    assert_eq!(entries(&projections, "shared"), 1, "for another key the event counts");
    projections.shutdown();
    assert!(dumped(&settings, &fragile()) == folded(&log, &fragile()));
}

#[test]
fn an_event_without_a_key_stops_the_view_even_if_it_parks() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new("test");
    append(&log, "ann", &[counted(1, "a")]);
    append(&log, "nowhere", &[counted(2, "b")]);
    append(&log, "ann", &[counted(4, "c")]);
    let projections = start(&log, vec![fragile()], quick(dir.path()));
    until("it stops while it is built", || {
        state(&projections) == ProjectionState::Stopped
    });
    let letter = dead(&projections);
    assert_eq!((letter.key, letter.position), (None, Position::new(2)));
    decide(
        &projections,
        &log,
        &projections.skip(&letter.id, "belongs to nobody").unwrap(),
    );
    until("it is built", || state(&projections) == ProjectionState::Running);
    assert_eq!(row(&projections, "ann").0.unwrap().label, "ac");
    assert!(projections.dead_letters().is_empty());
}

#[test]
fn with_more_dead_letters_than_it_may_have_the_view_stops_instead() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new("test");
    let mut settings = quick(dir.path());
    settings.dead_letters_max = 2;
    settings.parked_events_max = 6;
    let projections = start(&log, vec![fragile()], settings);
    for id in ["a", "b"] {
        append(&log, id, &[CountEvent::Poisoned]);
    }
    append(&log, "c", &[CountEvent::Poisoned]);
    until("it stops", || state(&projections) == ProjectionState::Stopped);
    let error = projections.statuses()[0].error.clone().unwrap();
    assert!(error.contains("2 keys are parked already"), "{error}");
    let first = projections
        .dead_letters()
        .into_iter()
        .find(|letter| letter.key.as_deref() == Some("a"))
        .unwrap();
    decide(&projections, &log, &projections.skip(&first.id, "make room").unwrap());
    until("there is room", || {
        state(&projections) == ProjectionState::Running && projections.statuses()[0].dead_letters == 2
    });
    reach(&projections, "fragile", log.head());
    append(
        &log,
        "b",
        &[counted(1, "x"), counted(1, "x"), counted(1, "x"), counted(1, "x")],
    );
    reach(&projections, "fragile", log.head());
    append(&log, "d", &[counted(1, "x")]);
    until("too many events wait", || {
        state(&projections) == ProjectionState::Stopped
    });
    let error = projections.statuses()[0].error.clone().unwrap();
    assert!(
        error.contains("6 events wait for parked keys, 6 are allowed"),
        "{error}"
    );
}

#[test]
fn a_paused_view_rests_also_after_a_restart_and_serves_what_it_has() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new("test");
    let projections = start(&log, vec![fragile(), ViewDefinition::of(Census)], quick(dir.path()));
    append(&log, "ann", &[counted(1, "a")]);
    reach(&projections, "fragile", log.head());
    assert!(projections.pause("nothing", true, "").is_err());
    decide(
        &projections,
        &log,
        &projections.pause("fragile", true, "moving").unwrap(),
    );
    until("it rests", || state(&projections) == ProjectionState::Paused);
    append(&log, "ann", &[counted(2, "b")]);
    reach(&projections, "census", log.head());
    assert_eq!(row(&projections, "ann").0.unwrap().label, "a");
    assert!(projections.statuses()[0].lag_events > 0);
    projections.shutdown();
    let projections = start(&log, vec![fragile(), ViewDefinition::of(Census)], quick(dir.path()));
    until("it rests", || state(&projections) == ProjectionState::Paused);
    assert_eq!(row(&projections, "ann").0.unwrap().label, "a");
    let at = decide(&projections, &log, &projections.pause("fragile", false, "").unwrap());
    reach(&projections, "fragile", at);
    assert_eq!(row(&projections, "ann").0.unwrap().label, "ab");
    assert_eq!(state(&projections), ProjectionState::Running);
}

/// Folds nothing until it is let go.
struct Blocked;

static BLOCKED: AtomicBool = AtomicBool::new(true);

impl View for Blocked {
    const NAME: &'static str = "blocked";
    const VERSION: u32 = 1;
    type Event = CountEvent;
    type Row = Count;

    fn route(&self, _: &Recorded<'_, CountEvent>) -> Keys {
        Keys::one("all")
    }

    fn fold(&self, _: &Key, row: Option<Count>, event: &Recorded<'_, CountEvent>) -> Option<Count> {
        while BLOCKED.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let events = row.map_or(0, |row| row.events) + 1;
        let last = event.position().get();
        Some(Count { events, last })
    }
}

#[test]
fn a_view_that_panics_hiccups_or_blocks_never_touches_another() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::new("test");
    let views = vec![
        ViewDefinition::of(Totals),
        fragile(),
        ViewDefinition::of(Blocked),
        ViewDefinition::of(Census),
    ];
    let projections = start(&log, views, quick(dir.path()));
    for n in 0..200 {
        HICCUPS.store(n % 2, Ordering::SeqCst);
        let event = if n % 10 == 0 {
            CountEvent::Emptied
        } else {
            counted(1, "a")
        };
        append(&log, &format!("k{n}"), &[event]);
    }
    append(&log, "ann", &[CountEvent::Poisoned, counted(1, "a")]);
    reach(&projections, "census", log.head());
    reach(&projections, "fragile", log.head());
    until("the one that panics has stopped", || {
        state(&projections) == ProjectionState::Stopped
    });
    let census = projections.view("census").unwrap().row("all").unwrap().row.unwrap();
    let census: Count = rmp_serde::from_slice(&census).unwrap();
    assert_eq!(census.events, log.head().get());
    assert_eq!(projections.view("blocked").unwrap().position(), Position::ZERO);
    BLOCKED.store(false, Ordering::SeqCst);
    reach(&projections, "blocked", log.head());
    projections.shutdown();
}

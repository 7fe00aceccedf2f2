//! What is done with rebuilt rows and with those that served before: they wait, are swapped in, taken back and dropped;
//! and a rebuild rests, ends, and goes on after a kill.

#![allow(clippy::unwrap_used, reason = "helpers of tests, where a failure is a panic")]

mod common;

use annals_core::*;
use annals_event_store::MemoryLog;
use annals_projections::*;
use common::*;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

fn filled(events: u64) -> MemoryLog {
    let log = MemoryLog::new("test");
    let mut dice = Dice(7);
    while log.head().get() < events {
        let id = format!("k{}", dice.roll(90));
        append(&log, &id, &[dice.event()]);
    }
    log
}

fn stores(settings: &ProjectionSettings) -> usize {
    let entries = std::fs::read_dir(&settings.views_dir).unwrap().flatten();
    entries.filter(|entry| entry.path().is_dir()).count()
}

fn ended(projections: &Projections) -> RebuildStatus {
    let going_on = [RebuildState::Running, RebuildState::Paused];
    let status = || projections.rebuild_status(SlowTotals::NAME).unwrap();
    until("the rebuild ends", || !going_on.contains(&status().state));
    status()
}

fn from(from: RebuildFrom) -> RebuildOptions {
    RebuildOptions {
        from,
        ..RebuildOptions::default()
    }
}

static SLOW: AtomicBool = AtomicBool::new(false);
static FOLDED: AtomicU64 = AtomicU64::new(0);
/// Tests of this suite share what is above.
static ALONE: Mutex<()> = Mutex::new(());

/// `Totals`, counting how often it folds, and slow when it shall be.
struct SlowTotals;

impl View for SlowTotals {
    const NAME: &'static str = "slow-totals";
    const VERSION: u32 = 1;
    type Event = CountEvent;
    type Row = Total;

    fn route(&self, event: &Recorded<'_, CountEvent>) -> Keys {
        Totals.route(event)
    }

    fn fold(&self, key: &Key, row: Option<Total>, event: &Recorded<'_, CountEvent>) -> Option<Total> {
        FOLDED.fetch_add(1, Ordering::Relaxed);
        if SLOW.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Totals.fold(key, row, event)
    }
}

/// Short steps, and spills all the time.
fn hasty(dir: &Path) -> ProjectionSettings {
    let mut settings = settings(dir);
    settings.build_rows_max = 4;
    settings.spill_every = Duration::from_millis(40);
    settings
}

fn at_work(log: &MemoryLog, settings: &ProjectionSettings) -> Projections {
    let projections = start(log, vec![ViewDefinition::of(SlowTotals)], settings.clone());
    reach(&projections, SlowTotals::NAME, log.head());
    projections
}

#[test]
fn a_swap_is_taken_back_as_often_as_one_likes_and_no_event_is_missing() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let (log, settings) = (filled(800), settings(dir.path()));
    let projections = at_work(&log, &settings);
    let none = projections.rebuild_with(SlowTotals::NAME, from(RebuildFrom::Previous));
    assert!(matches!(none, Err(RebuildError::NoPrevious(_))), "{none:?}");
    projections.rebuild(SlowTotals::NAME).unwrap();
    assert_eq!(ended(&projections).state, RebuildState::Done);
    let view = projections.view(SlowTotals::NAME).unwrap();
    for round in 0..4 {
        let last = append(&log, "steady", &[counted(1, "red")]);
        reach(&projections, SlowTotals::NAME, last);
        projections
            .rebuild_with(SlowTotals::NAME, from(RebuildFrom::Previous))
            .unwrap();
        assert_eq!(ended(&projections).state, RebuildState::Done);
        let answer = view.row("steady").unwrap();
        assert!(answer.position >= last, "what serves again has caught up first");
        assert_eq!(total(&answer.row.unwrap()).total, round + 1);
        assert_eq!(stores(&settings), 2);
    }
    assert!(projections.drop_spare_rows(SlowTotals::NAME).unwrap());
    until("the earlier rows are gone", || stores(&settings) == 1);
    assert!(!projections.drop_spare_rows(SlowTotals::NAME).unwrap());
    projections.shutdown();
    let view = ViewDefinition::of(SlowTotals);
    assert!(dumped(&settings, &view) == folded(&log, &view));
}

#[test]
fn rebuilt_rows_wait_through_a_restart_and_are_swapped_in_later() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let (log, settings) = (filled(500), settings(dir.path()));
    let projections = at_work(&log, &settings);
    let options = RebuildOptions {
        swap: false,
        compare: true,
        ..RebuildOptions::default()
    };
    projections.rebuild_with(SlowTotals::NAME, options).unwrap();
    let status = ended(&projections);
    assert_eq!(status.state, RebuildState::Ready);
    assert!(status.comparison.unwrap().is_same());
    projections.shutdown();
    let last = append(&log, "later", &[counted(5, "red")]);
    let projections = at_work(&log, &settings);
    let status = projections.rebuild_status(SlowTotals::NAME).unwrap();
    assert_eq!((status.state, status.position), (RebuildState::Ready, last.previous()));
    let before = FOLDED.load(Ordering::Relaxed);
    projections
        .rebuild_with(SlowTotals::NAME, from(RebuildFrom::Ready))
        .unwrap();
    assert_eq!(ended(&projections).state, RebuildState::Done);
    let folded_again = FOLDED.load(Ordering::Relaxed) - before;
    assert!(
        folded_again < 300,
        "more than what came since and a sample: {folded_again}"
    );
    let row = projections.view(SlowTotals::NAME).unwrap().row("later").unwrap();
    assert_eq!((row.position, total(&row.row.unwrap()).total), (last, 5));
    let again = projections.rebuild_with(SlowTotals::NAME, from(RebuildFrom::Ready));
    assert!(matches!(again, Err(RebuildError::NotReady(_))), "{again:?}");
    projections.shutdown();
}

#[test]
fn a_rebuild_rests_also_after_a_restart_and_goes_on_where_it_was() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let (log, settings) = (filled(3_000), hasty(dir.path()));
    let projections = at_work(&log, &settings);
    SLOW.store(true, Ordering::Relaxed);
    projections.rebuild(SlowTotals::NAME).unwrap();
    let status = || projections.rebuild_status(SlowTotals::NAME).unwrap();
    until("it is under way", || status().position.get() > 100);
    projections.pause_rebuild(SlowTotals::NAME).unwrap();
    until("it rests", || status().state == RebuildState::Paused);
    let at = status().position;
    let again = projections.rebuild(SlowTotals::NAME);
    assert!(matches!(again, Err(RebuildError::Running(_))), "{again:?}");
    projections.shutdown();
    SLOW.store(false, Ordering::Relaxed);
    let projections = at_work(&log, &settings);
    let status = || projections.rebuild_status(SlowTotals::NAME).unwrap();
    until("it rests again", || status().state == RebuildState::Paused);
    assert_eq!(status().position, at, "nothing was lost, nothing was done");
    let before = FOLDED.load(Ordering::Relaxed);
    projections.resume_rebuild(SlowTotals::NAME).unwrap();
    assert_eq!(ended(&projections).state, RebuildState::Done);
    let folded_again = FOLDED.load(Ordering::Relaxed) - before;
    assert!(folded_again <= 3_000 - at.get(), "{folded_again} after {at}");
    projections.shutdown();
    let view = ViewDefinition::of(SlowTotals);
    assert!(dumped(&settings, &view) == folded(&log, &view));
}

#[test]
fn a_cancelled_rebuild_leaves_nothing_and_the_old_rows_serve() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let (log, settings) = (filled(3_000), hasty(dir.path()));
    let projections = at_work(&log, &settings);
    let idle = projections.cancel_rebuild(SlowTotals::NAME);
    assert!(idle.is_err(), "nothing is going on");
    SLOW.store(true, Ordering::Relaxed);
    projections.rebuild(SlowTotals::NAME).unwrap();
    projections.pause_rebuild(SlowTotals::NAME).unwrap();
    projections.cancel_rebuild(SlowTotals::NAME).unwrap();
    assert_eq!(ended(&projections).state, RebuildState::Cancelled);
    SLOW.store(false, Ordering::Relaxed);
    until("its rows are gone", || stores(&settings) == 1);
    assert!(projections.view(SlowTotals::NAME).unwrap().row("k1").is_ok());
    projections.shutdown();
    assert_eq!(at_work(&log, &settings).rebuild_status(SlowTotals::NAME), None);
}

/// Copies the stores as a kill would leave them.
fn copied(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copied(&entry.path(), &target);
        } else {
            // What is removed meanwhile was not there when the kill came.
            let _ = std::fs::copy(entry.path(), target);
        }
    }
}

#[test]
fn a_rebuild_that_a_kill_interrupts_goes_on_at_the_next_start() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let (log, settings) = (filled(3_000), hasty(&dir.path().join("live")));
    let projections = at_work(&log, &settings);
    SLOW.store(true, Ordering::Relaxed);
    projections.rebuild(SlowTotals::NAME).unwrap();
    let position = || projections.rebuild_status(SlowTotals::NAME).unwrap().position.get();
    let mut copies = Vec::new();
    for round in 0..4 {
        let last = position();
        until("it goes on", || position() > last + 60);
        let killed = hasty(&dir.path().join(format!("killed-{round}")));
        copied(&settings.views_dir, &killed.views_dir);
        copies.push(killed);
    }
    SLOW.store(false, Ordering::Relaxed);
    assert_eq!(ended(&projections).state, RebuildState::Done);
    projections.shutdown();
    let view = ViewDefinition::of(SlowTotals);
    let before = FOLDED.load(Ordering::Relaxed);
    at_work(&log, &settings).shutdown();
    let sampled = FOLDED.load(Ordering::Relaxed) - before;
    let mut continued = 0;
    for killed in copies {
        let before = FOLDED.load(Ordering::Relaxed);
        let projections = at_work(&log, &killed);
        if projections.rebuild_status(SlowTotals::NAME).is_some() {
            assert_eq!(ended(&projections).state, RebuildState::Done);
            let folded_again = FOLDED.load(Ordering::Relaxed) - before;
            continued += usize::from(folded_again + 20 < 3_000 + sampled);
        }
        projections.shutdown();
        assert!(dumped(&killed, &view) == folded(&log, &view));
    }
    assert!(continued > 0, "every rebuild began anew");
}

#[test]
fn rows_of_the_version_before_serve_a_program_that_goes_back_to_it() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let (log, settings) = (filled(600), settings(dir.path()));
    at_work(&log, &settings).shutdown();
    start(&log, vec![ViewDefinition::of(Second)], settings.clone()).shutdown();
    assert_eq!(stores(&settings), 2);
    append(&log, "new", &[counted(3, "red")]);
    let before = FOLDED.load(Ordering::Relaxed);
    at_work(&log, &settings).shutdown();
    let folded_again = FOLDED.load(Ordering::Relaxed) - before;
    assert!(
        folded_again < 300,
        "{folded_again} events were folded for one that is new and a sample"
    );
    let view = ViewDefinition::of(SlowTotals);
    assert!(dumped(&settings, &view) == folded(&log, &view));
}

/// The version after [`SlowTotals`].
struct Second;

impl View for Second {
    const NAME: &'static str = SlowTotals::NAME;
    const VERSION: u32 = 2;
    type Event = CountEvent;
    type Row = Count;

    fn route(&self, event: &Recorded<'_, CountEvent>) -> Keys {
        Census.route(event)
    }

    fn fold(&self, key: &Key, row: Option<Count>, event: &Recorded<'_, CountEvent>) -> Option<Count> {
        Census.fold(key, row, event)
    }
}

#[test]
fn several_views_are_rebuilt_together_offline_and_in_a_running_server() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let (log, settings) = (filled(900), settings(dir.path()));
    let views = [
        ViewDefinition::of(Totals),
        ViewDefinition::of(Census),
        ViewDefinition::of(SlowTotals),
    ];
    let together: Vec<_> = views.iter().collect();
    for compare in [false, true] {
        let options = RebuildOptions {
            compare,
            ..RebuildOptions::default()
        };
        let told: Vec<AtomicU64> = views.iter().map(|_| AtomicU64::new(0)).collect();
        let tell = |number: usize, progress: RebuildProgress| {
            told[number].store(progress.position.get(), Ordering::Relaxed);
        };
        let reports = rebuild_together_offline(&log, &catalog(), &together, &settings, options, &tell);
        for ((report, view), told) in reports.into_iter().zip(&views).zip(told) {
            let report = report.unwrap();
            assert_eq!((report.view.as_str(), report.position), (view.name(), log.head()));
            assert!(report.comparison.is_none_or(|comparison| comparison.is_same()));
            assert_eq!(told.into_inner(), log.head().get());
            assert!(dumped(&settings, view) == folded(&log, view));
        }
    }
    let projections = start(&log, views.to_vec(), settings.clone());
    let names: Vec<String> = views.iter().map(|view| view.name().to_owned()).collect();
    for begun in projections.rebuild_together(&names, RebuildOptions::default()) {
        begun.unwrap();
    }
    append(&log, "meanwhile", &[counted(1, "red")]);
    for name in &names {
        let done = || projections.rebuild_status(name).unwrap().state == RebuildState::Done;
        until("all are rebuilt", done);
        reach(&projections, name, log.head());
    }
    projections.shutdown();
    for view in &views {
        assert!(dumped(&settings, view) == folded(&log, view));
    }
}

static CHANGED: AtomicBool = AtomicBool::new(false);

/// `Totals`, whose code can change at any time.
struct Fickle;

impl View for Fickle {
    const NAME: &'static str = "fickle";
    const VERSION: u32 = 1;
    type Event = CountEvent;
    type Row = Total;

    fn route(&self, event: &Recorded<'_, CountEvent>) -> Keys {
        Totals.route(event)
    }

    fn fold(&self, key: &Key, row: Option<Total>, event: &Recorded<'_, CountEvent>) -> Option<Total> {
        let mut row = Totals.fold(key, row, event)?;
        row.entries += u32::from(CHANGED.load(Ordering::Relaxed));
        Some(row)
    }
}

#[test]
fn code_that_changed_without_a_new_version_refuses_to_serve_until_the_view_is_rebuilt() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let (log, settings) = (filled(2_500), settings(dir.path()));
    let start = || start(&log, vec![ViewDefinition::of(Fickle)], settings.clone());
    for _ in 0..2 {
        let projections = start();
        append(&log, "k1", &[counted(1, "red")]);
        reach(&projections, "fickle", log.head());
        assert_eq!(projections.statuses()[0].state, ProjectionState::Running);
        projections.shutdown();
    }
    CHANGED.store(true, Ordering::Relaxed);
    let projections = start();
    let status = projections.statuses().remove(0);
    let error = status.error.unwrap();
    assert_eq!(status.state, ProjectionState::Stopped, "{error}");
    assert!(error.contains("Raise VERSION to 2"), "{error}");
    assert!(projections.view("fickle").unwrap().row("k1").is_err());
    projections.rebuild("fickle").unwrap();
    let done = || projections.rebuild_status("fickle").unwrap().state == RebuildState::Done;
    until("it is rebuilt", done);
    reach(&projections, "fickle", log.head());
    assert!(projections.view("fickle").unwrap().row("k1").is_ok());
    let back = projections.rebuild_with("fickle", from(RebuildFrom::Previous));
    until("the way back is refused", || {
        projections.rebuild_status("fickle").unwrap().state == RebuildState::Failed || back.is_err()
    });
    projections.shutdown();
    let view = ViewDefinition::of(Fickle);
    assert!(
        dumped(&settings, &view) == folded(&log, &view),
        "the rows of the code as it is now"
    );
}

//! Stores that are lost, altered, of another log or of other code: the rows come back from the log, byte by byte.

#![allow(clippy::unwrap_used, reason = "helpers of tests, where a failure is a panic")]

mod common;

use annals_core::*;
use annals_event_store::MemoryLog;
use annals_projections::*;
use common::*;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn filled(events: u64) -> MemoryLog {
    let log = MemoryLog::new("test");
    let mut dice = Dice(3);
    while log.head().get() < events {
        let id = format!("k{}", dice.roll(50));
        append(&log, &id, &[dice.event()]);
    }
    log
}

fn built(log: &MemoryLog, settings: &ProjectionSettings) -> ViewDefinition {
    let view = ViewDefinition::of(Totals);
    let projections = start(log, vec![view.clone()], settings.clone());
    reach(&projections, "totals", log.head());
    projections.shutdown();
    view
}

fn store_dirs(settings: &ProjectionSettings) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(&settings.views_dir).unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect()
}

#[test]
fn a_deleted_or_damaged_store_comes_back_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (log, settings) = (filled(3_000), settings(dir.path()));
    let view = built(&log, &settings);
    let first = dumped(&settings, &view);
    assert!(first == folded(&log, &view));
    type Damage = fn(&ProjectionSettings);
    let damages: [Damage; 6] = [
        |settings| std::fs::remove_dir_all(&settings.views_dir).unwrap(),
        |settings| std::fs::remove_dir_all(&store_dirs(settings)[0]).unwrap(),
        |settings| std::fs::write(settings.views_dir.join("manifest.json"), "{").unwrap(),
        |settings| std::fs::write(store_dirs(settings)[0].join("current"), [7; 25]).unwrap(),
        |settings| std::fs::remove_dir_all(store_dirs(settings)[0].join("tables")).unwrap(),
        |settings| {
            // What an engine before this one left.
            let dir = &store_dirs(settings)[0];
            std::fs::remove_dir_all(dir).unwrap();
            std::fs::create_dir(dir).unwrap();
            std::fs::write(dir.join("db"), vec![7; 3_000_000]).unwrap();
        },
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        damage(&settings);
        built(&log, &settings);
        assert!(dumped(&settings, &view) == first, "after damage {number}");
        assert_eq!(store_dirs(&settings).len(), 1, "nothing is left over");
    }
}

#[test]
fn a_rebuild_offline_shows_what_was_altered_and_puts_it_right() {
    let dir = tempfile::tempdir().unwrap();
    let (log, settings) = (filled(500), settings(dir.path()));
    let view = built(&log, &settings);
    let first = dumped(&settings, &view);
    append(&log, "new", &[counted(1, "red")]);
    let options = RebuildOptions {
        swap: false,
        compare: true,
        ..RebuildOptions::default()
    };
    let mut told = 0;
    let report = rebuild_offline(&log, &catalog(), &view, &settings, options, &mut |_| told += 1).unwrap();
    let comparison = report.comparison.unwrap();
    assert!(
        comparison.is_same(),
        "that the old rows are behind is no difference: {comparison:?}"
    );
    assert_eq!(comparison.position, log.head().previous());
    assert!(
        told > 0 && !report.swapped && dumped(&settings, &view) == first,
        "nothing was swapped"
    );
    // Code that was changed without a new version.
    let altered = ViewDefinition::of(Doubled);
    let report = rebuild_offline(&log, &catalog(), &altered, &settings, options, &mut |_| {}).unwrap();
    let comparison = report.comparison.unwrap();
    assert!(comparison.differing > 10 && comparison.only_old + comparison.only_new == 0);
    let shown = &comparison.first[0];
    let (key, fields) = (&shown.key, &shown.fields);
    assert_eq!((shown.kind, fields.len()), (DifferenceKind::Differs, 1), "{shown:?}");
    assert_eq!(fields[0].field, "total");
    assert_eq!(fields[0].old, Some(total(&first[key]).total.into()));
    assert_eq!(fields[0].new, Some((2 * total(&first[key]).total).into()));
    let options = RebuildOptions {
        compare: true,
        ..RebuildOptions::default()
    };
    let report = rebuild_offline(&log, &catalog(), &view, &settings, options, &mut |_| {}).unwrap();
    assert_eq!(report.rows, folded(&log, &view).len() as u64);
    assert!(dumped(&settings, &view) == folded(&log, &view));
    let report = rebuild_offline(&log, &catalog(), &view, &settings, options, &mut |_| {}).unwrap();
    assert!(report.comparison.unwrap().is_same());
    assert_eq!(store_dirs(&settings).len(), 2, "one serves, one is kept");
}

#[test]
fn a_rebuild_under_load_is_not_noticed_by_queries() {
    let dir = tempfile::tempdir().unwrap();
    let (log, settings) = (filled(2_000), settings(dir.path()));
    append(&log, "steady", &[counted(41, "red"), counted(1, "red")]);
    let projections = start(&log, vec![ViewDefinition::of(Totals)], settings.clone());
    reach(&projections, "totals", log.head());
    let view = projections.view("totals").unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let (stop, view) = (Arc::clone(&stop), view);
        move || {
            let mut seen = Position::ZERO;
            while !stop.load(Ordering::Relaxed) {
                let answer = view.row("steady").unwrap();
                assert_eq!(total(&answer.row.unwrap()).total, 42);
                assert!(answer.position >= seen, "a view never goes back");
                seen = answer.position;
                let query = ListQuery {
                    index: Some(("total".into(), IndexRange::Equal(IndexValue::Number(42)))),
                    ..ListQuery::default()
                };
                assert!(view.list(&query).unwrap().rows.iter().any(|(key, _)| key == "steady"));
            }
        }
    });
    let mut dice = Dice(9);
    for _ in 0..3 {
        projections.rebuild("totals").unwrap();
        loop {
            append(&log, &format!("k{}", dice.roll(50)), &[dice.event()]);
            std::thread::sleep(std::time::Duration::from_millis(1));
            match projections.rebuild_status("totals").unwrap().state {
                RebuildState::Running => {}
                state => {
                    assert_eq!(state, RebuildState::Done);
                    break;
                }
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    reader.join().unwrap();
    reach(&projections, "totals", log.head());
    projections.shutdown();
    let view = ViewDefinition::of(Totals);
    assert!(dumped(&settings, &view) == folded(&log, &view));
    assert_eq!(
        store_dirs(&settings).len(),
        2,
        "one of those that served before is kept"
    );
    assert!(matches!(
        projections.rebuild("orders"),
        Err(RebuildError::UnknownView { .. })
    ));
}

#[test]
fn a_store_of_another_log_is_built_anew() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path());
    built(&filled(900), &settings);
    let restored = filled(300);
    let view = built(&restored, &settings);
    assert!(dumped(&settings, &view) == folded(&restored, &view));
}

/// `Totals` after a change of its code that nothing but its rows tells of.
struct Doubled;

impl View for Doubled {
    const NAME: &'static str = "totals";
    const VERSION: u32 = 1;
    type Event = CountEvent;
    type Row = Total;

    fn route(&self, event: &Recorded<'_, CountEvent>) -> Keys {
        Totals.route(event)
    }

    fn fold(&self, key: &Key, row: Option<Total>, event: &Recorded<'_, CountEvent>) -> Option<Total> {
        let halved = row.map(|row| Total {
            total: row.total / 2,
            ..row
        });
        let row = Totals.fold(key, halved, event)?;
        Some(Total {
            total: row.total * 2,
            ..row
        })
    }
}

/// `Totals` after a change of its code.
struct Changed<const VERSION: u32>;

#[derive(Debug, Default, Row)]
struct ChangedRow {
    sum: i64,
}

impl<const VERSION: u32> View for Changed<VERSION> {
    const NAME: &'static str = "totals";
    const VERSION: u32 = VERSION;
    type Event = CountEvent;
    type Row = ChangedRow;

    fn route(&self, event: &Recorded<'_, CountEvent>) -> Keys {
        Keys::one(event.stream_id())
    }

    fn fold(&self, _: &Key, row: Option<ChangedRow>, event: &Recorded<'_, CountEvent>) -> Option<ChangedRow> {
        let CountEvent::Counted { amount, .. } = event.data() else {
            return row;
        };
        Some(ChangedRow {
            sum: row.map_or(0, |row| row.sum) + amount,
        })
    }
}

#[test]
fn changed_rows_need_a_new_version_and_get_a_new_store() {
    let dir = tempfile::tempdir().unwrap();
    let (log, settings) = (filled(300), settings(dir.path()));
    built(&log, &settings);
    let projections = start(&log, vec![ViewDefinition::of(Changed::<1>)], settings.clone());
    let status = &projections.statuses()[0];
    assert_eq!(status.state, ProjectionState::Stopped);
    assert!(
        status.error.as_deref().unwrap().contains("raise VERSION to 2"),
        "{status:?}"
    );
    let refused = projections.view("totals").unwrap().row("k1").unwrap_err();
    assert!(
        matches!(refused, QueryError::Unavailable { state: "stopped", .. }),
        "{refused}"
    );
    projections.shutdown();
    let view = ViewDefinition::of(Changed::<2>);
    let projections = start(&log, vec![view.clone()], settings.clone());
    reach(&projections, "totals", log.head());
    projections.shutdown();
    assert!(dumped(&settings, &view) == folded(&log, &view));
}

#[test]
fn rows_of_any_time_come_from_the_log_alone() {
    let log = filled(200);
    append(&log, "ann", &[counted(1, "red"), counted(2, "red")]);
    let last = append(&log, "ann", &[counted(4, "red")]);
    let view = ViewDefinition::of(Totals);
    let rows = |cutoff, key| fold_rows(&log, &catalog(), &view, cutoff, key, &mut |_| {}).unwrap();
    assert_eq!(total(&rows(Cutoff::Head, Some("ann"))["ann"]).total, 7);
    assert_eq!(total(&rows(Cutoff::Position(last.previous()), None)["ann"]).total, 3);
    assert_eq!(rows(Cutoff::Head, Some("ann")).len(), 1);
    let long_ago = chrono::DateTime::UNIX_EPOCH;
    assert!(rows(Cutoff::OccurredAt(long_ago), None).is_empty());
    append(&log, "ann", &[CountEvent::Poisoned]);
    let error = fold_rows(&log, &catalog(), &view, Cutoff::Head, None, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("Poisoned"), "{error}");
}

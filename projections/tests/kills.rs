//! Killed at a random moment, with the real log and the real stores: rows are those of the fold, effects happen once.

#![allow(clippy::unwrap_used, reason = "helpers of tests, where a failure is a panic")]

mod common;

use annals_core::*;
use annals_event_store::{DataDir, LogSettings, OpenOptions, SledLog};
use annals_projections::*;
use common::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const CHILD: &str = "ANNALS_TEST_KILLED_CHILD";
/// How often the child is killed; more in the long form.
const ROUNDS: &str = "ANNALS_PROJECTION_KILLS";
const ROUNDS_SHORT: u64 = 4;

/// Executes a command by appending its effect under its key, as a node does.
struct Appending(Arc<SledLog>);

impl Dispatcher for Appending {
    fn dispatch(&self, request: DispatchRequest) -> Result<(), DispatchError> {
        let stream = StreamId::new(&request.call.category, &request.call.id).unwrap();
        let fingerprint = self.0.fingerprint(&request.call.body);
        let mut append = Append::new(stream, vec![NewEvent::new("Noted", request.call.body)]);
        append.command = Some(CommandKey {
            key: request.key,
            fingerprint,
        });
        append.metadata = request.metadata;
        let appended = futures_ready(self.0.append(append));
        appended
            .map(drop)
            .map_err(|error| DispatchError::Failed(error.to_string()))
    }
}

/// So that a kill also meets spills and merges.
fn often_spilled(dir: &Path) -> ProjectionSettings {
    let mut settings = settings(dir);
    settings.spill_every = Duration::from_millis(40);
    settings
}

fn open(dir: &Path) -> (DataDir, Arc<SledLog>, Projections) {
    let options = OpenOptions {
        create: true,
        name: Some("test"),
        domain: None,
    };
    let data = DataDir::open(dir, options).unwrap();
    let log = Arc::new(SledLog::open(&data, LogSettings::default()).unwrap());
    let dispatcher = Arc::new(Appending(Arc::clone(&log)));
    let projections = Projections::start(
        Arc::clone(&log) as Arc<dyn EventLog>,
        catalog(),
        vec![ViewDefinition::of(Totals), ViewDefinition::of(Census)],
        vec![ReactorDefinition::of(Tens)],
        Some(dispatcher),
        often_spilled(dir),
    );
    (data, log, projections.unwrap())
}

/// Not a test by itself: what the other one starts and kills.
#[test]
fn the_one_that_is_killed() {
    let Ok(child) = std::env::var(CHILD) else {
        return;
    };
    let (dir, seed) = child.split_once('#').unwrap();
    let (_data, log, projections) = open(Path::new(dir));
    let mut dice = Dice(seed.parse().unwrap());
    loop {
        let id = format!("k{}", dice.roll(60));
        let events: Vec<_> = (0..=dice.roll(5))
            .map(|_| counted(dice.roll(9) as i64, "red"))
            .collect();
        append(&*log, &id, &events);
        if dice.roll(200) == 0 {
            // One that is running already is fine, too.
            let _ = projections.rebuild("totals");
        }
    }
}

fn notes(log: &dyn EventLog) -> BTreeMap<String, Vec<i64>> {
    let mut notes: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for block in log.read(Position::ZERO, usize::MAX).unwrap() {
        for record in block.iter() {
            let record = record.unwrap();
            if record.header.event_type == "Noted" {
                let number = i64::from_be_bytes(record.payload.try_into().unwrap());
                notes
                    .entry(record.header.stream_id().to_owned())
                    .or_default()
                    .push(number);
            }
        }
    }
    notes
}

#[test]
fn killed_at_any_moment_nothing_is_lost_and_nothing_done_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice(u64::from(std::process::id()));
    let rounds = std::env::var(ROUNDS).map_or(ROUNDS_SHORT, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_one_that_is_killed", "--nocapture"])
            .env(CHILD, format!("{}#{round}", dir.path().display()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(500 + dice.roll(900)));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let (data, log, projections) = open(dir.path());
    until("all is caught up with", || {
        let statuses = projections.statuses();
        let pending = statuses[2].outbox.as_ref().unwrap().pending;
        pending == 0 && statuses.iter().all(|status| status.position == log.head())
    });
    let census = projections.rebuild_status("census");
    assert!(
        census.is_none(),
        "a kill leaves a store that can be gone on with: {census:?}"
    );
    // The one rebuild that a kill interrupted goes on.
    let rebuilt = || projections.rebuild_status("totals").map(|status| status.state);
    until("the rebuild is over", || rebuilt() != Some(RebuildState::Running));
    assert!(matches!(rebuilt(), None | Some(RebuildState::Done)), "{:?}", rebuilt());
    let totals = projections.view("totals").unwrap();
    for _ in 0..20 {
        let at = Position::new(dice.roll(log.head().get() + 1));
        let rows = fold_rows(
            &*log,
            &catalog(),
            totals.definition(),
            Cutoff::Position(at),
            None,
            &mut |_| {},
        );
        let all = ListQuery {
            limit: 1_000,
            as_of: Some(at),
            ..ListQuery::default()
        };
        let found: BTreeMap<_, _> = totals.list(&all).unwrap().rows.into_iter().collect();
        assert!(found == rows.unwrap(), "as of {at}");
    }
    drop(totals);
    projections.shutdown();
    assert!(log.head().get() > 50, "the children did something");
    for view in [ViewDefinition::of(Totals), ViewDefinition::of(Census)] {
        assert!(
            dumped(&settings(dir.path()), &view) == folded(&*log, &view),
            "{}",
            view.name()
        );
    }
    let expected: BTreeMap<_, _> = tens(&*log).into_iter().filter(|(_, tens)| !tens.is_empty()).collect();
    let notes = notes(&*log);
    for id in expected.keys().chain(notes.keys()) {
        assert_eq!(notes.get(id), expected.get(id), "{id}");
    }
    log.close();
    drop(data);
}

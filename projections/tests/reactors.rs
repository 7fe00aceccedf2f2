//! Reactors: each effect once, whatever is killed, lost or restarted.

#![allow(clippy::unwrap_used, reason = "helpers of tests, where a failure is a panic")]

mod common;

use annals_core::*;
use annals_event_store::MemoryLog;
use annals_projections::*;
use common::*;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// What a node's commands do: executes each key once, remembers everything.
#[derive(Default)]
struct Notes {
    effects: Mutex<BTreeMap<String, Vec<i64>>>,
    keys: Mutex<HashSet<String>>,
    requests: Mutex<Vec<DispatchRequest>>,
    calls: AtomicU32,
    /// Of the first attempts, how many fail.
    failures: AtomicU32,
    /// Fails after the effect, once for each key: what a crash before the answer looks like.
    forgetful: Mutex<Option<HashSet<String>>>,
    reject: Mutex<Option<&'static str>>,
}

impl Dispatcher for Notes {
    fn dispatch(&self, request: DispatchRequest) -> Result<(), DispatchError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self
            .failures
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
            .is_ok()
        {
            return Err(DispatchError::Failed("no connection".into()));
        }
        if let Some(message) = *self.reject.lock().unwrap() {
            let rejection = Rejection {
                code: "no".into(),
                message: message.into(),
            };
            return Err(DispatchError::Rejected(rejection));
        }
        let number = i64::from_be_bytes(request.call.body.clone().try_into().unwrap());
        if self.keys.lock().unwrap().insert(request.key.clone()) {
            self.effects
                .lock()
                .unwrap()
                .entry(request.call.id.clone())
                .or_default()
                .push(number);
        }
        let key = request.key.clone();
        self.requests.lock().unwrap().push(request);
        if let Some(forgotten) = &mut *self.forgetful.lock().unwrap()
            && forgotten.insert(key)
        {
            return Err(DispatchError::Failed("the answer was lost".into()));
        }
        Ok(())
    }
}

fn run(log: &MemoryLog, notes: &Arc<Notes>, settings: ProjectionSettings) -> Projections {
    let dispatcher = Arc::clone(notes) as Arc<dyn Dispatcher>;
    let reactors = vec![ReactorDefinition::of(Tens)];
    Projections::start(
        Arc::new(log.clone()),
        catalog(),
        Vec::new(),
        reactors,
        Some(dispatcher),
        settings,
    )
    .unwrap()
}

fn settled(projections: &Projections, log: &MemoryLog) {
    until("all commands are settled", || {
        let status = &projections.statuses()[0];
        status.position == log.head() && status.outbox.as_ref().unwrap().pending == 0
    });
}

/// 1, 2, 3 … up to the tens that were counted, for each stream.
fn assert_each_once(notes: &Notes, log: &MemoryLog) {
    let effects = notes.effects.lock().unwrap();
    for (id, expected) in tens(log) {
        assert_eq!(effects.get(&id).cloned().unwrap_or_default(), expected, "{id}");
    }
}

fn stopped(projections: &Projections) -> String {
    until("the reactor stops", || {
        projections.statuses()[0].state == ProjectionState::Stopped
    });
    projections.statuses()[0].error.clone().unwrap()
}

fn some_events(log: &MemoryLog, dice: &mut Dice, count: u64) {
    for _ in 0..count {
        let id = format!("k{}", dice.roll(30));
        append(
            log,
            &id,
            &[
                counted(dice.roll(8) as i64, "red"),
                counted(dice.roll(25) as i64, "red"),
            ],
        );
    }
}

#[test]
fn an_event_is_answered_with_a_command_that_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let (log, notes) = (MemoryLog::new("test"), Arc::new(Notes::default()));
    let projections = run(&log, &notes, settings(dir.path()));
    let mut event = NewEvent::new("Counted", counted(25, "red").encode().unwrap());
    let occurred = chrono::DateTime::from_timestamp(1_500_000_000, 0).unwrap();
    event.occurred_at = Some(occurred);
    let mut cause = Append::new(StreamId::new("counts", "ann").unwrap(), vec![event]);
    cause.metadata.correlation_id = Some("case-7".into());
    let appended = futures_ready(log.append(cause)).unwrap();
    settled(&projections, &log);
    let requests = notes.requests.lock().unwrap();
    let keys: Vec<&str> = requests.iter().map(|request| request.key.as_str()).collect();
    assert_eq!(keys, ["tens:1:1", "tens:1:2"]);
    assert_eq!(requests[0].metadata.actor.as_deref(), Some("reactor:tens"));
    assert_eq!(
        requests[0].metadata.causation_id,
        Some(appended.events[0].id.to_string())
    );
    assert_eq!(requests[0].metadata.correlation_id.as_deref(), Some("case-7"));
    assert_eq!(requests[0].occurred_at, Some(occurred));
    assert_eq!(projections.statuses()[0].outbox.as_ref().unwrap().dispatched, 2);
}

#[test]
fn a_log_that_was_filled_before_is_caught_up_with() {
    let dir = tempfile::tempdir().unwrap();
    let (log, notes) = (MemoryLog::new("test"), Arc::new(Notes::default()));
    some_events(&log, &mut Dice(5), 1_500);
    let projections = run(&log, &notes, settings(dir.path()));
    settled(&projections, &log);
    assert_each_once(&notes, &log);
    projections.shutdown();
    let offline = statuses_offline(&log, &[], &[ReactorDefinition::of(Tens)], &settings(dir.path()));
    assert_eq!(
        (offline[0].position, offline[0].lag_events, offline[0].error.as_deref()),
        (log.head(), 0, None)
    );
}

#[test]
fn each_effect_happens_once_whatever_fails_and_whenever_it_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let (log, notes) = (MemoryLog::new("test"), Arc::new(Notes::default()));
    *notes.forgetful.lock().unwrap() = Some(HashSet::new());
    let mut dice = Dice(11);
    for round in 0..10 {
        let projections = run(&log, &notes, settings(dir.path()));
        notes.failures.store(dice.roll(4) as u32, Ordering::SeqCst);
        some_events(&log, &mut dice, 40);
        std::thread::sleep(std::time::Duration::from_millis(dice.roll(30)));
        projections.shutdown();
        match round % 5 {
            // What a crash leaves: a tail that was not finished, outcomes that were not noted, a state that is gone.
            1 => append_to(&dir.path().join("reactors/tens/outbox"), b"AOB1\x07\x00"),
            2 => forget_outcomes(&dir.path().join("reactors/tens/outbox")),
            3 => std::fs::remove_dir_all(dir.path().join("reactors/tens/state")).unwrap(),
            _ => {}
        }
    }
    let projections = run(&log, &notes, settings(dir.path()));
    settled(&projections, &log);
    assert_each_once(&notes, &log);
}

fn append_to(path: &Path, bytes: &[u8]) {
    use std::io::Write;
    std::fs::OpenOptions::new()
        .append(true)
        .open(path)
        .unwrap()
        .write_all(bytes)
        .unwrap();
}

/// Cuts the file behind the last frame that holds commands.
fn forget_outcomes(path: &Path) {
    let bytes = std::fs::read(path).unwrap();
    let (mut at, mut keep) = (0, 0);
    while at < bytes.len() {
        let len = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
        let frame = &bytes[at..at + 12 + len];
        at += frame.len();
        let settled = frame.windows(7).any(|text| text == b"Settled");
        if !settled {
            keep = at;
        }
    }
    std::fs::write(path, &bytes[..keep]).unwrap();
}

#[test]
fn a_failing_command_holds_up_its_own_key_only() {
    let dir = tempfile::tempdir().unwrap();
    let (log, notes) = (MemoryLog::new("test"), Arc::new(Notes::default()));
    notes.failures.store(4, Ordering::SeqCst);
    let projections = run(&log, &notes, settings(dir.path()));
    append(&log, "ann", &[counted(10, "red")]);
    until("it is tried again", || {
        projections.statuses()[0].outbox.as_ref().unwrap().retrying.is_some()
    });
    let retrying = projections.statuses()[0].outbox.clone().unwrap().retrying.unwrap();
    assert!(
        retrying.contains("note of notes/ann") && retrying.contains("no connection"),
        "{retrying}"
    );
    append(&log, "ann", &[counted(10, "red")]);
    append(&log, "bob", &[counted(10, "red")]);
    settled(&projections, &log);
    assert_each_once(&notes, &log);
    assert!(projections.statuses()[0].outbox.as_ref().unwrap().retrying.is_none());
}

#[test]
fn a_rejection_is_final_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (log, notes) = (MemoryLog::new("test"), Arc::new(Notes::default()));
    *notes.reject.lock().unwrap() = Some("not today");
    let projections = run(&log, &notes, settings(dir.path()));
    append(&log, "ann", &[counted(20, "red")]);
    settled(&projections, &log);
    assert_eq!(projections.statuses()[0].outbox.as_ref().unwrap().rejected, 2);
    projections.shutdown();
    *notes.reject.lock().unwrap() = None;
    let projections = run(&log, &notes, settings(dir.path()));
    append(&log, "bob", &[counted(10, "red")]);
    settled(&projections, &log);
    assert_eq!(
        notes.calls.load(Ordering::SeqCst),
        3,
        "what was rejected is not asked again"
    );
    let outbox = projections.statuses()[0].outbox.clone().unwrap();
    assert_eq!((outbox.rejected, outbox.dispatched), (2, 1));
}

#[test]
fn a_lost_outbox_is_not_guessed_but_told() {
    let dir = tempfile::tempdir().unwrap();
    let (log, notes) = (MemoryLog::new("test"), Arc::new(Notes::default()));
    let settings = settings(dir.path());
    append(&log, "ann", &[counted(9, "red"), counted(9, "red")]);
    let projections = run(&log, &notes, settings.clone());
    settled(&projections, &log);
    projections.shutdown();
    std::fs::remove_file(dir.path().join("reactors/tens/outbox")).unwrap();
    let last = append(&log, "ann", &[counted(2, "red")]);
    let projections = run(&log, &notes, settings.clone());
    let error = stopped(&projections);
    assert!(
        error.contains("annals projections resume tens --from POSITION"),
        "{error}"
    );
    assert_eq!(notes.calls.load(Ordering::SeqCst), 1, "nothing is dispatched");
    let beyond = projections.resume_reactor("tens", Position::new(9)).unwrap_err();
    assert!(matches!(beyond, ResumeError::BeyondHead { .. }));
    projections.resume_reactor("tens", last).unwrap();
    settled(&projections, &log);
    assert_each_once(&notes, &log);
    assert!(matches!(
        projections.resume_reactor("tens", last),
        Err(ResumeError::Running(_))
    ));
    projections.shutdown();
    let reactors = [ReactorDefinition::of(Tens)];
    resume_reactor(&log, &reactors, &settings, "tens", Position::ZERO).unwrap();
    let projections = run(&log, &notes, settings);
    settled(&projections, &log);
    assert_each_once(&notes, &log);
    assert_eq!(
        notes.calls.load(Ordering::SeqCst),
        4,
        "all was asked again, and had its effect before"
    );
}

#[test]
fn a_directory_that_is_gone_altogether_shows_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (log, notes) = (MemoryLog::new("test"), Arc::new(Notes::default()));
    let mut effect = Append::new(
        StreamId::new("notes", "ann").unwrap(),
        vec![NewEvent::new("Noted", vec![0xc0])],
    );
    effect.metadata.actor = Some("reactor:tens".into());
    futures_ready(log.append(effect)).unwrap();
    let projections = run(&log, &notes, settings(dir.path()));
    let error = stopped(&projections);
    assert!(error.contains("worked on this log before, at position 1"), "{error}");
}

#[test]
fn an_outbox_of_another_log_or_an_older_copy_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (log, notes) = (MemoryLog::new("test"), Arc::new(Notes::default()));
    let outbox = dir.path().join("reactors/tens/outbox");
    append(&log, "ann", &[counted(10, "red")]);
    let projections = run(&log, &notes, settings(dir.path()));
    settled(&projections, &log);
    let older = std::fs::read(&outbox).unwrap();
    append(&log, "ann", &[counted(10, "red")]);
    settled(&projections, &log);
    projections.shutdown();
    let newer = std::fs::read(&outbox).unwrap();
    std::fs::write(&outbox, older).unwrap();
    let projections = run(&log, &notes, settings(dir.path()));
    let error = stopped(&projections);
    assert!(error.contains("was there before"), "{error}");
    projections.shutdown();
    let mut damaged = newer.clone();
    damaged[40] ^= 1;
    for (bytes, says) in [(damaged, "damaged at byte 0"), (vec![], "first frame")] {
        std::fs::write(&outbox, bytes).unwrap();
        let projections = run(&log, &notes, settings(dir.path()));
        let error = stopped(&projections);
        assert!(error.contains(says), "{error}");
        projections.shutdown();
    }
    std::fs::write(&outbox, newer).unwrap();
    let restored = MemoryLog::new("test");
    append(&restored, "ann", &[counted(10, "red"), counted(0, "red")]);
    let projections = run(&restored, &notes, settings(dir.path()));
    let error = stopped(&projections);
    assert!(error.contains("epoch"), "{error}");
    assert_eq!(notes.calls.load(Ordering::SeqCst), 2);
}

#[test]
fn a_failing_event_stops_the_reactor_and_what_came_before_it_is_still_done() {
    let dir = tempfile::tempdir().unwrap();
    let (log, notes) = (MemoryLog::new("test"), Arc::new(Notes::default()));
    append(
        &log,
        "ann",
        &[
            counted(10, "red"),
            counted(10, "red"),
            CountEvent::Poisoned,
            counted(10, "red"),
        ],
    );
    notes.failures.store(2, Ordering::SeqCst);
    let projections = run(&log, &notes, settings(dir.path()));
    let error = stopped(&projections);
    assert!(
        error.contains("event 3 (Poisoned)") && error.contains("the poison works"),
        "{error}"
    );
    until("the outbox is empty", || {
        projections.statuses()[0].outbox.as_ref().unwrap().pending == 0
    });
    assert_eq!(notes.effects.lock().unwrap()["ann"], [1, 2]);
    assert_eq!(projections.statuses()[0].position, Position::new(2));
}

#[test]
fn reactors_need_somebody_to_execute_their_commands() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(MemoryLog::new("test"));
    let reactors = vec![ReactorDefinition::of(Tens)];
    let started = Projections::start(log, catalog(), Vec::new(), reactors, None, settings(dir.path()));
    assert!(matches!(started, Err(ProjectionError::NoDispatcher(name)) if name == "tens"));
}

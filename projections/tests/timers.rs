//! Timers of reactors: they go off once, on time by the log's clock, unless an event cancels them, whatever is restarted
//! or lost. And commands that keep failing: their key waits for a person, all others go on.

#![allow(clippy::unwrap_used, reason = "helpers of tests, where a failure is a panic")]

mod common;

use annals_core::*;
use annals_event_store::MemoryLog;
use annals_projections::*;
use common::*;
use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Reminds of every stream a week after something was counted in it, unless it is emptied before.
struct Reminder;

#[derive(Default, State)]
struct Nothing {
    counted: u32,
}

fn note(id: &str, text: &str) -> CommandCall {
    CommandCall {
        category: "notes".into(),
        id: id.into(),
        command: text.into(),
        body: vec![0x80],
    }
}

impl Reactor for Reminder {
    const NAME: &'static str = "reminder";
    type Event = CountEvent;
    type State = Nothing;

    fn route(&self, event: &Recorded<'_, CountEvent>) -> Keys {
        Keys::one(event.stream_id())
    }

    fn evolve(&self, state: &mut Nothing, _: &Recorded<'_, CountEvent>) {
        state.counted += 1;
    }

    fn react(&self, _: &Nothing, event: &Recorded<'_, CountEvent>) -> Result<Vec<CommandCall>, InvalidCommand> {
        assert_ne!(event.data(), &CountEvent::Poisoned, "the poison works");
        Ok(match event.data() {
            CountEvent::Counted { amount: 2, .. } => vec![note(event.stream_id(), "seen")],
            _ => Vec::new(),
        })
    }

    fn timers(&self, _: &Nothing, event: &Recorded<'_, CountEvent>) -> Result<Vec<Timer>, InvalidCommand> {
        Ok(match event.data() {
            CountEvent::Counted { .. } => vec![after(7 * DAY, note(event.stream_id(), "remind"))],
            CountEvent::Emptied => vec![cancel_timers()],
            _ => Vec::new(),
        })
    }
}

/// Remembers what was sent, each key once; fails for the streams it is told to.
#[derive(Default)]
struct Sent {
    requests: Mutex<Vec<DispatchRequest>>,
    keys: Mutex<HashSet<String>>,
    broken: Mutex<HashSet<String>>,
    /// Whether nothing at all can be carried out.
    full: Mutex<bool>,
}

impl Dispatcher for Sent {
    fn dispatch(&self, request: DispatchRequest) -> Result<(), DispatchError> {
        if *self.full.lock().unwrap() {
            return Err(DispatchError::Unavailable("the disk is full".into()));
        }
        if self.broken.lock().unwrap().contains(&request.call.id) {
            return Err(DispatchError::Failed("out of paper".into()));
        }
        if self.keys.lock().unwrap().insert(request.key.clone()) {
            self.requests.lock().unwrap().push(request);
        }
        Ok(())
    }
}

impl Sent {
    fn all(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        let shown = |request: &DispatchRequest| format!("{} {} {}", request.key, request.call.command, request.call.id);
        requests.iter().map(shown).collect()
    }

    fn of(&self, id: &str) -> usize {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|request| request.call.id == id).count()
    }
}

fn quick(dir: &Path) -> ProjectionSettings {
    let mut settings = settings(dir);
    settings.attempts_max = 3;
    settings.retry_pause_min = Duration::from_millis(1);
    settings.retry_pause_max = Duration::from_millis(5);
    settings
}

fn run(log: &MemoryLog, sent: &Arc<Sent>, dir: &Path) -> Projections {
    let dispatcher = Arc::clone(sent) as Arc<dyn Dispatcher>;
    let reactors = vec![ReactorDefinition::of(Reminder)];
    let log = Arc::new(log.clone());
    Projections::start(log, catalog(), Vec::new(), reactors, Some(dispatcher), quick(dir)).unwrap()
}

fn caught_up(projections: &Projections, log: &MemoryLog) {
    until("all is read and sent", || {
        let status = &projections.statuses()[0];
        status.position == log.head() && status.outbox.as_ref().unwrap().pending == 0
    });
}

fn next_timer(projections: &Projections) -> Option<chrono::DateTime<chrono::Utc>> {
    projections.statuses()[0].outbox.as_ref().unwrap().next_timer_at
}

#[test]
fn a_timer_goes_off_when_the_logs_clock_gets_there_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let (log, sent) = (MemoryLog::new("test"), Arc::new(Sent::default()));
    let projections = run(&log, &sent, dir.path());
    append(&log, "ann", &[counted(2, "red")]);
    log.advance(DAY);
    append(&log, "bob", &[counted(1, "red")]);
    caught_up(&projections, &log);
    assert_eq!(sent.all(), ["reminder:1:1 seen ann"]);
    let due = next_timer(&projections).unwrap();
    log.advance(6 * DAY);
    until("ann is reminded", || sent.all().len() == 2);
    assert_eq!(sent.all()[1], "reminder:1:2 remind ann");
    assert!(next_timer(&projections).unwrap() > due, "bob's is a day later");
    let record = log.read_one(Position::new(1)).unwrap().unwrap();
    let request = sent.requests.lock().unwrap()[1].clone();
    assert_eq!(request.metadata.actor.as_deref(), Some("reactor:reminder"));
    assert_eq!(
        request.metadata.causation_id,
        Some(record.view().unwrap().header.id.to_string())
    );
    assert_eq!(request.occurred_at, None, "it occurs when it is recorded");
    log.advance(DAY);
    until("bob is reminded", || sent.of("bob") == 1);
    caught_up(&projections, &log);
    assert_eq!(next_timer(&projections), None);
}

#[test]
fn a_later_event_of_the_key_cancels_its_timers_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let (log, sent) = (MemoryLog::new("test"), Arc::new(Sent::default()));
    let projections = run(&log, &sent, dir.path());
    append(&log, "ann", &[counted(1, "red"), counted(1, "red")]);
    append(&log, "bob", &[counted(1, "red")]);
    append(&log, "ann", &[CountEvent::Emptied]);
    caught_up(&projections, &log);
    log.advance(8 * DAY);
    until("bob is reminded", || sent.of("bob") == 1);
    caught_up(&projections, &log);
    assert_eq!(sent.of("ann"), 0);
}

#[test]
fn an_event_that_came_in_before_the_reactor_got_there_still_cancels() {
    let dir = tempfile::tempdir().unwrap();
    let (log, sent) = (MemoryLog::new("test"), Arc::new(Sent::default()));
    let projections = run(&log, &sent, dir.path());
    append(&log, "ann", &[counted(1, "red")]);
    caught_up(&projections, &log);
    projections.shutdown();
    log.advance(6 * DAY);
    append(&log, "ann", &[CountEvent::Emptied]);
    log.advance(6 * DAY);
    append(&log, "bob", &[CountEvent::Emptied]);
    let projections = run(&log, &sent, dir.path());
    caught_up(&projections, &log);
    append(&log, "bob", &[CountEvent::Emptied]);
    caught_up(&projections, &log);
    assert_eq!(sent.all(), [] as [&str; 0]);
}

#[test]
fn a_history_that_is_loaded_sets_no_timers() {
    let dir = tempfile::tempdir().unwrap();
    let (log, sent) = (MemoryLog::new("test"), Arc::new(Sent::default()));
    let projections = run(&log, &sent, dir.path());
    let occurred = |before: Duration| {
        let mut event = NewEvent::new("Counted", counted(1, "red").encode().unwrap());
        event.occurred_at = Some(log.now().unwrap() - before);
        event
    };
    for (id, before) in [("old", 2 * DAY), ("new", DAY / 2)] {
        let stream = StreamId::new("counts", id).unwrap();
        futures_ready(log.append(Append::new(stream, vec![occurred(before)]))).unwrap();
    }
    caught_up(&projections, &log);
    log.advance(30 * DAY);
    until("the new one is reminded of", || sent.of("new") == 1);
    caught_up(&projections, &log);
    assert_eq!(sent.of("old"), 0);
}

#[test]
fn each_timer_goes_off_once_whatever_is_restarted_or_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (log, sent) = (MemoryLog::new("test"), Arc::new(Sent::default()));
    let mut dice = Dice(3);
    for round in 0..8 {
        let projections = run(&log, &sent, dir.path());
        for n in 0..30 {
            append(&log, &format!("k{round}-{n}"), &[counted(1, "red")]);
        }
        log.advance(Duration::from_secs(dice.roll(6) * 24 * 60 * 60));
        std::thread::sleep(Duration::from_millis(dice.roll(40)));
        projections.shutdown();
        if round % 3 == 1 {
            // The state is derived: folded anew, it knows which timers have gone off.
            std::fs::remove_dir_all(dir.path().join("reactors/reminder/state")).unwrap();
        }
    }
    log.advance(30 * DAY);
    // A dispatcher that has forgotten all keys: what it is asked for a second time, it does a second time.
    let before = sent.all().len();
    sent.keys.lock().unwrap().clear();
    let projections = run(&log, &sent, dir.path());
    until("all have gone off", || sent.all().len() >= 240);
    caught_up(&projections, &log);
    let all: HashSet<String> = sent.all().into_iter().collect();
    assert_eq!(
        (all.len(), sent.all().len()),
        (240, 240),
        "{before} had gone off before"
    );
    projections.shutdown();
    std::fs::remove_dir_all(dir.path().join("reactors/reminder/state")).unwrap();
    let projections = run(&log, &sent, dir.path());
    caught_up(&projections, &log);
    append(&log, "last", &[CountEvent::Emptied]);
    caught_up(&projections, &log);
    assert_eq!(sent.all().len(), 240, "a rebuild of the state sends nothing");
}

#[test]
fn told_from_where_to_go_on_it_sends_nothing_that_was_due_before() {
    let dir = tempfile::tempdir().unwrap();
    let (log, sent) = (MemoryLog::new("test"), Arc::new(Sent::default()));
    append(&log, "ann", &[counted(2, "red")]);
    log.advance(8 * DAY);
    let from = append(&log, "bob", &[counted(2, "red")]);
    resume_reactor(
        &log,
        &[ReactorDefinition::of(Reminder)],
        &quick(dir.path()),
        "reminder",
        from,
    )
    .unwrap();
    let projections = run(&log, &sent, dir.path());
    caught_up(&projections, &log);
    assert_eq!(sent.all(), ["reminder:2:1 seen bob"]);
    log.advance(30 * DAY);
    until("bob is reminded", || sent.of("bob") == 2);
    caught_up(&projections, &log);
    assert_eq!(sent.of("ann"), 0);
}

fn decide(projections: &Projections, log: &MemoryLog, operation: &Operation) {
    futures_ready(log.append(operation.append(Metadata::default()).unwrap())).unwrap();
    projections.decided(operation.projection());
}

fn dead(projections: &Projections) -> DeadLetter {
    until("there is a dead letter", || {
        let letters = projections.dead_letters();
        letters.len() == 1 && letters[0].state != DeadLetterState::Retrying
    });
    projections.dead_letters().remove(0)
}

#[test]
fn a_command_that_keeps_failing_parks_its_key_until_it_is_retried_or_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let (log, sent) = (MemoryLog::new("test"), Arc::new(Sent::default()));
    sent.broken.lock().unwrap().insert("ann".into());
    let projections = run(&log, &sent, dir.path());
    append(&log, "ann", &[counted(2, "red"), counted(2, "red"), counted(2, "red")]);
    append(&log, "bob", &[counted(2, "red")]);
    let letter = dead(&projections);
    assert_eq!(
        (letter.id.as_str(), letter.key.as_deref(), letter.number),
        ("reminder:1:1", Some("ann"), Some(1))
    );
    assert_eq!((letter.attempts, letter.waiting), (3, 3));
    assert_eq!(
        (letter.event_type.as_str(), letter.stream.as_str()),
        ("Counted", "counts/ann")
    );
    assert!(letter.command.unwrap().contains("seen of notes/ann") && letter.error.contains("out of paper"));
    until("bob is not held up", || sent.of("bob") == 1);
    let status = &projections.statuses()[0];
    assert_eq!((status.state, status.dead_letters), (ProjectionState::Running, 1));
    decide(
        &projections,
        &log,
        &projections.skip(&letter.id, "no more paper").unwrap(),
    );
    until("the next one is stuck", || {
        projections
            .dead_letters()
            .first()
            .is_some_and(|letter| letter.position == Position::new(2))
    });
    let second = dead(&projections);
    sent.broken.lock().unwrap().clear();
    decide(&projections, &log, &projections.retry(&second.id, "").unwrap());
    until("the rest is sent", || sent.of("ann") == 2);
    assert!(projections.dead_letters().is_empty());
    let outbox = projections.statuses()[0].outbox.clone().unwrap();
    assert_eq!((outbox.pending, outbox.rejected, outbox.dispatched), (0, 1, 3));
}

#[test]
fn a_parked_command_outlives_restarts_and_is_listed_while_nothing_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (log, sent) = (MemoryLog::new("test"), Arc::new(Sent::default()));
    sent.broken.lock().unwrap().insert("ann".into());
    let projections = run(&log, &sent, dir.path());
    append(&log, "ann", &[counted(2, "red"), counted(2, "red")]);
    let first = dead(&projections);
    // Tried once more in vain: that decision must not be heeded again by each start.
    decide(&projections, &log, &projections.retry(&first.id, "").unwrap());
    until("it failed anew", || {
        let letters = projections.dead_letters();
        letters.len() == 1
            && letters[0].state == DeadLetterState::Parked
            && letters[0].last_failed_at > first.last_failed_at
    });
    let letter = dead(&projections);
    projections.shutdown();
    drop(projections);

    let reactors = [ReactorDefinition::of(Reminder)];
    let offline = dead_letters_offline(&[], &reactors, &quick(dir.path())).unwrap();
    assert_eq!(offline, std::slice::from_ref(&letter));

    // What was wrong is mended; a person has to say so all the same.
    sent.broken.lock().unwrap().clear();
    let projections = run(&log, &sent, dir.path());
    assert_eq!(dead(&projections), letter);
    append(&log, "bob", &[counted(2, "red")]);
    until("bob is not held up", || sent.of("bob") == 1);
    assert_eq!((dead(&projections), sent.of("ann")), (letter.clone(), 0));
    decide(&projections, &log, &projections.retry(&letter.id, "mended").unwrap());
    until("all is sent", || sent.of("ann") == 2);
    until("nothing waits", || projections.dead_letters().is_empty());
    projections.shutdown();
    drop(projections);
    assert_eq!(dead_letters_offline(&[], &reactors, &quick(dir.path())).unwrap(), []);
    let projections = run(&log, &sent, dir.path());
    caught_up(&projections, &log);
    assert_eq!((sent.of("ann"), projections.dead_letters().len()), (2, 0));
}

#[test]
fn what_fails_because_of_the_moment_is_tried_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let (log, sent) = (MemoryLog::new("test"), Arc::new(Sent::default()));
    *sent.full.lock().unwrap() = true;
    let projections = run(&log, &sent, dir.path());
    append(&log, "ann", &[counted(2, "red")]);
    until("it was tried more often than a failing command", || {
        let retrying = projections.statuses()[0].outbox.clone().unwrap().retrying;
        retrying.is_some_and(|text| text.contains("failed 9 times"))
    });
    assert!(projections.dead_letters().is_empty());
    *sent.full.lock().unwrap() = false;
    until("it is sent", || sent.of("ann") == 1);
}

#[test]
fn a_reactor_that_stops_at_an_event_goes_on_once_it_is_skipped_and_rests_when_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let (log, sent) = (MemoryLog::new("test"), Arc::new(Sent::default()));
    let projections = run(&log, &sent, dir.path());
    append(
        &log,
        "ann",
        &[counted(2, "red"), CountEvent::Poisoned, counted(2, "red")],
    );
    let letter = dead(&projections);
    assert_eq!(
        (letter.state, letter.id.as_str()),
        (DeadLetterState::Stopped, "reminder:2")
    );
    assert_eq!(projections.statuses()[0].state, ProjectionState::Stopped);
    decide(&projections, &log, &projections.skip(&letter.id, "poison").unwrap());
    until("it goes on", || sent.of("ann") == 2);
    caught_up(&projections, &log);
    decide(&projections, &log, &projections.pause("reminder", true, "").unwrap());
    until("it rests", || {
        projections.statuses()[0].state == ProjectionState::Paused
    });
    append(&log, "bob", &[counted(2, "red")]);
    projections.shutdown();
    let projections = run(&log, &sent, dir.path());
    until("it rests", || {
        projections.statuses()[0].state == ProjectionState::Paused
    });
    assert_eq!(sent.of("bob"), 0);
    decide(&projections, &log, &projections.pause("reminder", false, "").unwrap());
    until("it goes on", || sent.of("bob") == 1);
    caught_up(&projections, &log);
    // Also where the state is folded anew, the event that was skipped is passed by.
    projections.shutdown();
    std::fs::remove_dir_all(dir.path().join("reactors/reminder/state")).unwrap();
    let _projections = run(&log, &sent, dir.path());
    append(&log, "cleo", &[counted(2, "red")]);
    until("it goes on", || sent.of("cleo") == 1);
    assert_eq!(sent.all().len(), 4);
}

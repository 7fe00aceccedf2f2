//! Appends on the condition that no event of some types and tags came: one suite, run against each engine.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use annals_core::*;
use annals_event_store::{DataDir, SledLog};
use proptest::prelude::*;
use std::sync::Barrier;
use support::{append, event, open, run, small, stream};

/// Runs a story against every engine.
macro_rules! engines {
    ($($story:ident),+ $(,)?) => {
        mod memory {
            $(#[test]
            fn $story() {
                super::$story(&annals_event_store::MemoryLog::new("test"));
            })+
        }

        mod sled {
            $(#[test]
            fn $story() {
                let log = crate::support::TempLog::new();
                super::$story(&*log);
            })+
        }
    };
}

engines!(
    a_condition_holds_until_an_event_matches_it,
    events_are_found_by_type_and_by_all_tags,
    what_is_found_comes_in_pages,
    a_known_key_answers_first_then_the_version_then_the_condition,
    a_condition_cannot_speak_of_what_the_log_has_not_reached,
    of_writers_that_read_the_same_one_wins,
    of_writers_that_read_when_released_one_wins,
    writers_of_other_tags_do_not_disturb_each_other,
    a_queue_full_of_conflicts_lets_one_through,
);

fn query(types: &[&str], tags: &[&str]) -> EventQuery {
    let types = types.iter().map(|kind| (*kind).to_owned().into()).collect();
    EventQuery::new(types, tags.iter().map(|tag| Tag::parse(tag).unwrap()).collect()).unwrap()
}

fn tagged(kind: &'static str, tags: &[&str]) -> NewEvent {
    let mut event = event("x");
    event.event_type = kind.into();
    event.tags = tags.iter().map(|tag| Tag::parse(tag).unwrap()).collect();
    event
}

fn put(log: &dyn Appender, name: &str, kind: &'static str, tags: &[&str]) -> Position {
    run(log.append(Append::new(stream(name), vec![tagged(kind, tags)])))
        .unwrap()
        .position
}

/// An append that takes a name: on the condition that nobody took it after `after`.
fn taking(name: &str, taken: &str, after: Position) -> Append {
    let condition = AppendCondition {
        query: query(&["Took"], &[taken]),
        after,
    };
    Append::new(stream(name), vec![tagged("Took", &[taken])]).on_condition(condition)
}

fn positions(log: &dyn Appender, query: &EventQuery, after: u64, limit: usize) -> (Vec<u64>, u64) {
    let found = log.read_matching(query, Position::new(after), limit).unwrap();
    let positions = found.records.iter().map(|record| record.position().get()).collect();
    (positions, found.reached.get())
}

#[track_caller]
fn fails_at(result: Result<Appended, AppendError>, position: u64) {
    match result {
        Err(AppendError::ConditionFailed { position: found, .. }) => assert_eq!(found.get(), position),
        other => panic!("{other:?}"),
    }
}

fn a_condition_holds_until_an_event_matches_it(log: &dyn Appender) {
    put(log, "a/1", "Other", &["name=ann"]);
    put(log, "a/1", "Took", &["name=bob"]);
    let first = run(log.append(taking("a/2", "name=ann", Position::ZERO))).unwrap();
    assert_eq!(first.position.get(), 3);
    fails_at(run(log.append(taking("a/3", "name=ann", Position::ZERO))), 3);
    assert!(run(log.append(taking("a/3", "name=ann", first.position))).is_ok());
    fails_at(run(log.append(taking("a/2", "name=ann", first.position))), 4);
    assert_eq!(log.head().get(), 4);
    // A type alone, and a tag alone.
    let on = |types: &[&str], tags: &[&str], after| {
        let (query, after) = (query(types, tags), Position::new(after));
        let condition = AppendCondition { query, after };
        run(log.append(Append::new(stream("a/9"), vec![event("y")]).on_condition(condition)))
    };
    fails_at(on(&["Other", "Never"], &[], 0), 1);
    assert!(on(&["Other"], &[], 1).is_ok());
    fails_at(on(&[], &["name=bob"], 1), 2);
    assert!(on(&[], &["name=bob"], 2).is_ok());
}

fn events_are_found_by_type_and_by_all_tags(log: &dyn Appender) {
    for i in 0..300_u64 {
        let (third, fifth) = (format!("third={}", i % 3), format!("fifth={}", i % 5));
        put(log, "a/1", if i % 2 == 0 { "Even" } else { "Odd" }, &[&third, &fifth]);
    }
    let of = |types: &[&str], tags: &[&str]| positions(log, &query(types, tags), 0, 1_000).0;
    let expected = |wanted: &dyn Fn(u64) -> bool| (0..300).filter(|i| wanted(*i)).map(|i| i + 1).collect::<Vec<_>>();
    assert_eq!(of(&[], &["third=1"]), expected(&|i| i % 3 == 1));
    assert_eq!(of(&["Odd"], &["third=1"]), expected(&|i| i % 3 == 1 && i % 2 == 1));
    assert_eq!(
        of(&["Odd", "Even"], &["third=1", "fifth=4"]),
        expected(&|i| i % 3 == 1 && i % 5 == 4)
    );
    assert_eq!(of(&["Odd"], &[]), expected(&|i| i % 2 == 1));
    assert_eq!(of(&[], &["third=3"]), [0; 0]);
    assert_eq!(of(&["Never"], &["third=1"]), [0; 0]);
}

fn what_is_found_comes_in_pages(log: &dyn Appender) {
    for i in 0..50 {
        put(log, "a/1", "Took", &[if i % 5 == 0 { "five=yes" } else { "five=no" }]);
    }
    let fives = query(&[], &["five=yes"]);
    assert_eq!(positions(log, &fives, 0, 3), (vec![1, 6, 11], 11));
    assert_eq!(positions(log, &fives, 11, 3), (vec![16, 21, 26], 26));
    assert_eq!(positions(log, &fives, 41, 3), (vec![46], 50));
    assert_eq!(positions(log, &fives, 50, 3), (vec![], 50));
    assert_eq!(positions(log, &query(&["Took"], &[]), 47, 9), (vec![48, 49, 50], 50));
}

fn a_known_key_answers_first_then_the_version_then_the_condition(log: &dyn Appender) {
    let mut keyed = taking("a/1", "name=ann", Position::ZERO);
    keyed.command = Some(CommandKey {
        key: "k".into(),
        fingerprint: [1; 16],
    });
    let first = run(log.append(keyed.clone())).unwrap();
    let again = run(log.append(keyed.clone().expecting(Expected::None))).unwrap();
    assert_eq!((again.duplicate, again.position), (true, first.position));
    let mut other = keyed.expecting(Expected::None);
    other.command = None;
    let conflict = run(log.append(other.clone())).unwrap_err();
    assert!(matches!(conflict, AppendError::VersionConflict { .. }), "{conflict}");
    fails_at(run(log.append(other.expecting(Expected::Any))), 1);
    assert_eq!(log.head().get(), 1);
}

fn a_condition_cannot_speak_of_what_the_log_has_not_reached(log: &dyn Appender) {
    put(log, "a/1", "Took", &["name=ann"]);
    let error = run(log.append(taking("a/1", "name=bob", Position::new(2)))).unwrap_err();
    assert!(error.to_string().contains("ends at 1"), "{error}");
    assert_eq!(log.head().get(), 1);
}

/// Lets all writers loose at once; how many of them won.
fn race(writers: usize, write: impl Fn(usize) -> Result<Appended, AppendError> + Sync) -> usize {
    let barrier = Barrier::new(writers);
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..writers)
            .map(|writer| {
                let (barrier, write) = (&barrier, &write);
                scope.spawn(move || {
                    barrier.wait();
                    match write(writer) {
                        Ok(_) => 1,
                        Err(AppendError::ConditionFailed { .. }) => 0,
                        Err(error) => panic!("{error}"),
                    }
                })
            })
            .collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).sum()
    })
}

fn of_writers_that_read_the_same_one_wins(log: &dyn Appender) {
    for round in 0..10 {
        let read = log.head();
        let wins = race(8, |writer| {
            run(log.append(taking(&format!("a/{writer}"), "name=ann", read)))
        });
        assert_eq!(wins, 1, "round {round}");
        assert_eq!(
            positions(log, &query(&["Took"], &["name=ann"]), read.get(), 9).0.len(),
            1
        );
    }
}

fn of_writers_that_read_when_released_one_wins(log: &dyn Appender) {
    for round in 0..10 {
        let name = format!("name={round}");
        let wins = race(8, |writer| {
            // What is unrelated moves the head between the read and the append.
            put(log, &format!("noise/{writer}"), "Noise", &["noise=yes"]);
            let found = log
                .read_matching(&query(&["Took"], &[&name]), Position::ZERO, 1)
                .unwrap();
            put(log, &format!("noise/{writer}"), "Took", &["noise=yes"]);
            match found.records.first() {
                Some(record) => Err(AppendError::ConditionFailed {
                    position: record.position(),
                    after: Position::ZERO,
                }),
                None => run(log.append(taking(&format!("a/{writer}"), &name, found.reached))),
            }
        });
        assert_eq!(wins, 1, "round {round}");
        assert_eq!(positions(log, &query(&["Took"], &[&name]), 0, 9).0.len(), 1);
    }
}

fn writers_of_other_tags_do_not_disturb_each_other(log: &dyn Appender) {
    for round in 0..8 {
        let read = log.head();
        let wins = race(8, |writer| {
            run(log.append(taking(&format!("a/{writer}"), &format!("name={writer}"), read)))
        });
        assert_eq!(wins, 8, "round {round}");
    }
}

fn a_queue_full_of_conflicts_lets_one_through(log: &dyn Appender) {
    for round in 0..8 {
        let read = log.head();
        // All are under way before any is answered, so that many of them share a group.
        let won = run(async {
            let under_way: Vec<_> = (0..64)
                .map(|writer| {
                    let taking = taking(&format!("a/{writer}"), &format!("name={}", writer % 4), read);
                    (
                        log.append(Append::new(stream("noise/1"), vec![event("x")])),
                        log.append(taking),
                    )
                })
                .collect();
            let (noise, takes): (Vec<_>, Vec<_>) = under_way.into_iter().unzip();
            let mut won = 0;
            let mut tasks = tokio::task::JoinSet::new();
            takes.into_iter().for_each(|take| drop(tasks.spawn(take)));
            noise.into_iter().for_each(|noise| drop(tasks.spawn(noise)));
            while let Some(result) = tasks.join_next().await {
                match result.unwrap() {
                    Ok(appended) => won += usize::from(&*appended.events[0].event_type == "Took"),
                    Err(AppendError::ConditionFailed { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            won
        });
        assert_eq!(won, 4, "round {round}");
    }
}

/// A log with small volumes and a short tail, to be closed and opened again.
struct Reopening {
    log: Option<(SledLog, DataDir)>,
    dir: tempfile::TempDir,
}

impl Reopening {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = Some(open(dir.path(), small()));
        Self { log, dir }
    }

    fn log(&self) -> &SledLog {
        &self.log.as_ref().unwrap().0
    }

    fn reopen(&mut self) {
        self.log().close();
        self.log = None;
        self.log = Some(open(self.dir.path(), small()));
    }
}

#[test]
fn a_condition_holds_over_a_reopening() {
    let mut story = Reopening::new();
    for i in 0..40 {
        put(story.log(), "a/1", "Took", &[&format!("name={i}")]);
    }
    story.reopen();
    for i in [0, 17, 39] {
        let taking = taking("a/2", &format!("name={i}"), Position::ZERO);
        fails_at(run(story.log().append(taking)), i + 1);
    }
    append(story.log(), "a/3", &["between"]).unwrap();
    assert!(run(story.log().append(taking("a/2", "name=39", Position::new(40)))).is_ok());
    story.reopen();
    fails_at(run(story.log().append(taking("a/2", "name=39", Position::new(39)))), 40);
    fails_at(run(story.log().append(taking("a/2", "name=39", Position::new(40)))), 42);
    assert_eq!(
        positions(story.log(), &query(&[], &["name=39"]), 0, 9),
        (vec![40, 42], 42)
    );
}

/// One append of a history: which tag it carries, and the tag and how far back its condition asks, if it has one.
type Step = (u8, Option<(Option<u8>, bool, u64)>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let condition = proptest::option::of((proptest::option::of(0..4_u8), any::<bool>(), 0..20_u64));
    proptest::collection::vec((0..4_u8, condition), 1..40)
}

fn step(log: &dyn Appender, (tag, condition): &Step) -> Result<u64, String> {
    let kind = if tag % 2 == 0 { "Even" } else { "Odd" };
    let mut append = Append::new(stream("a/1"), vec![tagged(kind, &[&format!("n={tag}"), "all=yes"])]);
    if let Some((wanted, odd, back)) = condition {
        let tags = wanted.map(|wanted| format!("n={wanted}"));
        let types: &[&str] = if *odd || tags.is_none() { &["Odd"] } else { &[] };
        append.condition = Some(AppendCondition {
            query: query(types, &tags.iter().map(String::as_str).collect::<Vec<_>>()),
            after: Position::new(log.head().get().saturating_sub(*back)),
        });
    }
    match run(log.append(append)) {
        Ok(appended) => Ok(appended.position.get()),
        Err(error @ AppendError::ConditionFailed { .. }) => Err(error.to_string()),
        Err(error) => panic!("{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn both_engines_decide_every_history_alike(steps in steps(), reopen_at in 0..40_usize) {
        let memory = annals_event_store::MemoryLog::new("test");
        let mut sled = Reopening::new();
        for (number, each) in steps.iter().enumerate() {
            if number == reopen_at {
                sled.reopen();
            }
            // Each engine may name another one of several matching events, but not another verdict.
            let (expected, found) = (step(&memory, each), step(sled.log(), each));
            prop_assert_eq!(expected.is_ok(), found.is_ok(), "step {}: {:?} {:?}", number, expected, found);
        }
        for tag in 0..4 {
            let query = query(&[], &["all=yes", &format!("n={tag}")]);
            prop_assert_eq!(positions(&memory, &query, 0, 100), positions(sled.log(), &query, 0, 100));
        }
    }
}

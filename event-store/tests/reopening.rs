//! What a log is after it was closed, or was not: reopened, compared with the model, damaged, verified.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "support/damage.rs"]
mod damage;
mod support;

use annals_core::*;
use annals_event_store::{LogSettings, MemoryLog};
use damage::alter;
use proptest::prelude::*;
use support::{append, copy_tree, event, open, problems, run, small, stream, texts, written};

#[test]
fn a_closed_log_opens_as_it_was_over_many_volumes() {
    let dir = tempfile::tempdir().unwrap();
    let mut epoch = None;
    for round in 0..5u64 {
        let (log, _held) = open(dir.path(), small());
        assert_eq!(log.head().get(), round * 20);
        assert_eq!(*epoch.get_or_insert(log.epoch()), log.epoch());
        for i in 0..20 {
            append(&log, &format!("a/{}", i % 3), &[&format!("{}", round * 20 + i)]).unwrap();
        }
        assert_eq!(
            texts(&log, Position::ZERO),
            (0..=round * 20 + 19).map(|i| i.to_string()).collect::<Vec<_>>()
        );
        let records = log
            .read_stream(&stream("a/1"), Version::new(1), Direction::Forward, 1000)
            .unwrap();
        assert_eq!(records.len() as u64, (round + 1) * 7);
        log.close();
    }
    assert!(
        std::fs::read_dir(dir.path().join("log")).unwrap().count() > 20,
        "every group rolled to a new volume"
    );
}

#[test]
fn many_readers_of_many_volumes_see_every_event_once() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _held) = open(dir.path(), small());
    for i in 0..24 {
        append(&log, &format!("a/{}", i % 3), &[&i.to_string()]).unwrap();
    }
    let all: Vec<String> = (0..24).map(|i| i.to_string()).collect();
    std::thread::scope(|scope| {
        // More readers, each at another volume, than volumes are kept open.
        let readers: Vec<_> = (0..8)
            .map(|reader| {
                scope.spawn({
                    let (log, all) = (&log, &all);
                    move || {
                        for round in 0..3 {
                            let after = (reader * 3 + round) % 24;
                            assert_eq!(texts(log, Position::new(after as u64)), all[after..]);
                        }
                    }
                })
            })
            .collect();
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
fn a_log_copied_while_it_was_written_opens_with_all_that_was_acknowledged() {
    // What a kill leaves is what the files hold at that moment: the log is copied without closing it.
    let dir = tempfile::tempdir().unwrap();
    let settings = LogSettings {
        volume_bytes_max: 10 << 20,
        ..small()
    };
    let (log, _held) = open(&dir.path().join("a"), settings.clone());
    for round in 0..10 {
        for i in 0..30 {
            append(&log, &format!("a/{}", i % 4), &["x", "y", "z"]).unwrap();
        }
        // A copy takes time, and must not see files change meanwhile.
        log.settle().unwrap();
        let copy = dir.path().join(format!("copy-{round}"));
        copy_tree(&dir.path().join("a"), &copy);
        let (copied, _held) = open(&copy, settings.clone());
        assert_eq!(copied.head(), log.head());
        let report = copied.verify(&mut |_| ()).unwrap();
        assert_eq!((report.problems.as_slice(), report.events), (&[][..], log.head().get()));
        append(&copied, "a/1", &["goes on"]).unwrap();
    }
}

#[test]
fn an_index_that_was_deleted_is_built_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (log, held) = open(dir.path(), small());
    for i in 0..200 {
        append(&log, &format!("a/{}", i % 10), &["x"]).unwrap();
    }
    log.close();
    drop((log, held));
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let (log, _held) = open(dir.path(), small());
    assert_eq!(log.stream_head(&stream("a/3")).unwrap().unwrap().version.get(), 20);
    assert!(log.verify(&mut |_| ()).unwrap().problems.is_empty());
}

#[test]
fn a_full_disk_refuses_appends_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _held) = open(
        dir.path(),
        LogSettings {
            reserve_bytes: u64::MAX,
            ..small()
        },
    );
    let error = append(&log, "a/1", &["x"]).unwrap_err();
    assert!(matches!(error, AppendError::StorageFull { .. }), "{error}");
    assert_eq!(log.fatal(), None);
}

#[test]
fn a_full_queue_says_so_and_a_closed_log_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _held) = open(
        dir.path(),
        LogSettings {
            queue_bytes_max: 100,
            ..small()
        },
    );
    assert!(matches!(
        append(&log, "a/1", &["x"]),
        Err(AppendError::Overloaded { .. })
    ));
    log.close();
    assert!(matches!(append(&log, "a/1", &["x"]), Err(AppendError::Closed(_))));
}

/// One step of a random story.
#[derive(Debug, Clone)]
enum Step {
    Append {
        stream: u8,
        events: u8,
        expected: Option<u8>,
        key: Option<u8>,
        id: Option<u8>,
    },
    Read {
        after: u8,
        bytes: u16,
    },
    ReadStream {
        stream: u8,
        from: u8,
        backward: bool,
        limit: u8,
    },
    Reopen,
    /// Closed volumes are sealed and joined.
    Seal,
    /// The process dies: what goes on is what its files held at that moment.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let append = (
        0..4u8,
        1..6u8,
        prop::option::of(0..8u8),
        prop::option::weighted(0.3, 0..6u8),
        prop::option::weighted(0.2, 0..6u8),
    )
        .prop_map(|(stream, events, expected, key, id)| Step::Append {
            stream,
            events,
            expected,
            key,
            id,
        });
    prop_oneof![
        8 => append,
        2 => (any::<u8>(), any::<u16>()).prop_map(|(after, bytes)| Step::Read { after, bytes }),
        2 => (0..4u8, 0..30u8, any::<bool>(), 0..20u8)
            .prop_map(|(stream, from, backward, limit)| Step::ReadStream { stream, from, backward, limit }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Seal),
        1 => Just(Step::Crash),
    ]
}

fn to_append(stream_number: u8, events: u8, expected: Option<u8>, key: Option<u8>, id: Option<u8>) -> Append {
    let mut append = Append::new(
        stream(&format!("a/{stream_number}")),
        vec![event("x"); usize::from(events)],
    );
    append.expected = match expected {
        None => Expected::Any,
        Some(0) => Expected::None,
        Some(version) => Expected::Exact(Version::new(u64::from(version))),
    };
    append.command = key.map(|key| CommandKey {
        key: key.to_string(),
        fingerprint: [events; 16],
    });
    if let Some(id) = id {
        append.events[0].id = Some(EventId::parse(&format!("id-{id}")).unwrap());
    }
    append
}

/// What an append came to, without what differs between logs: generated ids.
fn outcome(result: Result<Appended, AppendError>) -> Result<(u64, u64, Vec<u64>, bool), String> {
    let places = |appended: &Appended| appended.events.iter().map(|event| event.position.get()).collect();
    result
        .map(|appended| {
            (
                appended.version.get(),
                appended.position.get(),
                places(&appended),
                appended.duplicate,
            )
        })
        .map_err(|error| error.to_string())
}

fn seen(log: &dyn EventLog, step: &Step) -> Vec<(u64, String, u64, u32)> {
    let short = |record: &RecordRef<'_>| {
        let header = &record.header;
        (
            record.position.get(),
            header.stream.to_owned(),
            header.version,
            header.place.index,
        )
    };
    match step {
        Step::Read { after, bytes } => {
            let blocks = log.read(Position::new(u64::from(*after)), usize::from(*bytes)).unwrap();
            // Engines cut blocks as they like: only the first record must be the same.
            blocks
                .iter()
                .flat_map(Block::iter)
                .take(1)
                .map(|record| short(&record.unwrap()))
                .collect()
        }
        Step::ReadStream {
            stream: number,
            from,
            backward,
            limit,
        } => {
            let direction = if *backward {
                Direction::Backward
            } else {
                Direction::Forward
            };
            let name = stream(&format!("a/{number}"));
            let records = log
                .read_stream(&name, Version::new(u64::from(*from)), direction, usize::from(*limit))
                .unwrap();
            records.iter().map(|record| short(&record.view().unwrap())).collect()
        }
        _ => Vec::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_does_what_the_model_does(steps in prop::collection::vec(step(), 1..60), in_journal in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        // Each group is stored at once, or only when the journal is full.
        let settings = || LogSettings { store_bytes: if in_journal { 1 << 30 } else { 0 }, ..small() };
        let model = MemoryLog::new("annals");
        let mut life = dir.path().join("0");
        let (mut log, mut held) = open(&life, settings());
        for (number, step) in steps.into_iter().enumerate() {
            match &step {
                Step::Append { stream, events, expected, key, id } => {
                    let append = to_append(*stream, *events, *expected, *key, *id);
                    prop_assert_eq!(outcome(run(log.append(append.clone()))), outcome(run(model.append(append))));
                }
                Step::Reopen => {
                    drop((log, held));
                    (log, held) = open(&life, settings());
                }
                Step::Seal => drop(log.seal_now().unwrap()),
                Step::Crash => {
                    let next = dir.path().join(format!("{}", number + 1));
                    if !in_journal {
                        // A copy takes time, and must not see files change meanwhile.
                        log.settle().unwrap();
                    }
                    copy_tree(&life, &next);
                    drop((log, held));
                    life = next;
                    (log, held) = open(&life, settings());
                }
                read => prop_assert_eq!(seen(&log, read), seen(&model, read)),
            }
            prop_assert_eq!(log.head(), model.head());
        }
        let report = log.verify(&mut |_| ()).unwrap();
        prop_assert!(report.problems.is_empty(), "{:?}", report.problems);
        drop(held);
    }
}

const VOLUME: &str = "log/00000000000000000001";

fn key(position: u64) -> [u8; 8] {
    position.to_be_bytes()
}

#[test]
fn an_untouched_log_has_no_problems() {
    assert_eq!(problems(written().path()), [0; 0]);
}

#[test]
fn an_altered_a_missing_and_a_swapped_block_are_named() {
    let altered = written();
    alter(altered.path(), VOLUME, |db| {
        let mut block = db.get(key(41)).unwrap().unwrap().to_vec();
        block[70] ^= 1;
        db.insert(key(41), block).unwrap();
    });
    assert_eq!(problems(altered.path())[0], 41);

    let missing = written();
    alter(missing.path(), VOLUME, |db| {
        db.remove(key(41)).unwrap().unwrap();
    });
    assert_eq!(problems(missing.path())[0], 41);

    let swapped = written();
    alter(swapped.path(), VOLUME, |db| {
        let (one, other) = (db.get(key(41)).unwrap().unwrap(), db.get(key(51)).unwrap().unwrap());
        db.insert(key(41), other).unwrap();
        db.insert(key(51), one).unwrap();
    });
    let named = problems(swapped.path());
    assert!(named.contains(&41) && named.contains(&51), "{named:?}");

    let cut = written();
    alter(cut.path(), VOLUME, |db| {
        db.remove(key(119)).unwrap().unwrap();
    });
    assert_eq!(problems(cut.path()), [119], "the index knows that there was more");
}

#[test]
fn commands_and_ids_are_found_when_only_the_index_knows_them() {
    let dir = tempfile::tempdir().unwrap();
    let (log, held) = open(dir.path(), small());
    let mut firsts = Vec::new();
    for number in 0..150u8 {
        let name = number.to_string();
        let mut append = to_append(number % 3, 2, None, None, None);
        append.command = Some(CommandKey {
            key: name.clone(),
            fingerprint: [1; 16],
        });
        append.events[1].id = Some(EventId::parse(&format!("id-{}", number / 2)).unwrap());
        firsts.push((
            append.stream.clone(),
            run(log.append(append)).unwrap().events[0].position,
        ));
    }
    drop((log, held));
    let (log, _held) = open(dir.path(), small());
    for (number, (stream, position)) in firsts.iter().enumerate() {
        assert_eq!(log.find_command(stream, &number.to_string()).unwrap(), Some(*position));
        let other = StreamId::new("a", "other").unwrap();
        assert_eq!(log.find_command(&other, &number.to_string()).unwrap(), None);
        // Each id came twice: the first event that has it is the one.
        let id = EventId::parse(&format!("id-{}", number / 2)).unwrap();
        assert_eq!(log.find_event(&id).unwrap(), Some(firsts[number / 2 * 2].1.next()));
    }
    assert!(log.verify(&mut |_| ()).unwrap().problems.is_empty());
}

#[test]
fn an_append_that_a_crash_left_in_half_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let (log, held) = open(
        dir.path(),
        LogSettings {
            volume_bytes_max: 64 << 20,
            ..small()
        },
    );
    append(&log, "a/1", &["before"]).unwrap();
    let long = "x".repeat(50_000);
    append(&log, "a/1", &[&long, &long, &long, &long]).unwrap();
    drop((log, held));
    // The last blocks of the append and what the index knows of it are not there, as after a power cut.
    alter(dir.path(), VOLUME, |db| {
        db.remove(key(5)).unwrap().unwrap();
    });
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let (log, _held) = open(dir.path(), small());
    assert_eq!(texts(&log, Position::ZERO), ["before"]);
    assert_eq!(append(&log, "a/1", &["after"]).unwrap().position.get(), 2);
    assert!(log.verify(&mut |_| ()).unwrap().problems.is_empty());
}

#[test]
fn a_large_event_of_an_append_left_in_half_is_dropped_with_all_its_parts() {
    let dir = tempfile::tempdir().unwrap();
    let settings = LogSettings {
        volume_bytes_max: 64 << 20,
        ..small()
    };
    let (log, held) = open(dir.path(), settings);
    append(&log, "a/1", &["before"]).unwrap();
    let large = "x".repeat(200_000);
    append(&log, "a/1", &[&large, &large]).unwrap();
    drop((log, held));
    // All parts of the first large event are there, nothing of the second.
    alter(dir.path(), VOLUME, |db| {
        let gone: Vec<_> = db.range(key(3)..).keys().map(Result::unwrap).collect();
        assert!(gone.len() > 1);
        gone.iter().for_each(|key| assert!(db.remove(key).unwrap().is_some()));
    });
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let (log, _held) = open(dir.path(), small());
    assert_eq!(texts(&log, Position::ZERO), ["before"]);
    assert_eq!(append(&log, "a/1", &["after"]).unwrap().position.get(), 2);
    assert!(log.verify(&mut |_| ()).unwrap().problems.is_empty());
}

#[test]
fn what_only_the_journal_holds_survives_crash_after_crash() {
    let dir = tempfile::tempdir().unwrap();
    // Nothing reaches a volume by itself, and the journal's files are written in turns.
    let settings = LogSettings {
        store_bytes: 1 << 30,
        journal_bytes: 8 << 10,
        volume_bytes_max: 64 << 20,
        ..small()
    };
    let mut live = dir.path().join("0");
    let mut expected = Vec::new();
    for crash in 1..=6u64 {
        let (log, _held) = open(&live, settings.clone());
        assert_eq!(texts(&log, Position::ZERO), expected);
        for i in 0..crash * 13 {
            let text = format!("{crash}/{i}");
            append(
                &log,
                &format!("a/{}", i % 4),
                &[&text, "and more", &"x".repeat(i as usize * 10)],
            )
            .unwrap();
            expected.extend([text, "and more".into(), "x".repeat(i as usize * 10)]);
        }
        let next = dir.path().join(crash.to_string());
        copy_tree(&live, &next);
        live = next;
    }
    let (log, _held) = open(&live, settings);
    assert_eq!(texts(&log, Position::ZERO), expected);
    let report = log.verify(&mut |_| ()).unwrap();
    assert_eq!((report.events, report.problem_count), (expected.len() as u64, 0));
}

//! What every engine must do: one suite, run against each.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use annals_core::*;
use std::time::Duration;
use support::{append, event, run, stream, texts};

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
    positions_are_gapless_and_versions_per_stream,
    an_append_is_all_or_nothing,
    the_expected_version_decides,
    a_key_answers_as_the_first_time,
    a_key_with_another_command_is_refused,
    an_event_id_is_appended_once,
    a_batch_with_some_known_events_appends_the_others,
    a_repeated_event_answers_as_the_first_time_whatever_came_since,
    a_key_with_a_known_event_can_be_repeated,
    streams_read_both_ways,
    reads_go_on_where_they_stopped,
    large_events_come_back_whole,
    bounds_are_named,
    events_are_found_by_id_and_time,
    waiting_ends_when_the_head_moves,
    of_conflicting_writers_one_wins,
);

fn positions_are_gapless_and_versions_per_stream(log: &dyn Appender) {
    for i in 0..100 {
        let appended = append(log, &format!("orders/{}", i % 7), &["e"]).unwrap();
        assert_eq!(appended.position.get(), i + 1);
        assert_eq!(appended.version.get(), i / 7 + 1);
    }
    assert_eq!(log.head().get(), 100);
    let read = texts(log, Position::ZERO);
    assert_eq!(read.len(), 100);
    let head = log.stream_head(&stream("orders/1")).unwrap().unwrap();
    assert_eq!((head.version.get(), head.position.get()), (15, 100));
    assert_eq!(log.stream_head(&stream("orders/nobody")).unwrap(), None);
}

fn an_append_is_all_or_nothing(log: &dyn Appender) {
    let appended = append(log, "a/1", &["one", "two", "three"]).unwrap();
    assert_eq!(
        appended
            .events
            .iter()
            .map(|event| event.position.get())
            .collect::<Vec<_>>(),
        [1, 2, 3]
    );
    let blocks = log.read(Position::ZERO, 1 << 20).unwrap();
    let places: Vec<_> = blocks
        .iter()
        .flat_map(Block::iter)
        .map(|record| record.unwrap().header.place)
        .collect();
    assert_eq!(places, [1, 2, 3].map(|index| PlaceInAppend { index, count: 3 }));
    let first = log.read_one(Position::new(1)).unwrap().unwrap();
    let third = log.read_one(Position::new(3)).unwrap().unwrap();
    assert_eq!(
        first.view().unwrap().correlation_id(),
        third.view().unwrap().correlation_id()
    );
}

fn the_expected_version_decides(log: &dyn Appender) {
    let try_append = |expected| run(log.append(Append::new(stream("a/1"), vec![event("x")]).expecting(expected)));
    assert!(try_append(Expected::Exact(Version::new(1))).is_err());
    assert!(try_append(Expected::None).is_ok());
    assert!(try_append(Expected::Exact(Version::new(1))).is_ok());
    match try_append(Expected::None) {
        Err(AppendError::VersionConflict {
            stream,
            expected,
            actual,
        }) => {
            assert_eq!((stream.as_str(), expected, actual.get()), ("a/1", Expected::None, 2));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(log.head().get(), 2);
}

fn with_key(key: &str, fingerprint: u8, texts: &[&str]) -> Append {
    let mut append = Append::new(stream("a/1"), texts.iter().map(|text| event(text)).collect());
    append.command = Some(CommandKey {
        key: key.into(),
        fingerprint: [fingerprint; 16],
    });
    append
}

fn a_key_answers_as_the_first_time(log: &dyn Appender) {
    let first = run(log.append(with_key("k", 1, &["one", "two"]))).unwrap();
    append(log, "a/1", &["between"]).unwrap();
    let again = run(log.append(with_key("k", 1, &["one", "two"]).expecting(Expected::None))).unwrap();
    assert_eq!(
        again,
        Appended {
            duplicate: true,
            ..first
        }
    );
    assert_eq!(log.head().get(), 3);
    assert_eq!(log.find_command(&stream("a/1"), "k").unwrap(), Some(Position::new(1)));
    assert_eq!(log.find_command(&stream("a/2"), "k").unwrap(), None);
}

fn a_key_with_another_command_is_refused(log: &dyn Appender) {
    run(log.append(with_key("k", 1, &["one"]))).unwrap();
    let error = run(log.append(with_key("k", 2, &["one"]))).unwrap_err();
    assert!(
        matches!(error, AppendError::KeyReused { position, .. } if position.get() == 1),
        "{error}"
    );
    assert_eq!(log.head().get(), 1);
}

fn with_ids(ids: &[&str]) -> Append {
    let mut append = Append::new(stream("a/1"), ids.iter().map(|id| event(id)).collect());
    for (event, id) in append.events.iter_mut().zip(ids) {
        event.id = Some(EventId::parse(id).unwrap());
        event.source = Some("shop".into());
    }
    append
}

fn an_event_id_is_appended_once(log: &dyn Appender) {
    let first = run(log.append(with_ids(&["x"]))).unwrap();
    let again = run(log.append(with_ids(&["x"]).expecting(Expected::None))).unwrap();
    assert_eq!(
        again,
        Appended {
            duplicate: true,
            ..first
        }
    );
    let mut elsewhere = with_ids(&["x"]);
    elsewhere.stream = stream("a/2");
    assert!(!run(log.append(elsewhere)).unwrap().duplicate);
    let mut other_source = with_ids(&["x"]);
    other_source.events[0].source = None;
    assert!(!run(log.append(other_source)).unwrap().duplicate);
    assert_eq!(
        log.find_event(&EventId::parse("x").unwrap()).unwrap(),
        Some(Position::new(1))
    );
    assert!(run(log.append(with_ids(&["y", "y"]))).is_err());
}

fn a_batch_with_some_known_events_appends_the_others(log: &dyn Appender) {
    run(log.append(with_ids(&["a", "b"]))).unwrap();
    let mixed = run(log.append(with_ids(&["b", "c"]))).unwrap();
    assert_eq!(
        mixed
            .events
            .iter()
            .map(|event| event.position.get())
            .collect::<Vec<_>>(),
        [2, 3]
    );
    assert_eq!((log.head().get(), mixed.version.get()), (3, 3));
}

fn a_repeated_event_answers_as_the_first_time_whatever_came_since(log: &dyn Appender) {
    let first = run(log.append(with_ids(&["a"]))).unwrap();
    append(log, "a/1", &["since"]).unwrap();
    let again = run(log.append(with_ids(&["a"]))).unwrap();
    assert_eq!(
        again,
        Appended {
            duplicate: true,
            ..first
        }
    );
}

fn a_key_with_a_known_event_can_be_repeated(log: &dyn Appender) {
    run(log.append(with_ids(&["a"]))).unwrap();
    let mut keyed = with_ids(&["a", "b"]);
    keyed.command = Some(CommandKey {
        key: "k".into(),
        fingerprint: [1; 16],
    });
    let first = run(log.append(keyed.clone())).unwrap();
    let again = run(log.append(keyed)).unwrap();
    assert_eq!(
        (again.duplicate, again.version, again.position),
        (true, first.version, first.position)
    );
    assert_eq!(log.head().get(), 2);
}

fn streams_read_both_ways(log: &dyn Appender) {
    for i in 1..=300 {
        append(log, "a/1", &[&format!("{i}")]).unwrap();
        append(log, "a/2", &["other"]).unwrap();
    }
    let read = |from, direction, limit| -> Vec<u64> {
        let records = log
            .read_stream(&stream("a/1"), Version::new(from), direction, limit)
            .unwrap();
        records
            .iter()
            .map(|record| record.view().unwrap().header.version)
            .collect()
    };
    assert_eq!(read(0, Direction::Forward, 3), [1, 2, 3]);
    assert_eq!(read(299, Direction::Forward, 10), [299, 300]);
    assert_eq!(read(301, Direction::Forward, 10), [0; 0]);
    assert_eq!(read(u64::MAX, Direction::Backward, 3), [300, 299, 298]);
    assert_eq!(read(2, Direction::Backward, 10), [2, 1]);
    assert_eq!(read(0, Direction::Backward, 10), [0; 0]);
    assert_eq!(read(1, Direction::Forward, 1000).len(), 300);
}

fn reads_go_on_where_they_stopped(log: &dyn Appender) {
    for i in 0..500 {
        append(log, "a/1", &[&format!("{i}")]).unwrap();
    }
    for bytes_max in [1, 1000, 100_000] {
        let (mut after, mut count) = (Position::ZERO, 0);
        loop {
            let blocks = log.read(after, bytes_max).unwrap();
            for record in blocks.iter().flat_map(Block::iter) {
                let record = record.unwrap();
                assert_eq!(record.position, after.next());
                assert_eq!(record.payload, format!("{count}").as_bytes());
                (after, count) = (record.position, count + 1);
            }
            if blocks.is_empty() {
                break;
            }
        }
        assert_eq!(count, 500);
    }
    assert_eq!(texts(log, Position::new(250)).len(), 250);
    assert!(log.read(Position::new(500), 1000).unwrap().is_empty());
    assert!(log.read(Position::new(5000), 1000).unwrap().is_empty());
}

fn large_events_come_back_whole(log: &dyn Appender) {
    let sizes = [10, 59_000, 61_000, 100_000, 400_000];
    let texts: Vec<String> = sizes.iter().map(|size| "x".repeat(*size)).collect();
    append(log, "a/1", &texts.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    append(log, "a/1", &["after"]).unwrap();
    let records = log
        .read_stream(&stream("a/1"), Version::new(1), Direction::Forward, 10)
        .unwrap();
    let lens: Vec<_> = records
        .iter()
        .map(|record| record.view().unwrap().payload.len())
        .collect();
    assert_eq!(lens, [10, 59_000, 61_000, 100_000, 400_000, 5]);
    for position in 1..=6 {
        assert!(log.read_one(Position::new(position)).unwrap().is_some());
    }
}

fn bounds_are_named(log: &dyn Appender) {
    let many = Append::new(stream("a/1"), vec![event("x"); 1001]);
    assert!(matches!(run(log.append(many)), Err(AppendError::Invalid(_))));
    let none = Append::new(stream("a/1"), vec![]);
    assert!(matches!(run(log.append(none)), Err(AppendError::Invalid(_))));
    let large = Append::new(stream("a/1"), vec![event(&"x".repeat(1024 * 1024))]);
    assert!(matches!(run(log.append(large)), Err(AppendError::TooLarge { .. })));
    let mut extended = event("x");
    extended.extensions = vec![("k".into(), "1".into()); 65];
    assert!(run(log.append(Append::new(stream("a/1"), vec![extended]))).is_err());
    let mut tagged = event("x");
    tagged.tags = vec![Tag::new("k", "v").unwrap(); 33];
    assert!(run(log.append(Append::new(stream("a/1"), vec![tagged]))).is_err());
    assert_eq!(log.head(), Position::ZERO);
    assert!(append(log, "a/1", &[&"x".repeat(1_000_000)]).is_ok());
}

fn events_are_found_by_id_and_time(log: &dyn Appender) {
    let mut ids = Vec::new();
    for i in 0..50 {
        ids.push(append(log, "a/1", &[&format!("{i}")]).unwrap().events[0].id.clone());
        if i % 10 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    for (id, position) in ids.iter().zip(1..) {
        assert_eq!(log.find_event(id).unwrap(), Some(Position::new(position)));
    }
    assert_eq!(
        log.find_event(&EventId::parse("018f0000-0000-7000-8000-000000000001").unwrap())
            .unwrap(),
        None
    );
    let record = log.read_one(Position::new(20)).unwrap().unwrap();
    let at = record.view().unwrap().recorded_at();
    let found = log.position_at(at).unwrap();
    assert!(found.get() >= 20);
    assert!(log.position_at(at - Duration::from_micros(1)).unwrap().get() < 20);
    assert_eq!(log.position_at(chrono::DateTime::UNIX_EPOCH).unwrap(), Position::ZERO);
    assert_eq!(
        log.position_at(chrono::Utc::now() + Duration::from_secs(9))
            .unwrap()
            .get(),
        50
    );
}

fn waiting_ends_when_the_head_moves(log: &dyn Appender) {
    assert_eq!(
        log.wait_beyond(Position::ZERO, Duration::from_millis(5)),
        Position::ZERO
    );
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| log.wait_beyond(Position::ZERO, Duration::from_secs(30)));
        append(log, "a/1", &["x"]).unwrap();
        assert_eq!(waiting.join().unwrap().get(), 1);
    });
}

fn of_conflicting_writers_one_wins(log: &dyn Appender) {
    for round in 0..20 {
        let barrier = std::sync::Barrier::new(8);
        let wins: usize = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        let expected = Expected::Exact(Version::new(round));
                        let expected = if round == 0 { Expected::None } else { expected };
                        let append = Append::new(stream("a/1"), vec![event("x")]).expecting(expected);
                        usize::from(run(log.append(append)).is_ok())
                    })
                })
                .collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).sum()
        });
        assert_eq!(wins, 1, "round {round}");
    }
}

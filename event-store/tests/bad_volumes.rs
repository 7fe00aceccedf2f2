//! Closed volumes that are damaged: examined once, named once, and all that is whole stays as readable as it was.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;
#[path = "support/volumes.rs"]
mod volumes;

use annals_core::*;
use annals_event_store::{
    DataDir, LogSettings, OpenError, OpenOptions, SledLog, VerifyReport, alter_index, decode_frame,
};
use std::fs;
use std::path::Path;
use support::{event, open, run, stream};
use volumes::{EVENTS, first_of, settings, volumes, written};

/// Writes zeros over the second half of a file: of a sealed volume that is its table, of another one its blocks.
fn spoil(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let from = if path.ends_with("db") { 0 } else { bytes.len() / 2 };
    bytes[from..].fill(0);
    fs::write(path, bytes).unwrap();
}

fn verified(log: &SledLog) -> VerifyReport {
    log.verify(&mut |_| ()).unwrap()
}

#[test]
fn the_cause_of_a_damaged_volume_is_named_once_whatever_the_index_knows_of_it() {
    for sealed in [true, false] {
        let dir = written(sealed);
        let volumes = volumes(dir.path(), sealed);
        let volume = &volumes[volumes.len() / 2];
        spoil(volume);
        let (log, _held) = open(dir.path(), settings());
        let report = verified(&log);
        let said = &report.problems;
        assert!(report.problem_count <= 2, "sealed {sealed}: {said:?}");
        assert_eq!(said[0].position.get(), first_of(volume), "sealed {sealed}: {said:?}");
        assert!(!said.iter().any(|problem| problem.what.contains("index")), "{said:?}");
        assert!(report.events < EVENTS && report.events > EVENTS / 2, "{report:?}");
    }
}

#[test]
fn a_volume_that_was_found_damaged_is_not_looked_at_again_until_the_log_is_opened_anew() {
    let dir = written(true);
    let volume = &volumes(dir.path(), true)[1];
    let whole = fs::read(volume).unwrap();
    spoil(volume);
    let position = Position::new(first_of(volume));
    let (log, held) = open(dir.path(), settings());
    let first = log.read_one(position).unwrap_err().to_string();
    assert!(first.contains(&format!("position {position}")), "{first}");
    // Whoever looks at it again would find it whole.
    fs::write(volume, whole).unwrap();
    for _ in 0..3 {
        assert_eq!(log.read_one(position).unwrap_err().to_string(), first);
    }
    drop((log, held));
    let (log, _held) = open(dir.path(), settings());
    assert!(log.read_one(position).unwrap().is_some());
    assert_eq!(verified(&log).problems, []);
}

#[test]
fn an_index_that_lies_is_named_also_where_a_volume_is_damaged() {
    let dir = written(true);
    let volume = volumes(dir.path(), true)[1].clone();
    spoil(&volume);
    let lied = alter_index(&dir.path().join("index"), &mut |key, positions| {
        let lie = key == b"tnumber=3" || key == b"tnumber=119";
        Some(positions.iter().map(|position| position + u64::from(lie)).collect())
    });
    assert!(lied.unwrap() > 0);
    let (log, _held) = open(dir.path(), settings());
    let problems = verified(&log).problems;
    for tag in ["number=3", "number=119"] {
        let named = problems
            .iter()
            .any(|problem| problem.what.ends_with(&format!("{tag}, it has not")));
        assert!(named, "{tag}: {problems:?}");
    }
    assert!(problems.len() < 10, "{problems:?}");
}

#[test]
fn what_stands_in_whole_volumes_is_read_as_ever() {
    let dir = written(true);
    let volumes = volumes(dir.path(), true);
    spoil(&volumes[1]);
    let (from, to) = (first_of(&volumes[1]), first_of(&volumes[2]));
    let (log, _held) = open(dir.path(), settings());
    for position in (1..=EVENTS).map(Position::new) {
        let read = log.read_one(position);
        if (from..to).contains(&position.get()) {
            assert!(matches!(read, Err(LogError::Damaged { .. })), "{position}: {read:?}");
        } else {
            assert_eq!(read.unwrap().unwrap().position(), position);
        }
    }
}

#[test]
fn a_volume_that_the_engine_would_not_open_is_read_without_it() {
    let dir = written(false);
    for volume in volumes(dir.path(), false) {
        let database = volume.parent().unwrap();
        for entry in fs::read_dir(database).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() && path != volume {
                fs::write(path, b"nothing that the engine knows").unwrap();
            }
        }
    }
    let (log, _held) = open(dir.path(), settings());
    let report = verified(&log);
    assert_eq!((report.problems, report.events), (vec![], EVENTS));
    assert!(log.seal_now().unwrap() > 10, "they can be sealed, too");
    assert_eq!(verified(&log).events, EVENTS);
}

#[test]
fn of_a_volume_that_is_not_sealed_only_the_damaged_block_is_missing() {
    let dir = written(false);
    let volume = volumes(dir.path(), false)[4].clone();
    let mut bytes = fs::read(&volume).unwrap();
    for at in 0..bytes.len() {
        if bytes[at..].starts_with(b"ANB\x01")
            && let Ok((_, _, used)) = decode_frame(&bytes[at..])
        {
            bytes[at + used / 2] ^= 1;
        }
    }
    fs::write(&volume, bytes).unwrap();
    let (log, _held) = open(dir.path(), settings());
    let report = verified(&log);
    let [problem] = &report.problems[..] else {
        panic!("{:?}", report.problems)
    };
    assert_eq!(problem.position.get(), first_of(&volume));
    let read = log.read_one(problem.position).unwrap_err();
    assert!(matches!(read, LogError::Damaged { position, .. } if position == problem.position));
}

#[test]
fn a_damaged_log_without_an_index_is_read_by_position_and_verified_but_not_written() {
    let dir = written(true);
    let volumes = volumes(dir.path(), true);
    let damaged = [&volumes[4], &volumes[7]];
    damaged.iter().for_each(|volume| spoil(volume));
    let first = first_of(damaged[0]);
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    // Whoever writes has to know every stream and key, and is told what is in the way.
    let held = DataDir::open(dir.path(), OpenOptions::default()).unwrap();
    for _ in 0..2 {
        match SledLog::open(&held, settings()).map(drop) {
            Err(OpenError::Damaged { position, .. }) => assert_eq!(position.get(), first),
            other => panic!("{other:?}"),
        }
        let reading = LogSettings {
            only_read: true,
            ..settings()
        };
        let log = SledLog::open(&held, reading).unwrap();
        let named: Vec<u64> = verified(&log)
            .problems
            .iter()
            .map(|problem| problem.position.get())
            .collect();
        assert_eq!(named, damaged.map(|volume| first_of(volume)));
        assert!(log.read_one(Position::new(EVENTS)).unwrap().is_some());
        let head = log.stream_head(&stream("a/0"));
        assert!(
            matches!(head, Err(LogError::Damaged { position, .. }) if position.get() == first),
            "{head:?}"
        );
        let refused = run(log.append(Append::new(stream("b/1"), vec![event("new")])));
        assert!(matches!(refused, Err(AppendError::Closed(_))), "{refused:?}");
    }
}

#[test]
fn a_damaged_volume_does_not_keep_others_from_being_sealed() {
    let dir = written(false);
    let volumes_before = volumes(dir.path(), false);
    spoil(&volumes_before[2]);
    let (log, _held) = open(dir.path(), settings());
    let error = log.seal_now().unwrap_err();
    assert!(matches!(error, LogError::Damaged { position, .. } if position.get() == first_of(&volumes_before[2])));
    assert_eq!(volumes(dir.path(), true).len(), volumes_before.len() - 1);
    assert_eq!(log.seal_now().unwrap(), 0, "it is not tried again and again");
    assert!(volumes_before[2].exists(), "it stays as it is");
}

#[test]
fn an_append_that_depends_on_a_damaged_block_names_the_position_and_others_go_on() {
    let dir = written(true);
    let volume = volumes(dir.path(), true)[2].clone();
    spoil(&volume);
    let position = first_of(&volume);
    let (log, _held) = open(dir.path(), settings());
    let damaged = |append: Append| match run(log.append(append)) {
        Err(AppendError::Log(LogError::Damaged { position, .. })) => position.get(),
        other => panic!("{other:?}"),
    };
    // An id that is in a block that cannot be read.
    let mut known = event("again");
    known.id = Some(EventId::parse(&format!("event-{position}")).unwrap());
    let name = stream(&format!("a/{}", (position - 1) / 10));
    assert_eq!(damaged(Append::new(name, vec![known])), position);
    // A condition about events that stand there.
    let tag = Tag::new("number", position + 1).unwrap();
    let mut conditional = Append::new(stream("b/1"), vec![event("new")]);
    conditional.condition = Some(AppendCondition {
        query: EventQuery::new(vec!["Heard".into()], vec![tag]).unwrap(),
        after: Position::ZERO,
    });
    assert_eq!(damaged(conditional), position);
    let other = Append::new(stream("b/1"), vec![event("new")]);
    assert_eq!(run(log.append(other)).unwrap().position.get(), EVENTS + 1);
}

//! Closed volumes that are damaged: examined once, named once, and all that is whole stays as readable as it was.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use annals_core::*;
use annals_event_store::{LogSettings, SledLog, VerifyReport, alter_index};
use std::fs;
use std::path::{Path, PathBuf};
use support::{event, open, run, small, stream};

/// How many appends there are, and events in each.
const APPENDS: u64 = 12;
const EACH: u64 = 10;
const EVENTS: u64 = APPENDS * EACH;

fn settings() -> LogSettings {
    LogSettings {
        // Each volume stays by itself.
        sealed_bytes_max: 0,
        ..small()
    }
}

/// A log of many small volumes, sealed if asked for and closed in order. Each event has a tag and an id of its own.
fn written(sealed: bool) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (log, _held) = open(dir.path(), settings());
    for number in 0..APPENDS {
        let tagged = |number: u64| {
            let mut event = event(&format!("event {number}"));
            event.tags = vec![Tag::new("number", number).unwrap()];
            event.id = Some(EventId::parse(&format!("event-{number}")).unwrap());
            event
        };
        let events = (number * EACH + 1..=(number + 1) * EACH).map(tagged).collect();
        run(log.append(Append::new(stream(&format!("a/{number}")), events))).unwrap();
        log.settle().unwrap();
    }
    if sealed {
        log.seal_now().unwrap();
    }
    log.close();
    drop(log);
    dir
}

/// Files of closed volumes of a kind, in the order of their positions.
fn volumes(dir: &Path, sealed: bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("log")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with('0') && (name.ends_with(".blocks") == sealed)
    });
    paths.sort_unstable();
    if !sealed {
        paths.pop();
        paths.iter_mut().for_each(|path| path.push("db"));
    }
    paths
}

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

fn first_of(volume: &Path) -> u64 {
    let mut names = volume.iter().filter_map(|name| name.to_str());
    let name = names.rfind(|name| name.starts_with("00")).unwrap();
    name[..20].parse().unwrap()
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

//! What a log is after it was not closed in order and its files are not as they were: everything that was acknowledged
//! is there again, or the log says at which position it is not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "support/damage.rs"]
mod damage;
mod support;

use annals_core::*;
use annals_event_store::{
    BackupFile, BackupSource, DataDir, LogSettings, OpenError, OpenOptions, Salvage, SledLog, decode_frame,
};
use damage::alter;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use support::{append, copy_tree, open, small, texts};

const VOLUME: &str = "log/00000000000000000001";

/// Every group is stored at once, and the journal does not reach back far.
fn settings() -> LogSettings {
    LogSettings {
        volume_bytes_max: 64 << 20,
        journal_bytes: 16 << 10,
        ..small()
    }
}

/// A data directory as a kill leaves it, and everything that was acknowledged.
fn killed(dir: &Path) -> (PathBuf, Vec<String>) {
    let (live, left) = (dir.join("live"), dir.join("left"));
    let (log, _held) = open(&live, settings());
    let mut said = Vec::new();
    for number in 0..150 {
        let texts = [format!("first of {number}"), "x".repeat(number * 7), noise(number)];
        append(
            &log,
            &format!("a/{}", number % 5),
            &texts.each_ref().map(String::as_str),
        )
        .unwrap();
        said.extend(texts);
    }
    // Asks for all that is stored, so that the volume has it.
    assert!(log.verify(&mut |_| ()).unwrap().problems.is_empty());
    copy_tree(&live, &left);
    (left, said)
}

/// Text that does not compress.
fn noise(seed: usize) -> String {
    let mut state = seed as u64 + 1;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'a' + ((state >> 58) as u8 % 26))
    };
    (0..300).map(next).collect()
}

fn try_open(dir: &Path) -> Result<SledLog, OpenError> {
    let held = DataDir::open(dir, OpenOptions::default()).unwrap();
    SledLog::open(&held, settings())
}

/// Positions that whole blocks in these raw files hold.
fn held_by(files: &[PathBuf]) -> BTreeSet<u64> {
    let mut held = BTreeSet::new();
    for file in files {
        let bytes = fs::read(file).unwrap();
        for at in 0..bytes.len() {
            if bytes[at..].starts_with(b"ANB\x01")
                && let Ok((_, block, _)) = decode_frame(&bytes[at..])
            {
                held.extend(block.first().get()..=block.last().get());
            }
        }
    }
    held
}

fn files(dir: &Path) -> Vec<PathBuf> {
    ["log/journal-0", "log/journal-1"]
        .map(|name| dir.join(name))
        .into_iter()
        .chain([dir.join(VOLUME).join("db")])
        .collect()
}

/// Offsets in the volume's raw file at which blocks begin.
fn blocks(db: &Path) -> Vec<usize> {
    let bytes = fs::read(db).unwrap();
    let begins = |at: &usize| bytes[*at..].starts_with(b"ANB\x01") && decode_frame(&bytes[*at..]).is_ok();
    (0..bytes.len()).filter(begins).collect()
}

#[test]
fn what_was_acknowledged_is_there_or_named_wherever_the_raw_file_is_torn() {
    let dir = tempfile::tempdir().unwrap();
    let (left, said) = killed(dir.path());
    let begins = blocks(&left.join(VOLUME).join("db"));
    let end = *begins.last().unwrap();
    let (mut whole, mut named) = (0, 0);
    for round in 0..24 {
        let torn = dir.path().join(format!("torn-{round}"));
        copy_tree(&left, &torn);
        let db = torn.join(VOLUME).join("db");
        let mut bytes = fs::read(&db).unwrap();
        // Behind a block, in the middle of one, or a few bytes in front of one: what sled put around it.
        let block = begins[begins.len() - 1 - (round * 13) % (begins.len() / 2)];
        let from = match round % 3 {
            0 => block + 100,
            1 => block.saturating_sub(9),
            _ => block + 4,
        };
        match round % 4 {
            0 => bytes[from..end + 200].fill(0),
            1 => bytes.truncate(from),
            _ => bytes[from] ^= 0x55,
        }
        fs::write(&db, bytes).unwrap();
        let held = held_by(&files(&torn));
        let missing = (1..=said.len() as u64).find(|position| !held.contains(position));
        match try_open(&torn) {
            Ok(log) => {
                assert_eq!(
                    missing, None,
                    "round {round}: it opened without saying that something is lost"
                );
                assert_eq!(texts(&log, Position::ZERO), said, "round {round}");
                assert!(log.verify(&mut |_| ()).unwrap().problems.is_empty(), "round {round}");
                append(&log, "a/1", &["goes on"]).unwrap();
                whole += 1;
            }
            Err(OpenError::Damaged { position, detail }) => {
                let missing =
                    missing.unwrap_or_else(|| panic!("round {round}: nothing is lost, but {position}: {detail}"));
                assert!(
                    position.get() <= missing,
                    "round {round}: {missing} is lost, {position} was named"
                );
                named += 1;
            }
            Err(other) => panic!("round {round}: {other}"),
        }
        fs::remove_dir_all(torn).unwrap();
    }
    assert!(
        whole > 3 && named > 0,
        "{whole} were whole, {named} were named: too few of one to show anything"
    );
}

#[test]
fn blocks_that_the_engine_lost_are_brought_back_from_its_raw_file() {
    let dir = tempfile::tempdir().unwrap();
    let (left, said) = killed(dir.path());
    // The engine has forgotten blocks in the middle and at the end; their bytes are still in its file.
    alter(&left, VOLUME, |db| {
        let keys: Vec<_> = db.iter().keys().map(Result::unwrap).collect();
        for key in keys[20..40].iter().chain(&keys[keys.len() - 60..]) {
            db.remove(key).unwrap();
        }
    });
    let log = try_open(&left).unwrap();
    assert_eq!(texts(&log, Position::ZERO), said);
    assert!(log.verify(&mut |_| ()).unwrap().problems.is_empty());
    log.close();
    drop(log);
    let left_over: Vec<_> = fs::read_dir(left.join("log"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        left_over
            .iter()
            .all(|name| !name.to_string_lossy().contains('.') || name == "manifest.json"),
        "{left_over:?}"
    );
    assert_eq!(texts(&try_open(&left).unwrap(), Position::ZERO), said, "and it stays");
}

#[test]
fn an_opening_that_was_killed_after_it_looked_goes_on_with_what_it_had_rescued() {
    let dir = tempfile::tempdir().unwrap();
    let (left, said) = killed(dir.path());
    let db = left.join(VOLUME).join("db");
    // What an opening had put aside before the engine overwrote the end of its file.
    let bytes = fs::read(&db).unwrap();
    let mut rescued = Vec::new();
    for at in blocks(&db) {
        let (_, _, used) = decode_frame(&bytes[at..]).unwrap();
        rescued.extend_from_slice(&bytes[at..at + used]);
    }
    fs::write(left.join(format!("{VOLUME}.rescued")), rescued).unwrap();
    alter(&left, VOLUME, |db| db.clear().unwrap());
    let mut bytes = fs::read(&db).unwrap();
    for at in blocks(&db).into_iter().skip(60) {
        bytes[at + 70] ^= 1;
    }
    fs::write(&db, bytes).unwrap();
    let log = try_open(&left).unwrap();
    assert_eq!(texts(&log, Position::ZERO), said);
    assert!(!left.join(format!("{VOLUME}.rescued")).exists());
}

#[test]
fn a_last_volume_that_cannot_be_opened_is_rebuilt_and_the_damaged_one_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (left, said) = killed(dir.path());
    fs::write(left.join(VOLUME).join("conf"), b"nothing that the engine knows").unwrap();
    let log = try_open(&left).unwrap();
    assert_eq!(texts(&log, Position::ZERO), said);
    append(&log, "a/1", &["goes on"]).unwrap();
    assert!(log.verify(&mut |_| ()).unwrap().problems.is_empty());
    let kept = left.join(format!("{VOLUME}.damaged-1"));
    assert_eq!(
        held_by(&[kept.join("db")]).len(),
        said.len(),
        "nothing of it was touched"
    );
    // A rebuilding that was interrupted between its renames is finished, one before that is forgotten.
    drop(log);
    let new = left.join(format!("{VOLUME}.rebuilding"));
    copy_tree(&left.join(VOLUME), &new);
    drop(try_open(&left).unwrap());
    assert!(!new.exists());
    fs::rename(left.join(VOLUME), &new).unwrap();
    assert_eq!(texts(&try_open(&left).unwrap(), Position::ZERO).len(), said.len() + 1);
}

#[test]
fn a_last_volume_that_cannot_be_rebuilt_is_named_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let (left, _) = killed(dir.path());
    let db = left.join(VOLUME).join("db");
    let mut bytes = fs::read(&db).unwrap();
    let hit = 31;
    for at in blocks(&db) {
        let (_, block, _) = decode_frame(&bytes[at..]).unwrap();
        if (block.first().get()..=block.last().get()).contains(&hit) {
            bytes[at + 70] ^= 1;
        }
    }
    fs::write(&db, bytes).unwrap();
    fs::write(left.join(VOLUME).join("conf"), b"nothing that the engine knows").unwrap();
    let Err(error) = try_open(&left) else {
        panic!("a block is gone")
    };
    let OpenError::Damaged { position, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(position.get(), hit);
    for remedy in ["restore a backup", "`annals salvage`"] {
        assert!(error.to_string().contains(remedy), "{error}");
    }
    assert!(left.join(VOLUME).exists(), "what is there stays where it is");
}

#[test]
fn files_beside_a_database_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (left, _) = killed(dir.path());
    fs::create_dir_all(left.join(VOLUME).join("blobs")).unwrap();
    fs::write(left.join(VOLUME).join("blobs/17"), b"unsynced").unwrap();
    let Err(error) = try_open(&left) else {
        panic!("it was opened")
    };
    let said = error.to_string();
    for word in ["blobs", "restore a backup", "`annals salvage`"] {
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn a_damaged_group_in_the_journal_in_front_of_acknowledged_ones_is_named_and_nothing_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let (live, left) = (dir.path().join("live"), dir.path().join("left"));
    let journaled = LogSettings {
        store_bytes: 1 << 20,
        journal_bytes: 1 << 20,
        ..small()
    };
    let (log, _held) = open(&live, journaled);
    for number in 1..=30 {
        append(&log, "a/1", &[&format!("event {number}")]).unwrap();
    }
    copy_tree(&live, &left);
    let journal = left.join("log/journal-0");
    let mut bytes = fs::read(&journal).unwrap();
    for at in blocks(&journal) {
        let (_, block, used) = decode_frame(&bytes[at..]).unwrap();
        if block.first().get() == 15 {
            bytes[at + used - 2] ^= 1;
        }
    }
    fs::write(&journal, bytes).unwrap();
    // What is named stays as it is: the second time it is the same.
    for _ in 0..2 {
        let Err(error) = try_open(&left) else {
            panic!("acknowledged events are gone, and it opened")
        };
        let said = error.to_string();
        assert!(
            matches!(error, OpenError::Damaged { position, .. } if position.get() == 15),
            "{said}"
        );
        assert!(said.contains("journal") && said.contains("`annals salvage`"), "{said}");
    }
    let salvage = Salvage::of(&left, &mut |_, _| ()).unwrap();
    let found = salvage.found();
    assert_eq!((found.end.get(), found.behind), (14, 15));
    assert_eq!(found.missing, [(Position::new(15), Position::new(15))]);
}

#[test]
fn a_log_whose_last_volume_is_new_and_empty_opens_with_an_empty_journal() {
    let dir = tempfile::tempdir().unwrap();
    let (log, held) = open(&dir.path().join("live"), settings());
    let said: Vec<String> = (0..30).map(|number| format!("said {number}")).collect();
    for text in &said {
        append(&log, "a/1", &[text]).unwrap();
    }
    // What is restored is such a log: all of it in closed volumes, and an empty one to go on with.
    let (file, mut life) = (dir.path().join("backup"), dir.path().join("life-0"));
    let backup = BackupSource::new(&held, Arc::new(log));
    backup.write(fs::File::create(&file).unwrap(), &mut |_| ()).unwrap();
    BackupFile::open(&file).unwrap().restore(&life, &mut |_| ()).unwrap();
    for number in 1..4 {
        let (log, _held) = open(&life, settings());
        assert_eq!(log.head().get(), 30);
        assert_eq!(texts(&log, Position::ZERO), said);
        // Killed before anything was appended.
        let next = dir.path().join(format!("life-{number}"));
        copy_tree(&life, &next);
        life = next;
    }
    let (log, _held) = open(&life, settings());
    assert_eq!(append(&log, "a/1", &["more"]).unwrap().position.get(), 31);
    assert!(log.verify(&mut |_| ()).unwrap().problems.is_empty());
}

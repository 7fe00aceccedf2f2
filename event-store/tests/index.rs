//! The index, damaged, lost or lying: named, and built anew by the next opening.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "support/damage.rs"]
mod damage;
mod support;

use annals_core::*;
use annals_event_store::{LogSettings, SledLog, alter_index};
use damage::alter;
use std::path::Path;
use support::{append, event, open, problems, run, small, stream, written};

/// Told key and positions of an entry of the index, says what stands there afterwards.
type Lie = fn(&[u8], &[u64]) -> Option<Vec<u64>>;

#[test]
fn an_index_that_lies_is_named() {
    // Its checksums hold: what is found is what it says.
    let lie = |change: Lie| {
        let lying = written();
        assert!(alter_index(&lying.path().join("index"), &mut { change }).unwrap() > 0);
        problems(lying.path())
    };
    let moved = lie(|key, positions| {
        let mut positions = positions.to_vec();
        if key == b"sa/2" {
            let last = positions.len() - 1;
            positions[last] += 1;
        }
        Some(positions)
    });
    assert!(!moved.is_empty());
    let short = lie(|key, positions| (key != b"sa/2").then(|| positions.to_vec()));
    assert!(!short.is_empty());
}

/// Flips a byte in the middle of each run of the index.
fn flip_runs(dir: &Path, at: impl Fn(usize) -> usize) {
    let runs = std::fs::read_dir(dir.join("index"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let runs: Vec<_> = runs
        .filter(|path| path.extension().is_some_and(|extension| extension == "run"))
        .collect();
    assert!(!runs.is_empty());
    for path in runs {
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at(bytes.len());
        bytes[at] ^= 0x10;
        std::fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn a_damaged_block_of_the_index_is_an_error_that_names_the_remedy_and_the_next_opening_heals_it() {
    let dir = written();
    // In the first block of each run, however small it is: filters hold, so that other streams need no block.
    flip_runs(dir.path(), |_| 5);
    let (log, held) = open(dir.path(), small());
    let read = |log: &SledLog| log.read_stream(&stream("a/2"), Version::new(1), Direction::Forward, 100);
    let error = read(&log).unwrap_err();
    assert!(error.to_string().contains("start the server again"), "{error}");
    // What is indexed from here on does not make the damaged runs count again.
    let later = (0..100).filter(|number| append(&log, &format!("b/{number}"), &["later"]).is_ok());
    assert!(later.count() > 20, "other streams need no damaged block");
    drop((log, held));
    let (log, _held) = open(dir.path(), small());
    assert!(!read(&log).unwrap().is_empty());
    assert_eq!(log.verify(&mut |_| ()).unwrap().problems, []);
}

#[test]
fn damage_that_verify_finds_in_the_index_is_healed_by_the_next_opening() {
    let dir = written();
    flip_runs(dir.path(), |_| 40);
    let found = problems(dir.path());
    assert!(!found.is_empty());
    assert_eq!(problems(dir.path()), [0; 0]);
}

/// Told the positions of a tag, says which stand there afterwards.
type ToldOfATag = fn(&[u64]) -> Option<Vec<u64>>;

#[test]
fn an_index_that_leaves_tags_out_or_makes_them_up_is_found_out() {
    let write = |dir: &Path| {
        let volume_bytes_max = 64 << 20;
        let (log, _held) = open(
            dir,
            LogSettings {
                volume_bytes_max,
                ..small()
            },
        );
        for number in 0..60u8 {
            let mut tagged = event("x");
            tagged.tags = vec![
                Tag::new("colour", number % 3).unwrap(),
                Tag::new("colour", number % 3).unwrap(),
            ];
            run(log.append(Append::new(stream("a/1"), vec![tagged]))).unwrap();
        }
    };
    let lies: [ToldOfATag; 2] = [
        |_| None,
        |positions| Some(positions.iter().map(|position| position + 1).collect()),
    ];
    for lie in lies {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path());
        assert_eq!(problems(dir.path()), [0; 0]);
        let mut lied = false;
        let mut alter = |key: &[u8], positions: &[u64]| {
            // The last run may end with the log: what is made up must not lie beyond it.
            if lied || key != b"tcolour=1" {
                return Some(positions.to_vec());
            }
            lied = true;
            lie(positions)
        };
        assert_eq!(alter_index(&dir.path().join("index"), &mut alter).unwrap(), 1);
        assert!(!problems(dir.path()).is_empty(), "verify believes the index");
        assert_eq!(problems(dir.path()), [0; 0], "and it was built anew");
    }
}

#[test]
fn an_index_whose_footer_or_manifest_is_damaged_is_built_anew() {
    let dir = written();
    flip_runs(dir.path(), |len| len - 20);
    assert_eq!(problems(dir.path()), [0; 0]);
    let manifest = dir.path().join("index/manifest");
    let mut bytes = std::fs::read(&manifest).unwrap();
    bytes[9] ^= 1;
    std::fs::write(&manifest, bytes).unwrap();
    assert_eq!(problems(dir.path()), [0; 0]);
    std::fs::remove_file(&manifest).unwrap();
    assert_eq!(problems(dir.path()), [0; 0]);
}

#[test]
fn an_index_of_the_first_layout_is_replaced() {
    let dir = written();
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    // What an earlier version left there: a database.
    alter(dir.path(), "index", |db| drop(db.insert(b"c", b"\x01").unwrap()));
    assert_eq!(problems(dir.path()), [0; 0]);
    assert!(!dir.path().join("index/db").exists());
}

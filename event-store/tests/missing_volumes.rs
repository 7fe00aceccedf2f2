//! Closed volumes that are missing, empty or cut: the log does not open, names the position and the remedy, and has changed
//! nothing, so that a salvage finds all that there was.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;
#[path = "support/volumes.rs"]
mod volumes;

use annals_event_store::{DataDir, OpenError, OpenOptions, Salvage, SledLog};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use support::{copy_tree, open};
use volumes::{EVENTS, first_of, settings, volumes, written};

type Loss = fn(&Path);

fn gone(volume: &Path) {
    if volume.ends_with("db") {
        fs::remove_dir_all(volume.parent().unwrap()).unwrap();
    } else {
        fs::remove_file(volume).unwrap();
    }
}

fn emptied(volume: &Path) {
    fs::write(volume, b"").unwrap();
}

fn cut(volume: &Path) {
    let bytes = fs::read(volume).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    fs::write(volume, &bytes[..used / 2]).unwrap();
}

fn refused(dir: &Path) -> OpenError {
    let held = DataDir::open(dir, OpenOptions::default()).unwrap();
    match SledLog::open(&held, settings()) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

/// All files of the log with their contents.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut dirs) = (BTreeMap::new(), vec![dir.join("log")]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                found.insert(path.clone(), fs::read(path).unwrap());
            }
        }
    }
    found
}

#[test]
fn a_volume_that_is_missing_empty_or_cut_is_named_and_nothing_is_touched() {
    let newest = |volumes: &[PathBuf]| volumes.len() - 1;
    let losses: [(bool, &str, Loss); 6] = [
        (true, "missing", gone),
        (true, "empty", emptied),
        (true, "cut", cut),
        (false, "missing", gone),
        (false, "empty", emptied),
        (false, "cut", cut),
    ];
    for sealed in [true, false] {
        let whole = written(sealed);
        for (_, name, loss) in losses.iter().filter(|(of, ..)| *of == sealed) {
            let dir = tempfile::tempdir().unwrap();
            copy_tree(whole.path(), dir.path());
            let volumes = volumes(dir.path(), sealed);
            let volume = &volumes[newest(&volumes)];
            loss(volume);
            let before = contents(dir.path());
            for _ in 0..2 {
                let error = refused(dir.path());
                let said = error.to_string();
                let OpenError::Damaged { position, .. } = error else {
                    panic!("{name}: {said}")
                };
                assert_eq!(position.get(), first_of(volume), "{name}: {said}");
                assert!(said.contains("`annals salvage`"), "{name}: {said}");
            }
            assert_eq!(contents(dir.path()), before, "{name}, sealed {sealed}");
        }
    }
}

#[test]
fn what_the_journal_still_has_of_a_lost_volume_can_be_salvaged() {
    let whole = written(false);
    let (dir, new) = (whole.path(), tempfile::tempdir().unwrap());
    let volumes = volumes(dir, false);
    cut(volumes.last().unwrap());
    refused(dir);
    let salvage = Salvage::of(dir, &mut |_, _| ()).unwrap();
    assert_eq!(salvage.found().end.get(), EVENTS, "{:?}", salvage.found());
    salvage.write(&new.path().join("new"), &mut |_| ()).unwrap();
}

#[test]
fn the_last_volume_is_missed_also_when_the_log_was_closed_in_order() {
    let whole = written(true);
    let last = whole.path().join(format!("log/{:020}", EVENTS + 1));
    assert!(last.is_dir());
    fs::remove_dir_all(&last).unwrap();
    let error = refused(whole.path());
    assert!(
        matches!(error, OpenError::Damaged { position, .. } if position.get() == EVENTS + 1),
        "{error}"
    );
    assert!(!last.exists(), "no empty one was put in its place");
}

#[test]
fn a_manifest_without_lengths_gets_them_and_a_cut_is_noticed_from_then_on() {
    let whole = written(true);
    let manifest = whole.path().join("log/manifest.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    for volume in json["volumes"].as_array_mut().unwrap() {
        volume.as_object_mut().unwrap().remove("bytes");
    }
    // As format 2 had it: without a checksum.
    json["format"] = 2.into();
    json.as_object_mut().unwrap().remove("crc32c");
    fs::write(&manifest, serde_json::to_vec(&json).unwrap()).unwrap();
    drop(open(whole.path(), settings()));
    let volume = &volumes(whole.path(), true)[3];
    let len = fs::metadata(volume).unwrap().len();
    fs::OpenOptions::new()
        .write(true)
        .open(volume)
        .unwrap()
        .set_len(len - 1)
        .unwrap();
    let said = refused(whole.path()).to_string();
    assert!(
        said.contains(&format!("has {} bytes, and {len} were written", len - 1)),
        "{said}"
    );
}

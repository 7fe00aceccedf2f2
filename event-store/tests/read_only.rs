//! A data directory that is only read: everything in it stays as it was, whatever opening a log would write.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;
#[path = "support/volumes.rs"]
mod volumes;

use annals_core::*;
use annals_event_store::{BackupFile, BackupSource, DataDir, SledLog};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use support::{append, copy_tree, open};
use volumes::{EVENTS, first_of, settings, volumes, written};

/// Files and directories below a directory, with contents and times of change.
fn tree(dir: &Path) -> BTreeMap<PathBuf, (std::time::SystemTime, Vec<u8>)> {
    let (mut found, mut dirs) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let changed = fs::metadata(&path).unwrap().modified().unwrap();
            let bytes = if path.is_dir() {
                Vec::new()
            } else {
                fs::read(&path).unwrap()
            };
            if path.is_dir() {
                dirs.push(path.clone());
            }
            found.insert(path, (changed, bytes));
        }
    }
    found
}

/// Takes away the right to write, from everybody who is not root, or gives it back.
fn writable(dir: &Path, writable: bool) {
    for path in tree(dir).into_keys().chain([dir.to_owned()]) {
        let mode = if path.is_dir() { 0o500 } else { 0o400 } | if writable { 0o200 } else { 0 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn an_image_of_a_directory_has_all_of_the_log_and_nothing_in_the_directory_changes() {
    for sealed in [true, false] {
        let whole = written(sealed);
        // As a kill leaves it: events that only the journal has, and no index.
        let (live, _held) = open(whole.path(), settings());
        append(&live, "a/more", &["more"]).unwrap();
        let left = tempfile::tempdir().unwrap();
        copy_tree(whole.path(), left.path());
        fs::remove_dir_all(left.path().join("index")).unwrap();
        let before = tree(left.path());
        {
            let dir = DataDir::image_of(left.path()).unwrap();
            let log = Arc::new(SledLog::open(&dir, settings()).unwrap());
            let report = log.verify(&mut |_| ()).unwrap();
            assert_eq!((report.problems, report.events), (vec![], EVENTS + 1));
            let file = whole.path().join("backup");
            let backup = BackupSource::new(&dir, log);
            backup.write(fs::File::create(&file).unwrap(), &mut |_| ()).unwrap();
            assert_eq!(BackupFile::open(&file).unwrap().head().get(), EVENTS + 1);
            assert!(DataDir::image_of(left.path()).is_err(), "it is held meanwhile");
        }
        assert_eq!(tree(left.path()), before, "sealed {sealed}");
    }
}

#[test]
fn damage_in_a_directory_that_is_only_read_is_named_with_its_own_path() {
    let dir = written(true);
    let volume = volumes(dir.path(), true)[2].clone();
    let mut bytes = fs::read(&volume).unwrap();
    let end = bytes.len() - 10;
    bytes[end] ^= 1;
    fs::write(&volume, bytes).unwrap();
    let image = DataDir::image_of(dir.path()).unwrap();
    let log = SledLog::open(&image, settings()).unwrap();
    let problems = log.verify(&mut |_| ()).unwrap().problems;
    assert_eq!(problems[0].position.get(), first_of(&volume));
    let own = volume.canonicalize().unwrap();
    assert!(
        image.named(&problems[0].what).contains(own.to_str().unwrap()),
        "{problems:?}"
    );
}

#[test]
fn a_directory_that_may_not_be_written_is_opened_to_read() {
    let dir = written(true);
    writable(dir.path(), false);
    let before = tree(dir.path());
    let opened = DataDir::open_to_read(dir.path()).unwrap();
    let log = SledLog::open(&opened, settings()).unwrap();
    assert_eq!(log.head().get(), EVENTS);
    assert!(log.read_one(Position::new(7)).unwrap().is_some());
    drop((log, opened));
    // Root writes whatever the rights say; the suites of the binary look at a file system that is read-only for all.
    if !rustix::process::geteuid().is_root() {
        assert_eq!(tree(dir.path()), before);
    }
    writable(dir.path(), true);
}

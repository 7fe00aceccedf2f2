//! Snapshots on disk: what is found is what was kept, and everything else is as if it was not there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use annals_core::*;
use annals_event_store::{DataDir, OpenOptions, SledSnapshots};
use chrono::{DateTime, Utc};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const DISK_MAX: u64 = 64 << 20;

/// A log of which only epoch and head matter.
struct Ended {
    epoch: Epoch,
    head: Position,
}

impl EventLog for Ended {
    fn name(&self) -> &str {
        "ended"
    }

    fn engine(&self) -> &'static str {
        "none"
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn head(&self) -> Position {
        self.head
    }

    fn wait_beyond(&self, _: Position, _: Duration) -> Position {
        self.head
    }

    fn read(&self, _: Position, _: usize) -> Result<Vec<Block>, LogError> {
        Ok(Vec::new())
    }

    fn read_stream(&self, _: &StreamId, _: Version, _: Direction, _: usize) -> Result<Vec<Record>, LogError> {
        Ok(Vec::new())
    }

    fn stream_head(&self, _: &StreamId) -> Result<Option<StreamHead>, LogError> {
        Ok(None)
    }

    fn find_command(&self, _: &StreamId, _: &str) -> Result<Option<Position>, LogError> {
        Ok(None)
    }

    fn find_event(&self, _: &EventId) -> Result<Option<Position>, LogError> {
        Ok(None)
    }

    fn position_at(&self, _: DateTime<Utc>) -> Result<Position, LogError> {
        Ok(Position::ZERO)
    }
}

fn log(epoch: u8, head: u64) -> Arc<dyn EventLog> {
    Arc::new(Ended {
        epoch: Epoch::from_bytes([epoch; 16]),
        head: Position::new(head),
    })
}

fn dir(path: &Path) -> DataDir {
    let options = OpenOptions {
        create: true,
        ..OpenOptions::default()
    };
    DataDir::open(path, options).unwrap()
}

/// The snapshots of a directory, ready.
fn open(dir: &DataDir, log: Arc<dyn EventLog>) -> SledSnapshots {
    let snapshots = SledSnapshots::open(dir, log, DISK_MAX).unwrap();
    snapshots.sample("none", 1);
    snapshots
}

fn stream(number: usize) -> StreamId {
    StreamId::new("accounts", &format!("acc-{number}")).unwrap()
}

/// A state that shows which one it is.
fn snapshot(number: usize, version: u64, len: usize) -> Snapshot {
    let state = (0..len).map(|at| (at / 7 + number + version as usize) as u8).collect();
    Snapshot {
        stream: stream(number),
        version: Version::new(version),
        position: Position::new(version),
        schema: 7,
        state,
    }
}

fn keep(snapshots: &SledSnapshots, snapshot: &Snapshot) {
    let begun = Instant::now();
    while snapshots.find(&snapshot.stream).as_ref() != Some(snapshot) {
        assert!(begun.elapsed() < Duration::from_secs(60), "it is written in the end");
        snapshots.keep(snapshot.clone());
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn files(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}

fn bytes_on_disk(path: &Path) -> u64 {
    files(path)
        .iter()
        .filter_map(|file| file.metadata().ok())
        .map(|about| about.len())
        .sum()
}

#[test]
fn what_was_kept_is_found_also_after_a_restart_whatever_its_size() {
    let temp = tempfile::tempdir().unwrap();
    let dir = dir(temp.path());
    let lens = [0, 1, 100, 16_383, 16_384, 16_385, 50_000, SNAPSHOT_LEN_MAX];
    let snapshots = open(&dir, log(1, 100));
    for (number, len) in lens.into_iter().enumerate() {
        keep(&snapshots, &snapshot(number, 10, len));
    }
    snapshots.close();
    let snapshots = open(&dir, log(1, 100));
    for (number, len) in lens.into_iter().enumerate() {
        assert_eq!(snapshots.find(&stream(number)), Some(snapshot(number, 10, len)));
    }
    assert_eq!(snapshots.find(&stream(99)), None);
}

#[test]
fn a_newer_snapshot_takes_the_place_of_the_older_one_in_all_its_parts() {
    let temp = tempfile::tempdir().unwrap();
    let dir = dir(temp.path());
    let snapshots = open(&dir, log(1, 100));
    for (version, len) in [(1, 100_000), (2, 10), (3, 40_000), (4, 16_384), (5, 0)] {
        keep(&snapshots, &snapshot(1, version, len));
    }
}

#[test]
fn a_snapshot_of_another_epoch_or_ahead_of_the_log_is_not_there() {
    let temp = tempfile::tempdir().unwrap();
    let dir = dir(temp.path());
    let snapshots = open(&dir, log(1, 100));
    keep(&snapshots, &snapshot(1, 90, 10));
    keep(&snapshots, &snapshot(2, 40, 10));
    snapshots.close();
    let restored = open(&dir, log(2, 100));
    assert_eq!(restored.find(&stream(1)), None, "of another epoch");
    restored.close();
    let shorter = open(&dir, log(1, 50));
    assert_eq!(shorter.find(&stream(1)), None, "ahead");
    assert_eq!(shorter.find(&stream(2)), Some(snapshot(2, 40, 10)));
    assert_eq!(shorter.sample("accounts", 10), vec![snapshot(2, 40, 10)]);
}

#[test]
fn one_that_is_ahead_or_too_large_is_not_even_kept() {
    let temp = tempfile::tempdir().unwrap();
    let dir = dir(temp.path());
    let snapshots = open(&dir, log(1, 50));
    snapshots.keep(snapshot(1, 51, 10));
    snapshots.keep(snapshot(2, 5, SNAPSHOT_LEN_MAX + 1));
    keep(&snapshots, &snapshot(3, 5, 10));
    snapshots.close();
    let later = open(&dir, log(1, 100));
    assert_eq!((later.find(&stream(1)), later.find(&stream(2))), (None, None));
}

#[test]
fn a_sample_is_of_its_category_and_a_category_can_be_forgotten() {
    let temp = tempfile::tempdir().unwrap();
    let dir = dir(temp.path());
    let snapshots = open(&dir, log(1, 100));
    let other = Snapshot {
        stream: StreamId::new("accounts-old", "acc-1").unwrap(),
        ..snapshot(1, 1, 10)
    };
    keep(&snapshots, &other);
    for number in 0..40 {
        keep(&snapshots, &snapshot(number, 1, 20_000));
    }
    let sample = snapshots.sample("accounts", 16);
    let mut names: Vec<_> = sample.iter().map(|snapshot| snapshot.stream.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 16);
    assert!(sample.iter().all(|snapshot| snapshot.stream.category() == "accounts"));
    snapshots.discard("accounts");
    assert!(snapshots.sample("accounts", 16).is_empty());
    assert_eq!(snapshots.find(&stream(1)), None);
    assert_eq!(snapshots.sample("accounts-old", 16), vec![other]);
}

#[test]
fn a_damaged_file_gives_the_snapshot_that_was_kept_or_none() {
    let temp = tempfile::tempdir().unwrap();
    let held = dir(temp.path());
    let snapshots = open(&held, log(1, 100));
    for number in 0..20 {
        keep(&snapshots, &snapshot(number, 10, 300 + number * 1_000));
    }
    snapshots.close();
    let whole: Vec<_> = files(&held.snapshots_path())
        .into_iter()
        .map(|file| (fs::read(&file).unwrap(), file))
        .collect();
    let (mut found, mut lost) = (0, 0);
    for round in 0..40_usize {
        for (bytes, file) in &whole {
            let mut bytes = bytes.clone();
            for place in 0..20 {
                let at = (round * 7_919 + place * 104_729) % bytes.len().max(1);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << (round % 8);
                }
            }
            fs::write(file, bytes).unwrap();
        }
        let snapshots = open(&held, log(1, 100));
        for number in 0..20 {
            match snapshots.find(&stream(number)) {
                Some(kept) => {
                    assert_eq!(kept, snapshot(number, 10, 300 + number * 1_000));
                    found += 1;
                }
                None => lost += 1,
            }
        }
        keep(&snapshots, &snapshot(50, 10, 10));
        snapshots.close();
        fs::remove_dir_all(held.snapshots_path()).unwrap();
        for (bytes, file) in &whole {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, bytes).unwrap();
        }
    }
    assert!(lost > 0, "nothing was damaged: that proves nothing ({found} found)");
}

#[test]
fn a_summary_that_was_being_written_at_a_crash_costs_no_snapshot() {
    let temp = tempfile::tempdir().unwrap();
    let held = dir(temp.path());
    let snapshots = open(&held, log(1, 100));
    keep(&snapshots, &snapshot(1, 10, 300));
    snapshots.close();
    let directory = files(&held.snapshots_path())[0].parent().unwrap().to_owned();
    fs::write(directory.join("snap.00000000FFFFFFFF.generating"), b"").unwrap();
    let snapshots = open(&held, log(1, 100));
    assert_eq!(snapshots.find(&stream(1)), Some(snapshot(1, 10, 300)));
}

#[test]
fn a_directory_as_a_kill_leaves_it_gives_what_was_kept_or_none() {
    let (temp, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let held = dir(temp.path());
    let snapshots = open(&held, log(1, 1_000));
    for round in 1..=10 {
        for number in 0..20 {
            snapshots.keep(snapshot(number, round, 5_000));
        }
        keep(&snapshots, &snapshot(50, round, 10));
        let copy = left.path().join(round.to_string());
        let copied = dir(&copy);
        for file in files(&held.snapshots_path()) {
            let to = copied.path().join(file.strip_prefix(held.path()).unwrap());
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            // A file that is being replaced may be gone already.
            let _ = fs::copy(&file, to);
        }
        let after = open(&copied, log(1, 1_000));
        for number in 0..20 {
            if let Some(kept) = after.find(&stream(number)) {
                assert_eq!(kept, snapshot(number, kept.version.get(), 5_000));
            }
        }
        keep(&after, &snapshot(60, round, 10));
    }
}

#[test]
fn the_disk_they_take_is_bounded() {
    let temp = tempfile::tempdir().unwrap();
    let dir = dir(temp.path());
    let bytes_max = 8 << 20;
    let snapshots = SledSnapshots::open(&dir, log(1, 1_000_000), bytes_max).unwrap();
    for version in 1..=2_000_u64 {
        snapshots.keep(snapshot(version as usize, version, 60_000));
        if version % 50 == 0 {
            keep(&snapshots, &snapshot(9_999, version, 10));
        }
    }
    let bytes = bytes_on_disk(&dir.snapshots_path());
    // Written in between two looks: at most 256 of 60,000 bytes, and sled's segments beside them.
    assert!(bytes < bytes_max + 256 * 60_000 * 2 + (16 << 20), "{bytes} bytes");
}

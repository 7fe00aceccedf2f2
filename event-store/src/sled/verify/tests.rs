//! However the log is cut into stretches, the same is found.

use super::*;
use crate::data_dir::{DataDir, OpenOptions};
use crate::frame::{FrameMeta, encode_bytes};
use crate::sled::log::SledLog;
use crate::sled::settings::LogSettings;
use crate::sled::volume::{Volume, key};
use annals_core::{Append, Appender, Block, NewEvent};
use std::path::Path;

/// Damages the volume; `blocks` are all that are in it.
type Damage = fn(&Volume, &[Block]);

fn open(dir: &Path) -> (SledLog, DataDir) {
    open_with_volumes(dir, LogSettings::default().volume_bytes_max)
}

fn open_with_volumes(dir: &Path, volume_bytes_max: u64) -> (SledLog, DataDir) {
    let options = OpenOptions {
        create: true,
        ..OpenOptions::default()
    };
    let held = DataDir::open(dir, options).unwrap();
    let settings = LogSettings {
        reserve_bytes: 0,
        store_bytes: 0,
        index_tail_max: 16,
        seal: false,
        volume_bytes_max,
        ..LogSettings::default()
    };
    (SledLog::open(&held, settings).unwrap(), held)
}

/// About sixty blocks: small appends over a few streams, and one append that fills several blocks.
fn written(dir: &Path) {
    let (log, _held) = open(dir);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for number in 0..60 {
        let stream = format!("a/{}", number % 7).parse().unwrap();
        let (events, len) = if number == 30 { (4, 50_000) } else { (2, 100) };
        let events = (0..events).map(|_| NewEvent::new("Said", vec![0xc0; len])).collect();
        runtime.block_on(log.append(Append::new(stream, events))).unwrap();
        // Stored by itself, so that it is a block of its own.
        log.settle().unwrap();
    }
}

fn damaged(dir: &Path, damage: Damage) {
    let path = dir.join("log").join(format!("{:020}", 1));
    let volume = Volume::open(&path, Position::new(1), 1 << 20).unwrap();
    let blocks: Vec<Block> = volume.scan(Position::new(1)).unwrap().map(Result::unwrap).collect();
    assert!(blocks.len() > 50, "{} blocks", blocks.len());
    damage(&volume, &blocks);
    volume.sync().unwrap();
}

fn missing(volume: &Volume, blocks: &[Block]) {
    for block in [&blocks[9], &blocks[10], &blocks[20], &blocks[40]] {
        volume.remove(&key(block.first())).unwrap();
    }
}

fn altered(volume: &Volume, blocks: &[Block]) {
    for block in [&blocks[5], &blocks[33]] {
        volume.insert(&key(block.first()), b"no block".to_vec()).unwrap();
    }
}

/// A block that was there before stands in the place of another.
fn repeated(volume: &Volume, blocks: &[Block]) {
    let (before, block) = (&blocks[12], &blocks[14]);
    let meta = FrameMeta {
        epoch: annals_core::Epoch::from_bytes([1; 16]),
        boot: 1,
        first: block.first(),
        count: before.count() as u32,
        part: 0,
        parts: 1,
    };
    let frame = encode_bytes(before.bytes(), &meta);
    volume.insert(&key(block.first()), frame).unwrap();
}

fn found(log: &SledLog, stretch_events: u64, threads: usize) -> VerifyReport {
    let mut most = 0;
    let report = verify_by(&log.shared, stretch_events, threads, &mut |progress| {
        assert!(progress.events >= most, "progress goes back");
        most = progress.events;
    });
    report.unwrap()
}

#[test]
fn the_same_is_found_however_the_log_is_cut() {
    for (name, damage) in [
        ("untouched", (|_, _| ()) as Damage),
        ("missing", missing),
        ("altered", altered),
    ] {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path());
        damaged(dir.path(), damage);
        let (log, _held) = open(dir.path());
        let whole = found(&log, u64::MAX, 1);
        assert_eq!(
            whole.problems.is_empty(),
            name == "untouched",
            "{name}: {:?}",
            whole.problems
        );
        assert_eq!(whole.streams, 7, "{name}");
        for (stretch_events, threads) in [(1, 1), (1, 4), (3, 2), (10, 3), (50, 8)] {
            let cut = found(&log, stretch_events, threads);
            assert_eq!(cut, whole, "{name}: stretches of {stretch_events} events");
        }
    }
}

#[test]
fn a_block_in_the_place_of_another_is_named_however_the_log_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path());
    damaged(dir.path(), repeated);
    let (log, _held) = open(dir.path());
    for stretch_events in [u64::MAX, 10, 1] {
        let report = found(&log, stretch_events, 2);
        let said = |what: &str| report.problems.iter().any(|problem| problem.what.contains(what));
        assert!(
            said("recorded time is before"),
            "{stretch_events}: {:?}",
            report.problems
        );
        assert!(said("goes from version"), "{stretch_events}: {:?}", report.problems);
        assert!(said("the index"), "{stretch_events}: {:?}", report.problems);
    }
}

#[test]
fn volumes_that_are_joined_while_they_are_verified_hold_what_they_held() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _held) = open_with_volumes(dir.path(), 1);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for number in 0..20 {
        let stream = format!("a/{}", number % 3).parse().unwrap();
        let events = (0..3).map(|_| NewEvent::new("Said", vec![0xc0; 100])).collect();
        runtime.block_on(log.append(Append::new(stream, events))).unwrap();
        log.settle().unwrap();
    }
    assert!(log.shared.volumes.starts().len() > 15);
    let mut sealed = 0;
    let report = verify_by(&log.shared, u64::MAX, 1, &mut |_| {
        if sealed == 0 {
            sealed = log.seal_now().unwrap();
        }
    });
    assert!(
        sealed > 15 && log.shared.volumes.starts().len() < 5,
        "{sealed} were joined"
    );
    let report = report.unwrap();
    assert_eq!((report.problems, report.events), (vec![], 60));
}

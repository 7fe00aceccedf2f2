//! Sealing that stops at each of its steps, as a crash would stop it, and readers that go on meanwhile.

use super::*;
use crate::data_dir::{DataDir, OpenOptions};
use crate::sled::stored::Keeping;
use crate::sled::{LogSettings, SledLog};
use annals_core::{Append, Appender, Block, EventLog, NewEvent, Position};
use std::collections::BTreeSet;
use std::path::Path;

const EVENTS: u64 = 20;
const STEPS: [Step; 4] = [Step::Written, Step::Compared, Step::Renamed, Step::Replaced];

fn open(path: &Path) -> (SledLog, DataDir) {
    let options = OpenOptions {
        create: true,
        ..OpenOptions::default()
    };
    let dir = DataDir::open(path, options).unwrap();
    let settings = LogSettings {
        volume_bytes_max: 1,
        reserve_bytes: 0,
        index_tail_max: 16,
        store_bytes: 0,
        journal_bytes: 32 << 10,
        seal: false,
        ..LogSettings::default()
    };
    (SledLog::open(&dir, settings).unwrap(), dir)
}

/// A log of many volumes of one group each.
fn written(path: &Path) -> (SledLog, DataDir) {
    let (log, dir) = open(path);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for number in 0..EVENTS / 2 {
        let stream = format!("a/{}", number % 3).parse().unwrap();
        let events = vec![NewEvent::new("Said", vec![number as u8; 100]); 2];
        runtime.block_on(log.append(Append::new(stream, events))).unwrap();
    }
    log.shared.settle().unwrap();
    (log, dir)
}

/// All payloads, read in small bites so that every bite may come from another volume.
fn read_all(log: &SledLog) -> Vec<(u64, Vec<u8>)> {
    let (mut seen, mut after) = (Vec::new(), Position::ZERO);
    loop {
        let blocks = log.read(after, 1).unwrap();
        let Some(last) = blocks.last() else { return seen };
        after = last.last();
        for record in blocks.iter().flat_map(Block::iter) {
            let record = record.unwrap();
            seen.push((record.position.get(), record.payload.to_vec()));
        }
    }
}

fn expected() -> Vec<(u64, Vec<u8>)> {
    (0..EVENTS)
        .map(|number| (number + 1, vec![(number / 2) as u8; 100]))
        .collect()
}

fn check(log: &SledLog) {
    assert_eq!(read_all(log), expected());
    let report = log.verify(&mut |_| ()).unwrap();
    assert_eq!((report.problems.as_slice(), report.events), (&[][..], EVENTS));
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Names in the log's directory that are volumes, and those that the manifest says.
fn volumes(path: &Path) -> (BTreeSet<String>, BTreeSet<String>) {
    let files = std::fs::read_dir(path.join("log")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let found = names.filter(|name| name.starts_with('0')).collect();
    let manifest = std::fs::read(path.join("log/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let named = manifest["volumes"].as_array().unwrap().iter();
    let named = named
        .map(|volume| volume["name"].as_str().unwrap().to_owned())
        .collect();
    (found, named)
}

#[test]
fn a_crash_at_any_step_leaves_every_event_once_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("log-of-volumes");
    let (log, _held) = written(&home);
    let stop = AtomicBool::new(false);
    let mut crashed = 0;
    // Sealing each volume, then joining what was sealed: both crash at each of their steps.
    for round in 0.. {
        let Some(plan) = Plan::next(&log.shared, &BTreeSet::new()).unwrap() else {
            break;
        };
        let joins = plan.old.len() > 1;
        let crash_here = round < 2 || joins;
        seal(&log.shared, &plan, &stop, &mut Pace::full(), &mut |step| {
            if crash_here {
                check(&log);
                let copy = dir.path().join(format!("{round}-{step:?}"));
                copy_tree(&home, &copy);
                let (copied, _held) = open(&copy);
                check(&copied);
                let (found, named) = volumes(&copy);
                assert_eq!(found, named, "leftovers are gone after {step:?}");
                crashed += 1;
            }
            Ok(())
        })
        .unwrap();
    }
    assert_eq!(crashed, 3 * STEPS.len(), "two volumes and the joining");
    check(&log);
    let (found, named) = volumes(&home);
    assert_eq!(found, named, "replaced volumes are removed");
    assert_eq!(
        found.len(),
        2,
        "one sealed volume and the one that is written: {found:?}"
    );
}

#[test]
fn a_sealing_that_fails_at_a_step_leaves_the_log_as_it_is_and_may_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _held) = written(dir.path());
    let stop = AtomicBool::new(false);
    for failing in STEPS {
        let plan = Plan::next(&log.shared, &BTreeSet::new()).unwrap().unwrap();
        let failed = seal(&log.shared, &plan, &stop, &mut Pace::full(), &mut |step| {
            let error = SealError::Failed(LogError::Storage("the disk went away".into()));
            if step == failing { Err(error) } else { Ok(()) }
        });
        assert!(matches!(failed, Err(SealError::Failed(_))), "{failing:?}");
        check(&log);
    }
    log.seal_now().unwrap();
    check(&log);
}

#[test]
fn sealing_stops_when_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _held) = written(dir.path());
    let told = AtomicBool::new(true);
    assert!(matches!(
        seal_all(&log.shared, &told, &mut Pace::full()),
        Err(SealError::Stopped)
    ));
    check(&log);
    let (found, named) = volumes(dir.path());
    assert_eq!(found, named, "what was begun is gone");
}

#[test]
fn a_reader_that_holds_a_volume_finishes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _held) = written(dir.path());
    let (held, _) = log.shared.volumes.containing(Position::new(1)).unwrap();
    let mut blocks = held.scan(Position::new(1)).unwrap();
    log.seal_now().unwrap();
    let block = blocks.next().unwrap().unwrap();
    assert_eq!((block.first().get(), block.last().get()), (1, 2));
    drop(blocks);
    let old = dir.path().join("log/00000000000000000001");
    assert!(old.exists(), "its reader still has it");
    drop(held);
    assert!(!old.exists(), "the last reader let go of it");
    check(&log);
}

#[test]
fn a_damaged_volume_is_not_joined_and_its_position_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _held) = written(dir.path());
    let stop = AtomicBool::new(false);
    let joins = loop {
        let plan = Plan::next(&log.shared, &BTreeSet::new()).unwrap().unwrap();
        if plan.old.len() > 1 {
            break plan;
        }
        seal(&log.shared, &plan, &stop, &mut Pace::full(), &mut |_| Ok(())).unwrap();
    };
    let path = dir.path().join("log/00000000000000000011.1.blocks");
    let mut bytes = std::fs::read(&path).unwrap();
    // In its only frame, which stands in front of one entry of the table and the trailer.
    let at = bytes.len() - 80 - 16 - 5;
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let refused = seal(&log.shared, &joins, &stop, &mut Pace::full(), &mut |_| Ok(()));
    let Err(SealError::Failed(LogError::Damaged { position, .. })) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(position.get(), 11);
    assert_eq!(
        log.read(Position::new(12), 1).unwrap()[0].first().get(),
        13,
        "the others are read as before"
    );
    let named: Vec<_> = log
        .verify(&mut |_| ())
        .unwrap()
        .problems
        .iter()
        .map(|problem| problem.position.get())
        .collect();
    assert_eq!(named[0], 11, "{named:?}");
}

#[test]
fn full_blocks_stay_as_they_are_and_small_ones_between_them_are_joined() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _held) = open(dir.path());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    // Events and bytes of each: a group makes a block, of parts if its only record is large.
    let groups = [
        (5, 11_000),
        (1, 100),
        (2, 100),
        (5, 11_000),
        (1, 200_000),
        (5, 11_000),
        (1, 100),
    ];
    for (number, (events, len)) in groups.into_iter().enumerate() {
        let noise = (0..len)
            .map(|at| (at * 31 + number) as u8 ^ (at / 7) as u8)
            .collect::<Vec<u8>>();
        let events = vec![NewEvent::new("Said", noise); events];
        let stream = "a/1".parse().unwrap();
        runtime.block_on(log.append(Append::new(stream, events))).unwrap();
    }
    log.shared.settle().unwrap();
    let before = read_all(&log);
    log.seal_now().unwrap();
    assert!(read_all(&log) == before, "every event is there as it was");
    let report = log.verify(&mut |_| ()).unwrap();
    assert_eq!(report.problems.as_slice(), &[]);
    let (volume, _) = log.shared.volumes.containing(Position::new(1)).unwrap();
    assert_eq!(volume.keeping(), Keeping::Table);
    let blocks = volume.scan(Position::new(1)).unwrap();
    let counts: Vec<u64> = blocks.map(|block| block.unwrap().count()).collect();
    assert_eq!(counts, [5, 3, 5, 1, 5, 1], "the two small ones are one");
}

//! The Merkle tree of a log: what is stored of it is never trusted more than the log itself.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use annals_audit::{Frontier, Tile, leaf_hash, record_leaf, verify_consistency, verify_inclusion};
use annals_core::*;
use annals_event_store::{LogTree, MemoryLog, TreeError, TreeFollower};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::append;

/// How long anything may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A log of so many events, in appends of up to 1,000.
fn log_of(events: usize) -> Arc<MemoryLog> {
    let log = Arc::new(MemoryLog::new("shop"));
    more(&log, events);
    log
}

fn more(log: &MemoryLog, events: usize) {
    let before = log.head().get() as usize;
    let texts: Vec<String> = (before..before + events).map(|n| format!("event {n}")).collect();
    for chunk in texts.chunks(1_000) {
        append(log, "talk/a", &chunk.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    }
}

/// The tree as it has to be, from nothing but the records.
fn by_hand(log: &MemoryLog, size: u64) -> Frontier {
    let mut frontier = Frontier::new();
    for position in 1..=size {
        let record = log.read_one(Position::new(position)).unwrap().unwrap();
        let record = record.view().unwrap();
        frontier.push(record_leaf(record.header_bytes, record.payload), |_, _, _| {});
    }
    frontier
}

fn grown(dir: &Path, log: &Arc<MemoryLog>) -> LogTree {
    let tree = LogTree::open(dir, log.clone()).unwrap();
    while tree.grow().unwrap() {}
    tree
}

#[test]
fn every_record_is_a_leaf_and_every_size_has_its_root_and_proofs() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(1_500);
    let tree = grown(dir.path(), &log);
    let whole = by_hand(&log, 1_500);
    assert_eq!(tree.head(), (1_500, whole.root()));
    for size in [1, 255, 256, 257, 1_023, 1_024, 1_280, 1_499] {
        let root = by_hand(&log, size).root();
        assert_eq!(tree.root_at(size).unwrap(), root, "{size} leaves");
        let proof = tree.consistency_proof(size, 1_500).unwrap();
        verify_consistency(size, &root, 1_500, &whole.root(), &proof).unwrap();
    }
    for position in [1, 2, 256, 257, 1_025, 1_500] {
        let record = log.read_one(Position::new(position)).unwrap().unwrap();
        let record = record.view().unwrap();
        let leaf = leaf_hash(&annals_audit::entry(record.header_bytes, record.payload));
        let proof = tree.inclusion_proof(Position::new(position), 1_500).unwrap();
        verify_inclusion(&leaf, position - 1, 1_500, &whole.root(), &proof).unwrap();
    }
}

#[test]
fn tiles_are_as_wide_as_the_tree_and_no_wider() {
    let dir = tempfile::tempdir().unwrap();
    let tree = grown(dir.path(), &log_of(700));
    let width = |level, index, width| tree.hashes(Tile { level, index, width }).map(|hashes| hashes.len());
    assert_eq!(width(0, 0, 256).unwrap(), 256);
    assert_eq!(width(0, 2, 188).unwrap(), 188);
    assert_eq!(width(0, 2, 100).unwrap(), 100, "of an older tree");
    assert_eq!(width(1, 0, 2).unwrap(), 2);
    for (level, index, wide) in [(0, 2, 189), (0, 3, 1), (1, 0, 3), (2, 0, 1), (63, u64::MAX, 256)] {
        let answer = width(level, index, wide);
        assert!(
            matches!(answer, Err(TreeError::NoSuch(_))),
            "{level}/{index}/{wide}: {answer:?}"
        );
    }
}

#[test]
fn a_tree_goes_on_from_what_was_saved_and_is_the_same_when_nothing_was() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(600);
    let tree = grown(dir.path(), &log);
    tree.save().unwrap();
    drop(tree);
    more(&log, 600);
    let again = LogTree::open(dir.path(), log.clone()).unwrap();
    assert_eq!(again.size(), 512, "full tiles are taken from the files");
    // The process is killed: nothing more is saved.
    while again.grow().unwrap() {}
    drop(again);
    let killed = LogTree::open(dir.path(), log.clone()).unwrap();
    assert_eq!(killed.size(), 512);
    killed.reach(1_200).unwrap();
    assert_eq!(killed.head(), (1_200, by_hand(&log, 1_200).root()));
    assert!(matches!(
        killed.reach(1_201),
        Err(TreeError::NotYet {
            size: 1_201,
            reached: 1_200
        })
    ));
}

#[test]
fn damaged_cut_foreign_or_lost_files_are_hashed_anew() {
    let log = log_of(70_000);
    let root = by_hand(&log, 70_000).root();
    let dir = tempfile::tempdir().unwrap();
    grown(dir.path(), &log).save().unwrap();
    let whole: Vec<_> = ["tree.json", "level-1", "level-2"]
        .map(|name| (name, std::fs::read(dir.path().join(name)).unwrap()))
        .into();
    for (name, bytes) in &whole {
        for change in ["lost", "cut", "flipped", "empty"] {
            let dir = tempfile::tempdir().unwrap();
            for (name, bytes) in &whole {
                std::fs::write(dir.path().join(name), bytes).unwrap();
            }
            let file = dir.path().join(name);
            match change {
                "lost" => std::fs::remove_file(&file).unwrap(),
                "cut" => std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap(),
                "empty" => std::fs::write(&file, "").unwrap(),
                _ => std::fs::write(&file, bytes.iter().map(|byte| byte ^ 1).collect::<Vec<_>>()).unwrap(),
            }
            let tree = grown(dir.path(), &log);
            assert_eq!(tree.head(), (70_000, root), "{name} {change}");
            assert_eq!(tree.root_at(70_000).unwrap(), root, "{name} {change}");
        }
    }
    // Another log with as many events: its hashes are not taken for this one's.
    let other = log_of(70_000);
    let tree = grown(dir.path(), &other);
    assert_eq!(tree.head().1, by_hand(&other, 70_000).root());
    assert_ne!(tree.head().1, root);
}

#[test]
fn a_hash_that_is_damaged_while_the_tree_is_open_is_an_error_once_and_hashed_anew() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(2_000);
    let tree = grown(dir.path(), &log);
    let file = dir.path().join("level-1");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[40] ^= 0x10;
    std::fs::write(&file, bytes).unwrap();
    let error = tree.inclusion_proof(Position::new(1_900), 2_000).unwrap_err();
    assert!(error.to_string().contains("hash 1 of level 1 is damaged"), "{error}");
    tree.reach(2_000).unwrap();
    let root = by_hand(&log, 2_000).root();
    assert_eq!(tree.root_at(2_000).unwrap(), root);
    assert!(tree.inclusion_proof(Position::new(1_900), 2_000).is_ok());
}

#[test]
fn a_follower_lets_the_tree_grow_with_the_log_and_saves_it_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(300);
    let tree = Arc::new(LogTree::open(dir.path(), log.clone()).unwrap());
    let follower = TreeFollower::start(tree.clone(), |_| ()).unwrap();
    more(&log, 900);
    let begin = Instant::now();
    while tree.size() < 1_200 {
        assert!(begin.elapsed() < LIMIT, "the tree has {} leaves", tree.size());
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(follower);
    assert_eq!(tree.head().1, by_hand(&log, 1_200).root());
    assert_eq!(LogTree::open(dir.path(), log).unwrap().size(), 1_024);
}

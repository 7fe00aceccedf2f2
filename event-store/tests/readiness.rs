//! Whether a log takes appends is known without appending, and damage that a read has found is not forgotten.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use annals_core::*;
use annals_event_store::LogSettings;
use std::fs;
use support::{append, open, small};

#[test]
fn a_log_is_ready_until_the_disk_is_down_to_the_reserve_or_it_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let (log, held) = open(dir.path(), small());
    assert_eq!(log.not_ready(), None);
    append(&log, "a/1", &["one"]).unwrap();
    log.close();
    assert_eq!(log.not_ready().unwrap().reason, "log-closed");
    drop((log, held));

    let reserve_bytes = u64::MAX;
    let (log, _held) = open(
        dir.path(),
        LogSettings {
            reserve_bytes,
            ..small()
        },
    );
    let not = log.not_ready().unwrap();
    assert_eq!(not.reason, "storage-full");
    assert!(not.detail.contains("free some space"), "{}", not.detail);
    let refused = append(&log, "a/1", &["two"]).unwrap_err();
    assert!(
        matches!(refused, AppendError::StorageFull { .. }),
        "as it is: {refused}"
    );
}

#[test]
fn damage_that_a_read_finds_is_said_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let (log, held) = open(dir.path(), small());
    for number in 0..40 {
        append(&log, "a/1", &[&format!("event {number} {}", "x".repeat(2_000))]).unwrap();
    }
    log.close();
    drop((log, held));
    let (log, held) = open(dir.path(), small());
    assert!(log.seal_now().unwrap() > 0, "there is a volume to seal");
    log.close();
    drop((log, held));
    let files = fs::read_dir(dir.path().join("log")).unwrap();
    let sealed = files
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "blocks"))
        .unwrap();
    let mut bytes = fs::read(&sealed).unwrap();
    // Behind the head of the file and of its first frame.
    bytes[400] ^= 1;
    fs::write(&sealed, bytes).unwrap();

    let (log, _held) = open(dir.path(), small());
    assert_eq!(log.not_ready(), None, "nobody has looked yet");
    let mut after = Position::ZERO;
    let damaged = loop {
        match log.read(after, 1) {
            Ok(blocks) => after = blocks.last().expect("a damaged log has no early end").last(),
            Err(error) => break error,
        }
    };
    assert!(matches!(damaged, LogError::Damaged { .. }), "{damaged}");
    let not = log.not_ready().unwrap();
    assert_eq!(not.reason, "log-damaged");
    assert!(
        not.detail.contains("position") && not.detail.contains("annals verify"),
        "{}",
        not.detail
    );
}

//! Signed checkpoints: signed once, kept for ever, verifiable after every rotation of keys, and never signed over a log that
//! is not the one before.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use annals_audit::{Checkpoint, Note, VerifierKey};
use annals_core::*;
use annals_event_store::{KeysError, LogKeys, LogTree, MemoryLog, Notary, NotaryError, NotarySettings};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use support::append;

const ORIGIN: &str = "annals/shop/1";

fn log_of(events: usize) -> Arc<MemoryLog> {
    let log = Arc::new(MemoryLog::new("shop"));
    more(&log, events);
    log
}

fn more(log: &MemoryLog, events: usize) {
    for n in 0..events {
        append(log, "talk/a", &[&n.to_string()]).unwrap();
    }
}

fn open(dir: &Path, log: &Arc<MemoryLog>) -> Result<Notary, NotaryError> {
    let tree = Arc::new(LogTree::open(&dir.join("tree"), log.clone())?);
    tree.reach(log.head().get())?;
    let keys = LogKeys::open(&dir.join("keys"), ORIGIN)?;
    let settings = NotarySettings {
        events: 10,
        every: Duration::from_secs(3_600),
    };
    Notary::open(tree, keys, dir.join("checkpoints"), ORIGIN.into(), None, settings)
}

fn read(note: &str, key: &VerifierKey) -> Checkpoint {
    let note = Note::parse(note).unwrap();
    note.signed_by(key).unwrap();
    Checkpoint::parse(note.text()).unwrap()
}

#[test]
fn a_checkpoint_is_signed_when_enough_events_have_come_and_not_twice() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(9);
    let notary = open(dir.path(), &log).unwrap();
    notary.sign_if_due().unwrap();
    assert_eq!(notary.checkpoints().latest(), None, "nine events are not ten");
    more(&log, 3);
    notary.tree().reach(12).unwrap();
    notary.sign_if_due().unwrap();
    let (size, note) = notary.checkpoints().latest().unwrap();
    let checkpoint = read(&note, notary.keys().signer().verifier());
    assert_eq!(
        (size, checkpoint.size, checkpoint.root),
        (12, 12, notary.tree().root_at(12).unwrap())
    );
    assert_eq!(checkpoint.origin, ORIGIN);
    assert_eq!(notary.sign().unwrap(), Some(note), "there is nothing new to sign");
    assert_eq!(notary.checkpoints().after(0, 10).unwrap().len(), 1);
}

#[test]
fn an_empty_log_has_no_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path(), &log_of(0)).unwrap();
    assert_eq!(notary.sign().unwrap(), None);
}

#[test]
fn checkpoints_are_there_after_a_restart_however_many_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(0);
    let notary = open(dir.path(), &log).unwrap();
    for size in 1..=300 {
        more(&log, 1);
        notary.tree().reach(size).unwrap();
        notary.sign().unwrap();
    }
    drop(notary);
    // Files are closed at 1 MiB, which a test does not fill: the first ones are moved into a file of their own.
    let file = dir.path().join("checkpoints/00000000000000000001.notes");
    let bytes = fs::read(&file).unwrap();
    let (mut at, mut count) = (0, 0);
    while count < 100 {
        at += 8 + u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        count += 1;
    }
    fs::write(&file, &bytes[..at]).unwrap();
    fs::write(file.with_file_name("00000000000000000101.notes"), &bytes[at..]).unwrap();
    let notary = open(dir.path(), &log).unwrap();
    let sizes = |after, limit| -> Vec<u64> {
        let notes = notary.checkpoints().after(after, limit).unwrap();
        notes
            .iter()
            .map(|note| read(note, notary.keys().signer().verifier()).size)
            .collect()
    };
    assert_eq!(sizes(0, 1_000), (1..=300).collect::<Vec<_>>());
    assert_eq!(sizes(98, 4), [99, 100, 101, 102]);
    assert_eq!(sizes(299, 4), [300]);
    assert_eq!(sizes(300, 4), Vec::<u64>::new());
}

#[test]
fn what_a_crash_left_of_the_last_checkpoint_is_cut_off_and_damage_before_others_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(0);
    let notary = open(dir.path(), &log).unwrap();
    for size in 1..=3 {
        more(&log, 1);
        notary.tree().reach(size).unwrap();
        notary.sign().unwrap();
    }
    drop(notary);
    let file = dir.path().join("checkpoints/00000000000000000001.notes");
    let whole = fs::read(&file).unwrap();
    let third = whole.len() / 3 * 2;
    for len in [third + 1, third + 7, third + 50, whole.len() - 1] {
        fs::write(&file, &whole[..len]).unwrap();
        let notary = open(dir.path(), &log).unwrap();
        assert_eq!(notary.checkpoints().latest().unwrap().0, 2, "cut at {len}");
        assert!(notary.sign().unwrap().is_some());
        assert_eq!(notary.checkpoints().after(0, 9).unwrap().len(), 3);
        drop(notary);
    }
    for byte in [0, 4, 20, third - 1] {
        let mut bytes = whole.clone();
        bytes[byte] ^= 1;
        fs::write(&file, &bytes).unwrap();
        let error = open(dir.path(), &log).map(drop).unwrap_err().to_string();
        assert!(error.contains("is damaged at byte"), "byte {byte}: {error}");
        assert_eq!(fs::read(&file).unwrap(), bytes, "nothing was cut off");
    }
}

#[test]
fn a_log_that_is_not_the_one_that_was_signed_gets_no_signature() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(20);
    open(dir.path(), &log).unwrap().sign().unwrap();
    // The same number of events and more, but others.
    let other = log_of(25);
    let error = open(dir.path(), &other).unwrap().sign().unwrap_err();
    assert!(matches!(error, NotaryError::Contradiction { size: 20, .. }), "{error}");
    // An older state of the log.
    let error = open(dir.path(), &log_of(7)).unwrap().sign().unwrap_err();
    assert!(error.to_string().contains("only 7 events"), "{error}");
    // The right one still does.
    more(&log, 1);
    assert!(open(dir.path(), &log).unwrap().sign().is_ok());
}

#[test]
fn old_checkpoints_verify_after_a_rotation_and_new_ones_with_the_new_key() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(5);
    let notary = open(dir.path(), &log).unwrap();
    notary.sign().unwrap();
    let first = notary.keys().signer().verifier().clone();
    drop(notary);
    let keys = LogKeys::rotate(&dir.path().join("keys"), ORIGIN).unwrap();
    let second = keys.signer().verifier().clone();
    assert_eq!(keys.verifiers(), [first.clone(), second.clone()]);
    more(&log, 5);
    let notary = open(dir.path(), &log).unwrap();
    notary.sign().unwrap();
    let notes = notary.checkpoints().after(0, 9).unwrap();
    assert_eq!((read(&notes[0], &first).size, read(&notes[1], &second).size), (5, 10));
    assert!(Note::parse(&notes[1]).unwrap().signed_by(&first).is_err());
}

#[test]
fn keys_are_their_owners_alone_and_a_lost_or_exchanged_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys");
    let first = LogKeys::open(&keys, ORIGIN).unwrap().signer().verifier().clone();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&keys), mode(&keys.join("signer"))), (0o700, 0o600));
    assert_eq!(
        LogKeys::open(&keys, ORIGIN).unwrap().signer().verifier(),
        &first,
        "opened again it is the same"
    );
    let signer = fs::read(keys.join("signer")).unwrap();
    fs::remove_file(keys.join("signer")).unwrap();
    let error = LogKeys::open(&keys, ORIGIN).unwrap_err();
    assert!(
        matches!(error, KeysError::Missing(_)) && error.to_string().contains("annals keys rotate"),
        "{error}"
    );
    assert_eq!(LogKeys::rotate(&keys, ORIGIN).unwrap().verifiers().len(), 2);
    fs::write(keys.join("signer"), signer).unwrap();
    let error = LogKeys::open(&keys, ORIGIN).unwrap_err().to_string();
    assert!(error.contains("not the last key"), "{error}");
}

#[test]
fn a_rotation_that_was_killed_is_finished_or_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys");
    let first = LogKeys::open(&keys, ORIGIN).unwrap();
    let (signer, verifiers) = (
        fs::read(keys.join("signer")).unwrap(),
        fs::read(keys.join("verifiers")).unwrap(),
    );
    let second = LogKeys::rotate(&keys, ORIGIN).unwrap();
    let next = fs::read(keys.join("signer")).unwrap();
    // Killed before anybody could know the new key.
    fs::write(keys.join("signer"), &signer).unwrap();
    fs::write(keys.join("signer.next"), &next).unwrap();
    let both = fs::read(keys.join("verifiers")).unwrap();
    fs::write(keys.join("verifiers"), verifiers).unwrap();
    assert_eq!(
        LogKeys::open(&keys, ORIGIN).unwrap().signer().verifier(),
        first.signer().verifier()
    );
    assert!(!keys.join("signer.next").exists());
    // Killed after.
    fs::write(keys.join("signer.next"), &next).unwrap();
    fs::write(keys.join("verifiers"), both).unwrap();
    assert_eq!(
        LogKeys::open(&keys, ORIGIN).unwrap().signer().verifier(),
        second.signer().verifier()
    );
}

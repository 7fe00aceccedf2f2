//! Backups: taken while the log is appended to, checked, read as a log, restored as a new history.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use annals_core::*;
use annals_event_store::{
    BackupError, BackupFile, BackupLog, BackupSource, DataDir, LogSettings, OpenOptions, SledLog,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use support::{append, event, run, small, stream, texts};

/// A log with a domain and two outboxes beside it.
fn opened(path: &Path) -> (Arc<SledLog>, DataDir) {
    let options = OpenOptions {
        create: true,
        name: Some("shop"),
        domain: Some("commerce"),
    };
    let dir = DataDir::open(path, options).unwrap();
    for (file, bytes) in [
        ("registry.json", &b"{}"[..]),
        ("refunds/outbox", b"AOB1 and so on"),
        ("empty/outbox", b""),
    ] {
        let file = dir.reactors_path().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }
    std::fs::create_dir_all(dir.reactors_path().join("refunds/state")).unwrap();
    (Arc::new(SledLog::open(&dir, small()).unwrap()), dir)
}

fn reopened(path: &Path) -> (SledLog, DataDir) {
    let dir = DataDir::open(path, OpenOptions::default()).unwrap();
    (SledLog::open(&dir, small()).unwrap(), dir)
}

fn keyed(number: u8) -> Append {
    let mut append = Append::new(stream("a/keyed"), vec![event(&format!("keyed {number}"))]);
    append.command = Some(CommandKey {
        key: format!("k-{number}"),
        fingerprint: [number; 16],
    });
    append
}

/// Appends of all kinds: small and large, of several events, with keys.
fn fill(log: &SledLog) {
    for number in 0..30u8 {
        append(log, &format!("a/{}", number % 4), &[&number.to_string(), "more"]).unwrap();
    }
    append(log, "a/large", &[&"x".repeat(200_000), "small"]).unwrap();
    for number in 0..3 {
        run(log.append(keyed(number))).unwrap();
    }
}

fn write(log: &Arc<SledLog>, dir: &DataDir, to: &Path) -> annals_event_store::BackupSummary {
    let file = std::fs::File::create(to).unwrap();
    BackupSource::new(dir, Arc::clone(log))
        .write(file, &mut |_| ())
        .unwrap()
}

/// Position, header and payload of every event.
fn events(log: &dyn EventLog) -> Vec<(u64, Vec<u8>, Vec<u8>)> {
    let (mut events, mut after) = (Vec::new(), Position::ZERO);
    loop {
        let blocks = log.read(after, 50_000).unwrap();
        let Some(last) = blocks.last() else { return events };
        after = last.last();
        for record in blocks.iter().flat_map(Block::iter) {
            let record = record.unwrap();
            events.push((
                record.position.get(),
                record.header_bytes.to_vec(),
                record.payload.to_vec(),
            ));
        }
    }
}

struct Backed {
    dir: tempfile::TempDir,
    log: Arc<SledLog>,
    _held: DataDir,
    file: PathBuf,
}

fn backed() -> Backed {
    let dir = tempfile::tempdir().unwrap();
    let (log, held) = opened(&dir.path().join("data"));
    fill(&log);
    let file = dir.path().join("backup");
    write(&log, &held, &file);
    Backed {
        dir,
        log,
        _held: held,
        file,
    }
}

#[test]
fn a_restored_log_has_every_event_byte_for_byte_in_a_new_epoch() {
    let backed = backed();
    let summary = BackupFile::open(&backed.file).unwrap().verify(&mut |_| ()).unwrap();
    assert_eq!((summary.head, summary.outboxes), (backed.log.head(), 2));
    assert_eq!(summary.bytes, backed.file.metadata().unwrap().len());

    let target = backed.dir.path().join("restored");
    let restored = BackupFile::open(&backed.file)
        .unwrap()
        .restore(&target, &mut |_| ())
        .unwrap();
    let (log, held) = reopened(&target);
    assert_eq!((held.name(), held.domain()), ("shop", Some("commerce")));
    assert_eq!(log.epoch(), restored.epoch);
    assert_ne!(log.epoch(), backed.log.epoch());
    assert_eq!(events(&log), events(backed.log.as_ref()));
    assert_eq!(
        log.fingerprint(b"x"),
        backed.log.fingerprint(b"x"),
        "the secret is the same"
    );
    assert_eq!(
        std::fs::read(held.reactors_path().join("refunds/outbox")).unwrap(),
        b"AOB1 and so on"
    );
    assert!(held.reactors_path().join("empty/outbox").exists());
    let repeated = run(log.append(keyed(1))).unwrap();
    assert!(repeated.duplicate, "the key is known");
    assert_eq!(
        append(&log, "a/1", &["goes on"]).unwrap().position,
        backed.log.head().next()
    );
    assert!(log.verify(&mut |_| ()).unwrap().problems.is_empty());
    drop((log, held));
    let manifest = std::fs::read_to_string(target.join("log/manifest.json")).unwrap();
    assert!(
        manifest.contains(&backed.log.epoch().to_string()),
        "the parent is named: {manifest}"
    );
    assert_eq!(reopened(&target).0.head(), backed.log.head().next());
}

#[test]
fn an_empty_log_can_be_backed_up_and_restored() {
    let dir = tempfile::tempdir().unwrap();
    let (log, held) = opened(&dir.path().join("data"));
    write(&log, &held, &dir.path().join("backup"));
    let target = dir.path().join("restored");
    std::fs::create_dir(&target).unwrap();
    BackupFile::open(&dir.path().join("backup"))
        .unwrap()
        .restore(&target, &mut |_| ())
        .unwrap();
    let (restored, _held) = reopened(&target);
    assert_eq!(restored.head(), Position::ZERO);
    assert_eq!(append(&restored, "a/1", &["first"]).unwrap().position.get(), 1);
}

#[test]
fn a_backup_is_taken_while_the_log_is_appended_to_and_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let (log, held) = opened(&dir.path().join("data"));
    append(log.as_ref(), "a/0", &["0"]).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..80u64 {
                append(log.as_ref(), &format!("a/{}", number % 3), &[&number.to_string()]).unwrap();
                if number % 20 == 0 {
                    log.seal_now().unwrap();
                }
            }
            done.store(true, Ordering::Release);
        });
        let mut taken = 0;
        while taken < 3 || !done.load(Ordering::Acquire) {
            let before = log.head();
            let file = dir.path().join("backup");
            let summary = write(&log, &held, &file);
            assert!(summary.head >= before, "all that was acknowledged before is in it");
            let backup = BackupLog::open(&file).unwrap();
            backup.backup().verify(&mut |_| ()).unwrap();
            let expected: Vec<String> = (0..summary.head.get()).map(|number| number.to_string()).collect();
            assert_eq!(payloads(&backup), expected);
            taken += 1;
        }
    });
    assert_eq!(texts(log.as_ref(), Position::ZERO).len(), 80);
}

fn payloads(log: &dyn EventLog) -> Vec<String> {
    let text = |(_, _, payload)| String::from_utf8(payload).unwrap();
    events(log).into_iter().map(text).collect()
}

#[test]
fn a_backup_reads_like_the_log_that_it_was_taken_of() {
    let backed = backed();
    let (log, backup) = (backed.log.as_ref(), BackupLog::open(&backed.file).unwrap());
    assert_eq!(events(&backup), events(log));
    assert_eq!(
        (backup.name(), backup.head(), backup.epoch()),
        (log.name(), log.head(), log.epoch())
    );
    let name = stream("a/1");
    assert_eq!(backup.stream_head(&name).unwrap(), log.stream_head(&name).unwrap());
    assert_eq!(backup.stream_head(&stream("a/none")).unwrap(), None);
    for (from, direction, limit) in [
        (1, Direction::Forward, 100),
        (3, Direction::Forward, 2),
        (99, Direction::Backward, 3),
        (4, Direction::Backward, 2),
    ] {
        let positions = |log: &dyn EventLog| {
            let records = log.read_stream(&name, Version::new(from), direction, limit).unwrap();
            records.iter().map(Record::position).collect::<Vec<_>>()
        };
        assert_eq!(positions(&backup), positions(log), "{from} {direction:?} {limit}");
    }
    let keyed = stream("a/keyed");
    assert_eq!(
        backup.find_command(&keyed, "k-2").unwrap(),
        log.find_command(&keyed, "k-2").unwrap()
    );
    let tenth = log.read_one(Position::new(10)).unwrap().unwrap();
    let view = tenth.view().unwrap();
    assert_eq!(
        backup.find_event(&view.header.id.to_owned()).unwrap(),
        Some(Position::new(10))
    );
    let time = view.recorded_at();
    assert_eq!(backup.position_at(time).unwrap(), log.position_at(time).unwrap());
}

#[test]
fn a_damaged_backup_is_refused_and_nothing_is_restored() {
    let backed = backed();
    let whole = std::fs::read(&backed.file).unwrap();
    let target = backed.dir.path().join("restored");
    // Head, frames, table, trailer: a byte of each, and a file that ends too early.
    let places = [
        0,
        20,
        whole.len() / 3,
        whole.len() / 2,
        whole.len() - 90,
        whole.len() - 10,
    ];
    let altered = places.iter().map(|at| {
        let mut bytes = whole.clone();
        bytes[*at] ^= 0x10;
        bytes
    });
    for (number, bytes) in altered
        .chain([whole[..whole.len() - 1].to_vec(), Vec::new()])
        .enumerate()
    {
        std::fs::write(&backed.file, bytes).unwrap();
        let refused = BackupFile::open(&backed.file).and_then(|backup| backup.restore(&target, &mut |_| ()));
        let Err(BackupError::Damaged { position, .. }) = refused else {
            panic!("{number}: {refused:?}")
        };
        assert!(
            position.get() >= 1 && position <= backed.log.head(),
            "{number}: {position}"
        );
        assert!(!target.exists());
    }
}

#[test]
fn a_directory_that_holds_something_is_not_restored_into() {
    let backed = backed();
    let backup = BackupFile::open(&backed.file).unwrap();
    let target = backed.dir.path().join("restored");
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("mine"), b"x").unwrap();
    let refused = backup.restore(&target, &mut |_| ()).unwrap_err();
    assert!(refused.to_string().contains("is not empty"), "{refused}");
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 1);
    let other = backed.dir.path().join("other");
    let beside = other.with_extension("restoring");
    std::fs::create_dir(&beside).unwrap();
    std::fs::write(beside.join("mine"), b"x").unwrap();
    let refused = backup.restore(&other, &mut |_| ()).unwrap_err();
    assert!(refused.to_string().contains("in the way"), "{refused}");
    assert!(beside.join("mine").exists());
}

#[test]
fn a_sealed_volume_is_no_backup() {
    let backed = backed();
    backed.log.seal_now().unwrap();
    let volumes = std::fs::read_dir(backed.dir.path().join("data/log")).unwrap();
    let sealed = volumes
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().ends_with(".blocks"));
    let refused = BackupFile::open(&sealed.unwrap()).unwrap_err();
    assert!(refused.to_string().contains("annals backup"), "{refused}");
}

#[test]
fn a_damaged_log_is_not_backed_up_and_the_position_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let (log, held) = opened(&path);
    for number in 0..12 {
        append(log.as_ref(), "a/1", &[&number.to_string()]).unwrap();
    }
    let settings = LogSettings {
        sealed_bytes_max: 0,
        ..small()
    };
    log.close();
    drop(log);
    let log = SledLog::open(&held, settings.clone()).unwrap();
    log.seal_now().unwrap();
    drop(log);
    let sealed = path.join("log/00000000000000000005.1.blocks");
    let mut bytes = std::fs::read(&sealed).unwrap();
    let at = bytes.len() - 80 - 16 - 5;
    bytes[at] ^= 1;
    std::fs::write(&sealed, bytes).unwrap();
    let log = Arc::new(SledLog::open(&held, settings).unwrap());
    let refused = BackupSource::new(&held, log)
        .write(Vec::new(), &mut |_| ())
        .unwrap_err();
    let BackupError::Log(LogError::Damaged { position, .. }) = refused else {
        panic!("{refused}")
    };
    assert_eq!(position.get(), 5);
}

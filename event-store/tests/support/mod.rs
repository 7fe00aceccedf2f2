//! What the suites of this crate share: small words for appending and reading, and a sled log in a directory of its own.

#![allow(unreachable_pub, reason = "the suites are crates of their own")]
#![allow(dead_code, reason = "each suite uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use annals_core::*;
use annals_event_store::{DataDir, LogSettings, OpenError, OpenOptions, SledLog};
use std::future::Future;
use std::path::Path;

pub fn stream(name: &str) -> StreamId {
    name.parse().unwrap()
}

pub fn event(text: &str) -> NewEvent {
    let mut event = NewEvent::new("Said", text.as_bytes().to_vec());
    event.content_type = "text/plain".into();
    event
}

/// Waits for a future.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

pub fn append(log: &dyn Appender, name: &str, texts: &[&str]) -> Result<Appended, AppendError> {
    run(log.append(Append::new(
        stream(name),
        texts.iter().map(|text| event(text)).collect(),
    )))
}

/// All payloads after a position.
pub fn texts(log: &dyn Appender, mut after: Position) -> Vec<String> {
    let mut texts = Vec::new();
    loop {
        let blocks = log.read(after, 10_000).unwrap();
        let Some(last) = blocks.last() else { return texts };
        after = last.last();
        for record in blocks.iter().flat_map(Block::iter) {
            texts.push(String::from_utf8(record.unwrap().payload.to_vec()).unwrap());
        }
    }
}

/// Small volumes and a short tail, so that rolling and indexing happen in tests. Sealing happens when it is asked for.
pub fn small() -> LogSettings {
    LogSettings {
        volume_bytes_max: 1,
        index_tail_max: 16,
        reserve_bytes: 0,
        store_bytes: 0,
        journal_bytes: 32 << 10,
        seal: false,
        ..LogSettings::default()
    }
}

pub fn open(path: &Path, settings: LogSettings) -> (SledLog, DataDir) {
    let dir = DataDir::open(
        path,
        OpenOptions {
            create: true,
            ..OpenOptions::default()
        },
    )
    .unwrap();
    (SledLog::open(&dir, settings).unwrap(), dir)
}

/// A sled log that goes with its directory.
pub struct TempLog {
    log: SledLog,
    _held: DataDir,
    _dir: tempfile::TempDir,
}

impl TempLog {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = LogSettings {
            index_tail_max: 50,
            reserve_bytes: 0,
            store_bytes: 0,
            journal_bytes: 32 << 10,
            ..LogSettings::default()
        };
        let (log, held) = open(dir.path(), settings);
        Self {
            log,
            _held: held,
            _dir: dir,
        }
    }
}

impl std::ops::Deref for TempLog {
    type Target = SledLog;

    fn deref(&self) -> &SledLog {
        &self.log
    }
}

/// Copies a directory as it stands: what a kill leaves of a log that is open.
pub fn copy_tree(from: &Path, to: &Path) {
    let entries = match std::fs::read_dir(from) {
        Ok(entries) => entries,
        // What sealing replaced goes when its last reader lets go of it, which may be this moment.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        Err(error) => panic!("{}: {error}", from.display()),
    };
    std::fs::create_dir_all(to).unwrap();
    for entry in entries {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else if let Err(error) = std::fs::copy(entry.path(), target) {
            // The index is derived, and its files may go while it is written behind.
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        }
    }
}

/// A log of 60 blocks in one volume, closed.
pub fn written() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (log, _held) = open(
        dir.path(),
        LogSettings {
            volume_bytes_max: 64 << 20,
            ..small()
        },
    );
    for i in 0..60 {
        append(&log, &format!("a/{}", i % 5), &["some text", "more text"]).unwrap();
    }
    dir
}

/// Opens and verifies; positions that are named.
pub fn problems(dir: &Path) -> Vec<u64> {
    let held = DataDir::open(dir, OpenOptions::default()).unwrap();
    match SledLog::open(
        &held,
        LogSettings {
            volume_bytes_max: 64 << 20,
            ..small()
        },
    ) {
        Ok(log) => log
            .verify(&mut |_| ())
            .unwrap()
            .problems
            .iter()
            .map(|problem| problem.position.get())
            .collect(),
        Err(OpenError::Damaged { position, .. }) => vec![position.get()],
        Err(other) => panic!("{other}"),
    }
}

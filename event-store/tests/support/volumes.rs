//! Closed volumes to be damaged: a log of many small ones, and where their files are.

#![allow(unreachable_pub, reason = "the suites are crates of their own")]
#![allow(dead_code, reason = "each suite uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use crate::support::{event, open, run, small, stream};
use annals_core::*;
use annals_event_store::LogSettings;
use std::fs;
use std::path::{Path, PathBuf};

/// How many appends there are, and events in each.
const APPENDS: u64 = 12;
const EACH: u64 = 10;
/// How many events there are.
pub const EVENTS: u64 = APPENDS * EACH;

/// One volume for each append, which stays by itself.
pub fn settings() -> LogSettings {
    LogSettings {
        sealed_bytes_max: 0,
        ..small()
    }
}

/// A log of many small volumes, sealed if asked for and closed in order. Each event has a tag and an id of its own.
pub fn written(sealed: bool) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (log, _held) = open(dir.path(), settings());
    for number in 0..APPENDS {
        let tagged = |number: u64| {
            let mut event = event(&format!("event {number}"));
            event.tags = vec![Tag::new("number", number).unwrap()];
            event.id = Some(EventId::parse(&format!("event-{number}")).unwrap());
            event
        };
        let events = (number * EACH + 1..=(number + 1) * EACH).map(tagged).collect();
        run(log.append(Append::new(stream(&format!("a/{number}")), events))).unwrap();
        log.settle().unwrap();
    }
    if sealed {
        log.seal_now().unwrap();
    }
    log.close();
    drop(log);
    dir
}

/// Files of closed volumes of a kind, in the order of their positions.
pub fn volumes(dir: &Path, sealed: bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("log")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with('0') && (name.ends_with(".blocks") == sealed)
    });
    paths.sort_unstable();
    if !sealed {
        paths.pop();
        paths.iter_mut().for_each(|path| path.push("db"));
    }
    paths
}

/// First position of the volume that a file is of.
pub fn first_of(volume: &Path) -> u64 {
    let mut names = volume.iter().filter_map(|name| name.to_str());
    let name = names.rfind(|name| name.starts_with("00")).unwrap();
    name[..20].parse().unwrap()
}

//! Salvages what was damaged: every block whose bytes were not touched is in the new log or in the rest, and nothing else is.

use crate::copy::Files;
use crate::place::Place;
use crate::written::settings;
use annals_core::*;
use annals_event_store::{DataDir, FRAME_HEADER_LEN, OpenOptions, Salvage, SledLog, decode_frame};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Where a block stands: file, first byte and the one behind the last.
type Range = (PathBuf, u64, u64);

/// What was written: each event's checksum, and where in the files it stands.
pub struct Written {
    events: BTreeMap<u64, u32>,
    /// For each event the places that it can be read from, each of one block or of all the parts of one.
    places: BTreeMap<u64, Vec<Vec<Range>>>,
}

impl Written {
    /// Reads a log that is whole; `files` are its files.
    pub fn of(dir: &Path, files: &Files) -> Self {
        let held = DataDir::open(dir, OpenOptions::default()).unwrap();
        let log = SledLog::open(&held, settings(9 << 20)).unwrap();
        let mut places: BTreeMap<u64, Vec<Vec<Range>>> = BTreeMap::new();
        for (path, contents) in files.iter().filter(|(path, _)| path.starts_with("log")) {
            let Some((_, pieces)) = contents else { continue };
            for (start, bytes) in pieces {
                blocks(path, *start, bytes, &mut places);
            }
        }
        let events = events(&log);
        assert_eq!(events.len(), places.len(), "a block was not found in the files");
        Self { events, places }
    }

    /// Positions that stand somewhere in bytes that were not touched.
    fn untouched(&self, place: &Place, len: u64) -> BTreeSet<u64> {
        let (file, from, to) = place.touched(len);
        let whole = |(path, first, end): &Range| path != file || *end <= from || *first >= to;
        let held = self
            .places
            .iter()
            .filter(|(_, copies)| copies.iter().any(|parts| parts.iter().all(whole)));
        held.map(|(position, _)| *position).collect()
    }
}

/// The blocks in a piece of a file. The parts of a record follow each other in the order of their keys, if not in that of their
/// places: only a record whose parts are all in this piece is counted.
fn blocks(path: &Path, start: u64, bytes: &[u8], places: &mut BTreeMap<u64, Vec<Vec<Range>>>) {
    let mut parts: BTreeMap<(u64, u64), BTreeMap<u16, Range>> = BTreeMap::new();
    let mut at = 0;
    while at + FRAME_HEADER_LEN <= bytes.len() {
        let Ok((meta, _, used)) = decode_frame(&bytes[at..]) else {
            at += 1;
            continue;
        };
        let range = (path.to_owned(), start + at as u64, start + (at + used) as u64);
        at += used;
        if meta.parts <= 1 {
            for position in (0..u64::from(meta.count)).map(|more| meta.first.plus(more).get()) {
                places.entry(position).or_default().push(vec![range.clone()]);
            }
            continue;
        }
        let found = parts.entry((meta.first.get(), meta.boot)).or_default();
        found.insert(meta.part, range);
        if found.len() == usize::from(meta.parts) {
            places
                .entry(meta.first.get())
                .or_default()
                .push(found.values().cloned().collect());
        }
    }
}

fn checksum(record: &RecordRef<'_>) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(record.header_bytes), record.payload)
}

fn events(log: &SledLog) -> BTreeMap<u64, u32> {
    let (mut events, mut after) = (BTreeMap::new(), Position::ZERO);
    loop {
        let blocks = log.read(after, 1 << 20).unwrap();
        let Some(last) = blocks.last() else { return events };
        after = last.last();
        for record in blocks.iter().flat_map(Block::iter).map(Result::unwrap) {
            events.insert(record.position.get(), checksum(&record));
        }
    }
}

/// Salvages a damaged directory; what is wrong with what comes of it.
pub fn check(dir: &Path, written: &Written, place: &Place, len: u64) -> Result<(), String> {
    let new = dir.with_extension("salvaged");
    let salvage = Salvage::of(dir, &mut |_, _| ()).map_err(|error| format!("salvage: {error}"))?;
    let summary = salvage
        .write(&new, &mut |_| ())
        .map_err(|error| format!("salvage: {error}"))?;
    let mut found = {
        let held = DataDir::open(&new, OpenOptions::default()).unwrap();
        let log = SledLog::open(&held, settings(9 << 20)).map_err(|error| format!("the new log: {error}"))?;
        assert_eq!(log.epoch(), summary.epoch);
        let problems = log.verify(&mut |_| ()).unwrap().problems;
        if !problems.is_empty() {
            return Err(format!("the new log: {problems:?}"));
        }
        events(&log)
    };
    std::fs::remove_dir_all(new).unwrap();
    let take = |record: &RecordRef<'_>| {
        found.insert(record.position.get(), checksum(record));
        Ok::<_, LogError>(())
    };
    salvage.rest(take).map_err(|error| format!("the rest: {error}"))?;
    if let Some((position, _)) = found
        .iter()
        .find(|(position, checksum)| written.events.get(position) != Some(checksum))
    {
        return Err(format!("salvage: position {position} is not what was written"));
    }
    let untouched = written.untouched(place, len);
    if let Some(lost) = untouched.iter().find(|position| !found.contains_key(position)) {
        return Err(format!("salvage: position {lost} was not touched, and is not there"));
    }
    let missing = written.events.keys().filter(|position| !found.contains_key(position));
    let named = |position: &u64| {
        let ranges = &salvage.found().missing;
        ranges
            .iter()
            .any(|(first, last)| (first.get()..=last.get()).contains(position))
    };
    match missing.copied().find(|position| !named(position)) {
        Some(silent) => Err(format!("salvage: position {silent} is missing, and nothing says so")),
        None => Ok(()),
    }
}

//! Checks everything that is stored: every block, gaplessness, stream versions, times, places in appends, and the index
//! against the log. Goes on after a problem, so that all of them are named.

use super::index::Entry;
use super::shared::Shared;
use super::stored::Stored;
use super::tail::{appended_hash, command_hash, id_hash};
use annals_core::{Block, LogError, PlaceInAppend, Position, RecordRef, Version};
use std::collections::HashMap;

/// Most problems that a report lists; further ones are counted.
const PROBLEMS_MAX: usize = 1000;

/// How far a verification is.
#[derive(Debug, Clone, Copy)]
pub struct VerifyProgress {
    /// Events checked.
    pub events: u64,
    /// Events there are.
    pub total: u64,
}

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyProblem {
    /// Where.
    pub position: Position,
    /// What.
    pub what: String,
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Events checked.
    pub events: u64,
    /// Blocks checked.
    pub blocks: u64,
    /// Volumes checked.
    pub volumes: u64,
    /// The log's head.
    pub head: Position,
    /// Streams found.
    pub streams: u64,
    /// How far the index has read.
    pub indexed: Position,
    /// Everything that does not hold, in the order found; at most 1,000 are listed.
    pub problems: Vec<VerifyProblem>,
    /// How many problems there are.
    pub problem_count: u64,
}

impl VerifyReport {
    fn problem(&mut self, position: Position, what: impl Into<String>) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(VerifyProblem {
                position,
                what: what.into(),
            });
        }
    }
}

/// Order-independent digest of facts, to compare two large sets without keeping either.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Digest {
    count: u64,
    sum: u64,
}

impl Digest {
    fn add(&mut self, bytes: &[u8], number: u64) {
        let mut mixed = number ^ 0x9e37_79b9_7f4a_7c15;
        for chunk in bytes.chunks(8) {
            let word = chunk.iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
            mixed = (mixed ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
            mixed ^= mixed >> 32;
        }
        self.count += 1;
        self.sum = self.sum.wrapping_add(mixed.wrapping_mul(0xc4ce_b9fe_1a85_ec53));
    }
}

#[derive(Default)]
struct Walk {
    report: VerifyReport,
    next: Position,
    recorded: i64,
    /// The append that is not complete yet, its stream's name hashed by the streams table.
    open: Option<(PlaceInAppend, String)>,
    gap: bool,
    streams: HashMap<Box<str>, (Version, Digest)>,
    commands: Digest,
    appended: Digest,
}

pub(super) fn verify(shared: &Shared, progress: &mut dyn FnMut(VerifyProgress)) -> Result<VerifyReport, LogError> {
    let head = shared.settle()?;
    let indexed = shared
        .index
        .checkpoint()?
        .map_or(Position::ZERO, |(_, position)| position);
    let mut walk = Walk {
        next: Position::new(1),
        ..Walk::default()
    };
    (walk.report.head, walk.report.indexed) = (head, indexed);
    let starts = shared.volumes.starts();
    for (at, start) in starts.iter().enumerate() {
        let end = starts.get(at + 1).map_or(head, |next| next.previous());
        match shared.volumes.containing(*start) {
            Ok((volume, _)) => walk.volume(&volume, end, &mut |events| {
                progress(VerifyProgress {
                    events,
                    total: head.get(),
                })
            }),
            Err(LogError::Damaged { position, detail }) => walk.report.problem(position, detail),
            Err(error) => return Err(error),
        }
        walk.name_gap_before(end.next());
        walk.report.volumes += 1;
    }
    if let Some((place, stream)) = walk.open.take() {
        walk.report.problem(
            head,
            format!("an append to {stream} ends at event {} of {}", place.index, place.count),
        );
    }
    walk.report.streams = walk.streams.len() as u64;
    check_index(shared, &mut walk)?;
    Ok(walk.report)
}

impl Walk {
    fn volume(&mut self, volume: &Stored, end: Position, progress: &mut dyn FnMut(u64)) {
        let mut from = self.next;
        while from <= end {
            let blocks = match volume.scan(from) {
                Ok(blocks) => blocks,
                Err(error) => return self.report.problem(from, error.to_string()),
            };
            let mut damaged_at = None;
            for block in blocks {
                match block {
                    Ok(block) if block.first() > end => return,
                    Ok(block) => self.block(&block),
                    Err(LogError::Damaged { position, detail }) => {
                        self.report.problem(position, detail);
                        damaged_at = Some(position);
                    }
                    Err(error) => self.report.problem(self.next, error.to_string()),
                }
                progress(self.report.events);
            }
            // Goes on behind a block that cannot be read; what it held is named as missing by the next one.
            match damaged_at.map(|position| volume.start_after(position)) {
                Some(Ok(Some(next))) => from = next,
                Some(Err(error)) => return self.report.problem(from, error.to_string()),
                Some(Ok(None)) | None => return,
            }
        }
    }

    /// Everything before `position` must have been seen.
    fn name_gap_before(&mut self, position: Position) {
        if self.next < position {
            let last = position.previous();
            let what = if self.next == last {
                "the event is missing".into()
            } else {
                format!("events up to {last} are missing")
            };
            self.report.problem(self.next, what);
            (self.gap, self.open) = (true, None);
        }
        self.next = self.next.max(position);
    }

    fn block(&mut self, block: &Block) {
        if block.first() < self.next {
            return self
                .report
                .problem(block.first(), "the position stands in the log twice");
        }
        self.name_gap_before(block.first());
        self.report.blocks += 1;
        for record in block.iter() {
            match record {
                Ok(record) => self.record(&record),
                Err(error) => self.report.problem(error.position, error.detail),
            }
            self.next = self.next.next();
        }
    }

    fn record(&mut self, record: &RecordRef<'_>) {
        let (header, position) = (&record.header, record.position);
        self.report.events += 1;
        if header.recorded < self.recorded {
            self.report
                .problem(position, "its recorded time is before that of the event before it");
        }
        self.recorded = self.recorded.max(header.recorded);
        self.place(record);
        let found = Version::new(header.version);
        let known = self
            .streams
            .get(header.stream)
            .map_or(Version::ZERO, |(version, _)| *version);
        // Behind a gap versions are missing too: that is said once, by the gap.
        if found != known.next() && !(self.gap && found > known) {
            let what = format!("stream {} goes from version {known} to {found}", header.stream);
            self.report.problem(position, what);
        }
        if !self.streams.contains_key(header.stream) {
            self.streams.insert(header.stream.into(), Default::default());
        }
        if let Some((version, digest)) = self.streams.get_mut(header.stream) {
            *version = found;
            if position <= self.report.indexed {
                digest.add(&found.get().to_be_bytes(), position.get());
            }
        }
        if position <= self.report.indexed {
            if let Some(key) = header.key {
                self.commands.add(&command_hash(header.stream, key), position.get());
            }
            if let Some(source) = header.source {
                self.appended.add(
                    &appended_hash(&header.id.to_owned(), header.stream, source),
                    position.get(),
                );
            }
        }
    }

    fn place(&mut self, record: &RecordRef<'_>) {
        let place = record.header.place;
        let follows = match &self.open {
            Some((before, stream)) => {
                place.index == before.index + 1 && place.count == before.count && record.header.stream == stream
            }
            None => place.index == 1 || self.gap,
        };
        if !follows {
            let what = format!(
                "event {} of {} of an append does not follow the event before it",
                place.index, place.count
            );
            self.report.problem(record.position, what);
        }
        self.open = (!place.is_last()).then(|| (place, record.header.stream.to_owned()));
    }
}

/// Compares digests first; only where they differ the entries are looked at one by one.
fn check_index(shared: &Shared, walk: &mut Walk) -> Result<(), LogError> {
    let mut found: HashMap<String, Digest> = HashMap::new();
    for chunk in shared.index.chunks() {
        let (stream, first, positions) = chunk?;
        let digest = found.entry(stream).or_default();
        // What the indexer writes meanwhile is not looked at.
        let settled = positions
            .into_iter()
            .take_while(|position| *position <= walk.report.indexed);
        for (position, version) in settled.zip(first.get()..) {
            digest.add(&version.to_be_bytes(), position.get());
        }
    }
    let mut wrong: Vec<String> = Vec::new();
    found.retain(|_, digest| digest.count > 0);
    for (stream, (_, expected)) in &walk.streams {
        if found.remove(stream.as_ref()).unwrap_or_default() != *expected {
            wrong.push(stream.to_string());
        }
    }
    wrong.extend(found.into_keys());
    wrong.sort_unstable();
    for stream in wrong {
        check_stream(shared, &stream, &mut walk.report)?;
    }
    check_entries(shared, walk)
}

/// Names the first lie in the index of a stream.
fn check_stream(shared: &Shared, stream: &str, report: &mut VerifyReport) -> Result<(), LogError> {
    let mut next = Version::new(1);
    let mut last = Position::ZERO;
    for chunk in shared.index.chunks() {
        let (name, first, positions) = chunk?;
        if name != stream {
            continue;
        }
        let settled = positions.into_iter().take_while(|position| *position <= report.indexed);
        for (position, version) in settled.zip(first.get()..) {
            let version = Version::new(version);
            if version != next {
                report.problem(
                    last,
                    format!("the index of stream {stream} goes on with version {version}, not {next}"),
                );
                return Ok(());
            }
            let record = shared.record(position).ok().flatten();
            let holds = record
                .as_ref()
                .and_then(|record| record.view().ok())
                .is_some_and(|record| record.header.stream == stream && record.header.version == version.get());
            if !holds {
                let what = format!("the index says that version {version} of stream {stream} is here, it is not");
                report.problem(position, what);
                return Ok(());
            }
            (next, last) = (next.next(), position);
        }
    }
    report.problem(
        last,
        format!(
            "the index of stream {stream} ends at version {}, the stream goes on",
            next.previous()
        ),
    );
    Ok(())
}

fn check_entries(shared: &Shared, walk: &mut Walk) -> Result<(), LogError> {
    let (mut commands, mut appended) = (Digest::default(), Digest::default());
    for entry in shared.index.entries() {
        let (kind, hash, position) = entry?;
        if position > walk.report.indexed {
            continue;
        }
        match kind {
            Entry::Command => commands.add(&hash, position.get()),
            Entry::Appended => appended.add(&hash, position.get()),
            Entry::Id => check_entry(shared, kind, &hash, position, &mut walk.report),
        }
    }
    for (kind, found, expected) in [
        (Entry::Command, commands, walk.commands),
        (Entry::Appended, appended, walk.appended),
    ] {
        if found == expected {
            continue;
        }
        for entry in shared.index.entries() {
            let (of, hash, position) = entry?;
            if of == kind && position <= walk.report.indexed {
                check_entry(shared, kind, &hash, position, &mut walk.report);
            }
        }
        if found.count != expected.count {
            let what = format!(
                "the index has {} entries for {kind:?}, the log {}",
                found.count, expected.count
            );
            walk.report.problem(walk.report.indexed, what);
        }
    }
    Ok(())
}

fn check_entry(shared: &Shared, kind: Entry, hash: &[u8], position: Position, report: &mut VerifyReport) {
    let record = shared.record(position).ok().flatten();
    let holds = record
        .as_ref()
        .and_then(|record| record.view().ok())
        .is_some_and(|record| {
            let header = &record.header;
            match kind {
                Entry::Command => header.key.is_some_and(|key| command_hash(header.stream, key) == hash),
                Entry::Id => id_hash(&header.id.to_owned()) == hash,
                Entry::Appended => header
                    .source
                    .is_some_and(|source| appended_hash(&header.id.to_owned(), header.stream, source) == hash),
            }
        });
    if !holds {
        report.problem(
            position,
            format!("the index says that this event is a {kind:?} that it is not"),
        );
    }
}

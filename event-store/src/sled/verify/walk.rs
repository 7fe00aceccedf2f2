//! Walks over one stretch of the log and checks all that can be said without the stretches before it. What depends on
//! them (how streams, times and appends go on from there) is handed on, see [`super::join`].

use super::digest::{ByStream, Digest, StreamKey, StreamKeys};
use super::{PROBLEMS_MAX, VerifyProblem};
use crate::sled::names::{appended_hash, command_hash};
use crate::sled::stored::Stored;
use annals_core::{Block, LogError, PlaceInAppend, Position, RecordRef};
use std::sync::atomic::{AtomicU64, Ordering};

/// Positions that one thread checks at once: they begin with a block and end with one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    pub(super) from: Position,
    pub(super) end: Position,
    /// Whether it begins a volume.
    pub(super) begins_volume: bool,
    /// Whether volumes were joined since the stretches were laid out: blocks may then begin before it or end behind it.
    pub(super) joined: bool,
}

/// Something that does not hold, as far as the stretch knows.
pub(super) struct Finding {
    pub(super) problem: VerifyProblem,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is one.
    Always,
    /// It is none behind a gap, which was named.
    UnlessGap,
    /// Events up to there are missing.
    MissingUpTo(Position),
}

/// How an append goes on at the end of a stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Open {
    /// As before the stretch: nothing was seen yet.
    Unknown,
    /// None is incomplete.
    None,
    /// The last event of one that is not complete yet.
    After(PlaceInAppend, StreamKey),
}

/// A stream within a stretch.
pub(super) struct Part {
    pub(super) first: u64,
    pub(super) first_at: Position,
    pub(super) after_gap: bool,
    pub(super) last: u64,
    pub(super) digest: Digest,
}

/// What a walk found.
pub(super) struct Walked {
    pub(super) stretch: Stretch,
    pub(super) blocks: u64,
    pub(super) events: u64,
    /// At most as many as a report lists.
    pub(super) findings: Vec<Finding>,
    /// How many more there are: for certain, and unless there was a gap.
    pub(super) more: [u64; 2],
    /// The position that follows what was seen.
    pub(super) next: Position,
    pub(super) gap: bool,
    /// First and last positions of events that could not be read, ascending. What the index knows of them cannot be checked.
    pub(super) unseen: Vec<(Position, Position)>,
    pub(super) first_recorded: Option<(Position, i64)>,
    pub(super) recorded: i64,
    pub(super) first_place: Option<(Position, PlaceInAppend, StreamKey)>,
    pub(super) open: Open,
    pub(super) streams: ByStream<Part>,
    pub(super) commands: Digest,
    pub(super) appended: Digest,
    pub(super) tags: Digest,
}

/// A walk under way.
pub(super) struct Walk<'a> {
    keys: &'a StreamKeys,
    indexed: Position,
    /// Events that all walks have seen.
    seen: &'a AtomicU64,
    found: Walked,
}

impl<'a> Walk<'a> {
    pub(super) fn new(stretch: Stretch, indexed: Position, keys: &'a StreamKeys, seen: &'a AtomicU64) -> Self {
        let found = Walked {
            stretch,
            blocks: 0,
            events: 0,
            findings: Vec::new(),
            more: [0; 2],
            next: stretch.from,
            gap: false,
            unseen: Vec::new(),
            first_recorded: None,
            recorded: i64::MIN,
            first_place: None,
            open: Open::Unknown,
            streams: ByStream::default(),
            commands: Digest::default(),
            appended: Digest::default(),
            tags: Digest::default(),
        };
        Self {
            keys,
            indexed,
            seen,
            found,
        }
    }

    /// Checks the stretch in its volume, or names that the volume cannot be read.
    pub(super) fn over(mut self, volume: Result<&Stored, (Position, String)>) -> Walked {
        match volume {
            Ok(volume) => self.volume(volume),
            Err((position, detail)) => {
                let (from, end) = (self.found.stretch.from, self.found.stretch.end);
                self.problem(position, format!("{detail}; {}", missing(from, end)), Kind::Always);
                self.pass_over(end);
            }
        }
        self.name_gap_before(self.found.stretch.end.next());
        self.found
    }

    /// Goes on behind events that cannot be read.
    fn pass_over(&mut self, last: Position) {
        self.found.unseen.push((self.found.next, last));
        (self.found.gap, self.found.open) = (true, Open::None);
        self.found.next = last.next();
    }

    fn problem(&mut self, position: Position, what: impl Into<String>, kind: Kind) {
        if self.found.findings.len() < PROBLEMS_MAX {
            let what = what.into();
            let problem = VerifyProblem { position, what };
            self.found.findings.push(Finding { problem, kind });
        } else {
            self.found.more[usize::from(kind == Kind::UnlessGap)] += 1;
        }
    }

    fn volume(&mut self, volume: &Stored) {
        let (mut from, end) = (self.found.stretch.from, self.found.stretch.end);
        while from <= end {
            let blocks = match volume.scan(from) {
                Ok(blocks) => blocks,
                Err(error) => return self.problem(from, error.to_string(), Kind::Always),
            };
            let mut damaged_at = None;
            for block in blocks {
                match block {
                    Ok(block) if block.first() > end => return,
                    Ok(block) if self.found.stretch.joined => self.part_of(&block),
                    Ok(block) => self.block(&block),
                    // It belongs to the next stretch, which comes upon it, too.
                    Err(LogError::Damaged { position, .. }) if position > end => return,
                    Err(LogError::Damaged { position, detail }) => {
                        self.problem(position, detail, Kind::Always);
                        damaged_at = Some(position);
                    }
                    Err(error) => self.problem(self.found.next, error.to_string(), Kind::Always),
                }
            }
            // Goes on behind a block that cannot be read; what it held is named as missing by the next one.
            match damaged_at.map(|position| volume.start_after(position)) {
                Some(Ok(Some(next))) => from = next,
                Some(Err(error)) => return self.problem(from, error.to_string(), Kind::Always),
                Some(Ok(None)) | None => return,
            }
        }
    }

    /// Of a block that two stretches share, what is of this one.
    fn part_of(&mut self, block: &Block) {
        let (from, end) = (self.found.stretch.from, self.found.stretch.end);
        if block.first() >= from && block.last() <= end {
            return self.block(block);
        }
        match block.clip(from.previous(), end) {
            Ok(part) if part.count() > 0 => self.block(&part),
            Ok(_) => {}
            Err(error) => self.problem(error.position, error.detail, Kind::Always),
        }
    }

    /// Everything before `position` must have been seen.
    fn name_gap_before(&mut self, position: Position) {
        let next = self.found.next;
        if next < position {
            let last = position.previous();
            self.problem(next, missing(next, last), Kind::MissingUpTo(last));
            self.pass_over(last);
        }
        self.found.next = next.max(position);
    }

    fn block(&mut self, block: &Block) {
        if block.first() < self.found.next {
            return self.problem(block.first(), TWICE, Kind::Always);
        }
        self.name_gap_before(block.first());
        self.found.blocks += 1;
        for record in block.iter() {
            match record {
                Ok(record) => self.record(&record),
                Err(error) => {
                    self.problem(error.position, error.detail, Kind::Always);
                    self.found.unseen.push((error.position, error.position));
                }
            }
            self.found.next = self.found.next.next();
        }
        self.seen.fetch_add(block.count(), Ordering::Relaxed);
    }

    fn record(&mut self, record: &RecordRef<'_>) {
        let (header, position) = (&record.header, record.position);
        self.found.events += 1;
        if self.found.first_recorded.is_none() {
            self.found.first_recorded = Some((position, header.recorded));
        } else if header.recorded < self.found.recorded {
            self.problem(position, BACKWARDS, Kind::Always);
        }
        self.found.recorded = self.found.recorded.max(header.recorded);
        let key = self.keys.of(header.stream);
        self.place(position, header.place, key);
        let gap = self.found.gap;
        let part = self.found.streams.entry(key).or_insert(Part {
            first: header.version,
            first_at: position,
            after_gap: gap,
            last: header.version.wrapping_sub(1),
            digest: Digest::default(),
        });
        let known = std::mem::replace(&mut part.last, header.version);
        if position <= self.indexed {
            part.digest.add_number(header.version, position.get());
            if let Some(key) = header.key {
                let hash = command_hash(header.stream, key);
                self.found.commands.add(&hash, position.get());
            }
            for (at, tag) in header.tags.iter().enumerate() {
                // An event that has a tag twice is found once.
                if !header.tags[..at].contains(tag) {
                    self.found.tags.add(tag.as_bytes(), position.get());
                }
            }
            if let Some(source) = header.source {
                let hash = appended_hash(&header.id.to_owned(), header.stream, source);
                self.found.appended.add(&hash, position.get());
            }
        }
        if header.version != known.wrapping_add(1) && !(gap && header.version > known) {
            // Behind a gap versions are missing too: that is said once, by the gap.
            let kind = if header.version > known {
                Kind::UnlessGap
            } else {
                Kind::Always
            };
            self.problem(position, jump(header.stream, known, header.version), kind);
        }
    }

    fn place(&mut self, position: Position, place: PlaceInAppend, key: StreamKey) {
        match self.found.open {
            Open::Unknown => self.found.first_place = Some((position, place, key)),
            open => {
                if let Some(kind) =
                    out_of_place(open, place, key).filter(|kind| *kind == Kind::Always || !self.found.gap)
                {
                    self.problem(position, does_not_follow(place), kind);
                }
            }
        }
        self.found.open = if place.is_last() {
            Open::None
        } else {
            Open::After(place, key)
        };
    }
}

pub(super) const TWICE: &str = "the position stands in the log twice";
pub(super) const BACKWARDS: &str = "its recorded time is before that of the event before it";

/// What kind of problem it is if an event with this place follows; `None` if it may.
pub(super) fn out_of_place(open: Open, place: PlaceInAppend, key: StreamKey) -> Option<Kind> {
    match open {
        Open::After(before, stream) => {
            let follows = place.index == before.index + 1 && place.count == before.count && key == stream;
            (!follows).then_some(Kind::Always)
        }
        Open::None | Open::Unknown => (place.index != 1).then_some(Kind::UnlessGap),
    }
}

pub(super) fn does_not_follow(place: PlaceInAppend) -> String {
    format!(
        "event {} of {} of an append does not follow the event before it",
        place.index, place.count
    )
}

pub(super) fn jump(stream: &str, known: u64, found: u64) -> String {
    format!("stream {stream} goes from version {known} to {found}")
}

pub(super) fn missing(first: Position, last: Position) -> String {
    if first == last {
        "the event is missing".into()
    } else {
        format!("events up to {last} are missing")
    }
}

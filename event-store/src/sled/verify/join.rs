//! Joins what the stretches found, in the order of the log: how streams, times and appends go on from one to the next.

use super::digest::{ByStream, Digest};
use super::walk::{self, Finding, Kind, Open, Walked};
use super::{PROBLEMS_MAX, VerifyProblem, VerifyReport};
use crate::sled::shared::Shared;
use annals_core::{PlaceInAppend, Position};

/// A stream as far as it was joined, and as far as the index knows it.
#[derive(Default)]
pub(super) struct Known {
    pub(super) last: u64,
    pub(super) log: Digest,
    pub(super) index: Digest,
}

/// Everything up to a position.
pub(super) struct Joined<'a> {
    shared: &'a Shared,
    pub(super) report: VerifyReport,
    next: Position,
    gap: bool,
    /// The gap that was named last.
    missing: Option<(Position, Position)>,
    /// First and last positions of what could not be read, ascending.
    unseen: Vec<(Position, Position)>,
    recorded: i64,
    open: Open,
    pub(super) streams: ByStream<Known>,
    pub(super) commands: Digest,
    pub(super) appended: Digest,
    pub(super) tags: Digest,
}

impl VerifyReport {
    pub(super) fn problem(&mut self, position: Position, what: impl Into<String>) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_MAX {
            let what = what.into();
            self.problems.push(VerifyProblem { position, what });
        }
    }
}

impl<'a> Joined<'a> {
    pub(super) fn new(shared: &'a Shared, report: VerifyReport) -> Self {
        Self {
            shared,
            report,
            next: Position::new(1),
            gap: false,
            missing: None,
            unseen: Vec::new(),
            recorded: i64::MIN,
            open: Open::None,
            streams: ByStream::default(),
            commands: Digest::default(),
            appended: Digest::default(),
            tags: Digest::default(),
        }
    }

    /// Adds the stretch that follows.
    pub(super) fn add(&mut self, mut walked: Walked) {
        let mut findings = std::mem::take(&mut walked.findings);
        self.go_on(&walked, &mut findings);
        self.streams_go_on(&mut walked, &mut findings);
        findings.retain(|finding| !(self.gap && finding.kind == Kind::UnlessGap));
        findings.sort_by_key(|finding| finding.problem.position);
        for finding in findings {
            self.name(finding, walked.stretch.begins_volume);
        }
        let [more, unless_gap] = walked.more;
        self.report.problem_count += more + if self.gap { 0 } else { unless_gap };
        self.report.events += walked.events;
        self.report.blocks += walked.blocks;
        self.commands.join(walked.commands);
        self.appended.join(walked.appended);
        self.tags.join(walked.tags);
        self.recorded = self.recorded.max(walked.recorded);
        self.gap |= walked.gap;
        self.unseen.append(&mut walked.unseen);
        self.next = self.next.max(walked.next);
        if walked.open != Open::Unknown {
            self.open = walked.open;
        }
    }

    /// What could not be read and begins at or before a position, the last of it.
    fn unseen_before(&self, position: Position) -> Option<(Position, Position)> {
        let before = self.unseen.partition_point(|(first, _)| *first <= position);
        self.unseen.get(before.checked_sub(1)?).copied()
    }

    /// Whether the event at a position was read, so that what the index says of it can be checked.
    pub(super) fn was_seen(&self, position: Position) -> bool {
        let before = self.unseen_before(position);
        position <= self.report.indexed && before.is_none_or(|(_, last)| last < position)
    }

    /// The position, or the last one of what could not be read there.
    pub(super) fn seen_after(&self, position: Position) -> Position {
        self.unseen_before(position)
            .map_or(position, |(_, last)| last.max(position))
    }

    fn go_on(&self, walked: &Walked, findings: &mut Vec<Finding>) {
        let mut find = |position, what: String, kind| {
            let problem = VerifyProblem { position, what };
            findings.push(Finding { problem, kind });
        };
        if walked.stretch.from < self.next {
            find(walked.stretch.from, walk::TWICE.to_owned(), Kind::Always);
        }
        if let Some((position, _)) = walked.first_recorded.filter(|(_, first)| *first < self.recorded) {
            find(position, walk::BACKWARDS.to_owned(), Kind::Always);
        }
        if let Some((position, place, key)) = walked.first_place
            && let Some(kind) = walk::out_of_place(self.open, place, key)
        {
            find(position, walk::does_not_follow(place), kind);
        }
    }

    fn streams_go_on(&mut self, walked: &mut Walked, findings: &mut Vec<Finding>) {
        let gap = self.gap;
        for (key, part) in walked.streams.drain() {
            let known = self.streams.entry(key).or_default();
            let follows =
                part.first == known.last.saturating_add(1) || ((gap || part.after_gap) && part.first > known.last);
            if !follows {
                let stream = stream_at(self.shared, part.first_at);
                let problem = VerifyProblem {
                    position: part.first_at,
                    what: walk::jump(&stream, known.last, part.first),
                };
                let kind = Kind::Always;
                findings.push(Finding { problem, kind });
            }
            known.last = part.last;
            known.log.join(part.digest);
        }
    }

    /// Puts a finding into the report. What is missing on both sides of a seam within a volume is one gap.
    fn name(&mut self, finding: Finding, begins_volume: bool) {
        let VerifyProblem { position, what } = finding.problem;
        let Kind::MissingUpTo(last) = finding.kind else {
            return self.report.problem(position, what);
        };
        let before = self
            .missing
            .filter(|(_, before)| !begins_volume && before.next() == position);
        let named = before.and_then(|(first, before)| {
            let (what, mut problems) = (walk::missing(first, before), self.report.problems.iter_mut().rev());
            let named = problems.find(|problem| problem.position == first && problem.what == what)?;
            named.what = walk::missing(first, last);
            Some(first)
        });
        self.missing = Some((named.unwrap_or(position), last));
        if named.is_none() {
            self.report.problem(position, what);
        }
    }

    /// After the last stretch: an append must not be left open.
    pub(super) fn finish(&mut self) {
        self.report.streams = self.streams.len() as u64;
        if let Open::After(PlaceInAppend { index, count }, _) = self.open {
            let head = self.report.head;
            let stream = stream_at(self.shared, head);
            self.report
                .problem(head, format!("an append to {stream} ends at event {index} of {count}"));
        }
    }
}

/// Name of the stream whose event stands at a position, for what is said.
fn stream_at(shared: &Shared, position: Position) -> String {
    let record = shared.record(position).ok().flatten();
    let view = record.as_ref().and_then(|record| record.view().ok());
    view.map_or_else(
        || "that cannot be read".to_owned(),
        |view| view.header.stream.to_owned(),
    )
}

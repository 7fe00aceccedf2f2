//! Which of the frames that were found tell the log's history: of two at one position the one of the current epoch,
//! then of the higher boot.
//!
//! Boots rise along the positions that one writer wrote. So what an earlier boot left at later positions is stale: a
//! later opening had dropped it, and it must not come back behind what was written since.

use super::scan::RawFrame;
use annals_core::{Epoch, Position};
use std::collections::HashMap;

/// Most records in a block: 60 KiB of records of a few bytes.
const COUNT_MAX: u64 = 16 * 1024;

/// Whether a frame is of the current epoch, and its boot: what is greater was written later.
type Rank = (bool, u64);

/// Frames in the order of their positions, each once.
pub(crate) struct FrameSet {
    epoch: Option<Epoch>,
    frames: Vec<RawFrame>,
}

impl FrameSet {
    /// Sorts what a scan found. `epoch` is the log's; frames of a boot after `boot_max` were not written by this log.
    pub(crate) fn new(mut frames: Vec<RawFrame>, epoch: Option<Epoch>, boot_max: u64) -> Self {
        let rank = |frame: &RawFrame| rank(epoch, frame);
        let makes_sense = |frame: &RawFrame| {
            let meta = &frame.meta;
            let boot_known = epoch != Some(meta.epoch) || meta.boot <= boot_max;
            let in_bounds = meta.first > Position::ZERO && meta.first.get() < u64::MAX - COUNT_MAX;
            let parts = meta.part < meta.parts.max(1) && (meta.parts <= 1 || meta.count == 1);
            boot_known && in_bounds && parts && meta.count > 0 && u64::from(meta.count) <= COUNT_MAX
        };
        frames.retain(makes_sense);
        // Of one boot there are never two at one position; if there were, the shorter one is what was kept of the other.
        frames.sort_by(|a, b| {
            let place = |frame: &RawFrame| (frame.meta.first, frame.meta.part);
            place(a)
                .cmp(&place(b))
                .then(rank(b).cmp(&rank(a)))
                .then(a.meta.count.cmp(&b.meta.count))
                .then((a.crc, a.lineage, a.file).cmp(&(b.crc, b.lineage, b.file)))
        });
        // Rewritten leaves of the engine leave copies behind.
        frames.dedup_by(|a, b| a.meta == b.meta && a.crc == b.crc && a.lineage == b.lineage);
        frames.shrink_to_fit();
        Self { epoch, frames }
    }

    /// The last position of any frame of the log's epoch; zero if there is none.
    pub(crate) fn last(&self) -> Position {
        let ours = self
            .frames
            .iter()
            .filter(|frame| self.epoch.is_none_or(|epoch| epoch == frame.meta.epoch));
        ours.map(RawFrame::last).max().unwrap_or(Position::ZERO)
    }

    fn starting_at(&self, first: Position, part: u16) -> &[RawFrame] {
        let place = |frame: &RawFrame| (frame.meta.first, frame.meta.part);
        let begin = self.frames.partition_point(|frame| place(frame) < (first, part));
        let len = self.frames[begin..].partition_point(|frame| place(frame) == (first, part));
        &self.frames[begin..begin + len]
    }

    /// All parts of the block that begins with `frame`, if they are there.
    fn parts(&self, frame: &RawFrame) -> Option<Vec<RawFrame>> {
        let mut parts = vec![*frame];
        for part in 1..frame.meta.parts {
            let meta = crate::frame::FrameMeta { part, ..frame.meta };
            let further = self.starting_at(frame.meta.first, part);
            parts.push(*further.iter().find(|further| further.meta == meta)?);
        }
        Some(parts)
    }
}

fn rank(epoch: Option<Epoch>, frame: &RawFrame) -> Rank {
    (epoch == Some(frame.meta.epoch), frame.meta.boot)
}

/// A block that was chosen: the records from `from` on of the frames, which are the parts of one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) from: Position,
    pub(crate) frames: Vec<RawFrame>,
    /// Whether its hands had written later blocks already for positions before it, or another one should stand there.
    pub(crate) stale: bool,
}

impl Choice {
    /// Position of the last record.
    pub(crate) fn last(&self) -> Position {
        self.frames.first().map_or(self.from.previous(), RawFrame::last)
    }
}

/// Walks through positions and chooses the block for each.
pub(crate) struct Chooser<'a> {
    set: &'a FrameSet,
    next: Position,
    /// How far each lineage's boots have come.
    ranks: HashMap<u16, Rank>,
    lineage: Option<u16>,
}

impl<'a> Chooser<'a> {
    pub(crate) fn new(set: &'a FrameSet, from: Position) -> Self {
        Self {
            set,
            next: from,
            ranks: HashMap::new(),
            lineage: None,
        }
    }

    /// The block that goes on at the next position; `None` if there is a gap.
    pub(crate) fn choose(&mut self) -> Option<Choice> {
        let here = self.set.starting_at(self.next, 0);
        let chosen = here
            .iter()
            .find_map(|frame| self.acceptable(frame))
            .or_else(|| self.overlapping())?;
        Some(self.take(chosen))
    }

    /// The next block there is for positions from here on, behind a gap if need be; `None` at the end. Stale blocks count
    /// here: whether they are to be believed shows what comes behind them.
    pub(crate) fn any(&mut self) -> Option<Choice> {
        loop {
            if let Some(choice) = self.choose().or_else(|| self.fill()) {
                return Some(choice);
            }
            if !self.skip_gap() {
                return None;
            }
        }
    }

    /// Where nothing goes on, the latest of all blocks that hold the next position.
    fn fill(&mut self) -> Option<Choice> {
        let holds = self.before_next().iter().chain(self.set.starting_at(self.next, 0));
        let holds = holds.filter(|frame| frame.meta.part == 0 && frame.last() >= self.next);
        let whole = holds.filter_map(|frame| Some((self.rank(frame), self.set.parts(frame)?)));
        let (_, frames) = whole.max_by_key(|(rank, _)| *rank)?;
        let (from, stale) = (self.next, true);
        let choice = Choice { from, frames, stale };
        self.next = choice.last().next();
        Some(choice)
    }

    /// Moves on to the next position at which a block begins. False if there is none.
    fn skip_gap(&mut self) -> bool {
        let after = self.set.frames.partition_point(|frame| frame.meta.first <= self.next);
        let next = self.set.frames[after..]
            .iter()
            .find(|frame| frame.meta.part == 0 && self.set.parts(frame).is_some());
        if let Some(frame) = next {
            self.next = frame.meta.first;
            self.lineage = None;
        }
        next.is_some()
    }

    /// A block of another lineage that began before the next position and holds it. Blocks of one lineage overlap only
    /// where one is stale.
    fn overlapping(&self) -> Option<Vec<RawFrame>> {
        let lineage = self.lineage?;
        let holds = |frame: &&RawFrame| frame.meta.part == 0 && frame.lineage != lineage && frame.last() >= self.next;
        let best = self
            .before_next()
            .iter()
            .filter(holds)
            .max_by_key(|frame| rank(self.set.epoch, frame))?;
        self.acceptable(best)
    }

    /// Frames that begin before the next position, as far back as one can that holds it.
    fn before_next(&self) -> &'a [RawFrame] {
        let frames = &self.set.frames;
        let from = Position::new(self.next.get().saturating_sub(COUNT_MAX));
        let begin = frames.partition_point(|frame| frame.meta.first < from);
        let end = frames.partition_point(|frame| frame.meta.first < self.next);
        &frames[begin..end]
    }

    fn acceptable(&self, frame: &RawFrame) -> Option<Vec<RawFrame>> {
        let stale = self
            .ranks
            .get(&frame.lineage)
            .is_some_and(|rank| *rank > self.rank(frame));
        if stale { None } else { self.set.parts(frame) }
    }

    fn rank(&self, frame: &RawFrame) -> Rank {
        rank(self.set.epoch, frame)
    }

    fn take(&mut self, frames: Vec<RawFrame>) -> Choice {
        let from = self.next;
        if let Some(frame) = frames.first() {
            self.ranks.insert(frame.lineage, self.rank(frame));
            self.lineage = Some(frame.lineage);
        }
        let stale = false;
        let choice = Choice { from, frames, stale };
        self.next = choice.last().next();
        choice
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::FrameMeta;

    const NOW: Epoch = Epoch::from_bytes([9; 16]);

    fn frame(boot: u64, first: u64, count: u32) -> RawFrame {
        RawFrame {
            meta: FrameMeta {
                epoch: NOW,
                boot,
                first: Position::new(first),
                count,
                part: 0,
                parts: 1,
            },
            at: 0,
            len: 100,
            crc: boot as u32,
            file: 0,
            lineage: 0,
        }
    }

    fn told(choice: &Choice) -> (u64, u64, u64) {
        (choice.frames[0].meta.boot, choice.from.get(), choice.last().get())
    }

    /// What is chosen up to the first gap: boot, first and last position of each block.
    fn chosen(frames: &[RawFrame]) -> Vec<(u64, u64, u64)> {
        let set = FrameSet::new(frames.to_vec(), Some(NOW), 5);
        let mut chooser = Chooser::new(&set, Position::new(1));
        std::iter::from_fn(|| chooser.choose())
            .map(|choice| told(&choice))
            .collect()
    }

    /// All there is, and which of it is stale.
    fn all(frames: &[RawFrame]) -> Vec<((u64, u64, u64), bool)> {
        let set = FrameSet::new(frames.to_vec(), Some(NOW), 5);
        let mut chooser = Chooser::new(&set, Position::new(1));
        let any = std::iter::from_fn(|| chooser.any());
        any.map(|choice| (told(&choice), choice.stale)).collect()
    }

    #[test]
    fn the_higher_boot_wins_and_what_it_left_of_an_older_one_is_stale() {
        // Boot 2 dropped 4 to 9 and wrote 4 and 5 anew; of boot 1 there are also 6 to 9, in a block that fits.
        let frames = [
            frame(1, 1, 3),
            frame(1, 4, 2),
            frame(1, 6, 4),
            frame(2, 4, 2),
            frame(1, 1, 3),
        ];
        assert_eq!(chosen(&frames), [(1, 1, 3), (2, 4, 5)]);
        assert_eq!(all(&frames)[1..], [((2, 4, 5), false), ((1, 6, 9), true)]);
    }

    #[test]
    fn behind_a_gap_there_is_all_that_is_whole_and_what_is_of_an_earlier_boot_is_stale() {
        let frames = [frame(2, 1, 3), frame(1, 6, 1), frame(2, 8, 2), frame(3, 10, 1)];
        assert_eq!(chosen(&frames), [(2, 1, 3)]);
        let found = [(2, 1, 3), (1, 6, 6), (2, 8, 9), (3, 10, 10)];
        assert_eq!(all(&frames), found.map(|found| (found, found.0 == 1)));
    }

    #[test]
    fn a_longer_block_of_an_earlier_boot_fills_the_gap_that_a_damaged_one_leaves() {
        let frames = [frame(1, 1, 5), frame(2, 1, 2), frame(1, 6, 1), frame(2, 7, 3)];
        assert_eq!(
            all(&frames),
            [
                ((2, 1, 2), false),
                ((1, 3, 5), true),
                ((1, 6, 6), true),
                ((2, 7, 9), false)
            ]
        );
    }

    #[test]
    fn a_boot_that_has_not_been_yet_and_another_epoch_are_not_believed() {
        let mut other = frame(4, 1, 2);
        other.meta.epoch = Epoch::from_bytes([1; 16]);
        let frames = [frame(6, 1, 1), other, frame(1, 1, 3), frame(7, 4, 1)];
        assert_eq!(chosen(&frames), [(1, 1, 3)]);
    }

    #[test]
    fn a_record_in_parts_counts_only_when_all_of_them_are_there() {
        let part = |boot, part, parts| {
            let mut frame = frame(boot, 1, 1);
            (frame.meta.part, frame.meta.parts) = (part, parts);
            frame
        };
        let whole = [
            part(1, 0, 3),
            part(1, 2, 3),
            part(1, 1, 3),
            part(2, 0, 3),
            part(2, 1, 3),
        ];
        assert_eq!(chosen(&whole), [(1, 1, 1)]);
        assert_eq!(chosen(&whole[..2]), []);
    }

    #[test]
    fn a_rewritten_volume_and_the_old_one_fill_each_others_gaps() {
        let sealed = |boot, first, count| RawFrame {
            lineage: 1,
            ..frame(boot, first, count)
        };
        // The rewritten volume has larger blocks, and 11 to 20 of it is damaged.
        let frames = [
            sealed(5, 1, 10),
            sealed(5, 21, 10),
            frame(1, 1, 8),
            frame(1, 9, 4),
            frame(2, 13, 10),
            frame(1, 13, 2),
        ];
        assert_eq!(chosen(&frames), [(5, 1, 10), (1, 11, 12), (2, 13, 22), (5, 23, 30)]);
    }
}

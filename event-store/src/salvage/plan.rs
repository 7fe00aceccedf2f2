//! What a new log can be made of: the blocks that follow each other from the first position on, and what stands behind a gap.

use super::choose::{Choice, Chooser, FrameSet};
use super::raw::RawFiles;
use crate::backup::Checker;
use crate::block_file::Repack;
use annals_core::{Block, LogError, PlaceInAppend, Position, RecordRef};
use std::collections::VecDeque;

/// The blocks that were found, and what becomes of them.
#[derive(Debug)]
pub(super) struct Plan {
    /// In the order of their positions.
    choices: Vec<Choice>,
    /// Up to here they follow each other, in whole appends.
    pub(super) end: Position,
    /// How many events stand behind that.
    pub(super) behind: u64,
    /// First and last positions of what is nowhere.
    pub(super) missing: Vec<(Position, Position)>,
    /// Why the log ends where it does although there are further events, unless the next one is missing.
    pub(super) unfit: Option<String>,
}

impl Plan {
    /// Reads all blocks in the order of their positions. `known` is the least position that there must have been.
    pub(super) fn new(
        files: &RawFiles,
        set: &FrameSet,
        known: Position,
        progress: &mut dyn FnMut(Position),
    ) -> Result<Self, LogError> {
        let mut walk = Walk {
            known,
            ..Walk::default()
        };
        let mut chooser = Chooser::new(set, Position::new(1));
        while let Some(choice) = chooser.any() {
            let block = match clipped(files, &choice, choice.last()) {
                Err(error @ LogError::Storage(_)) => return Err(error),
                // Its bytes are what was written, and were no block: nothing that can be shown.
                Err(_) => {
                    walk.known = walk.known.max(choice.last());
                    continue;
                }
                Ok(block) => block,
            };
            walk.block(choice, &block);
            progress(walk.reached);
        }
        Ok(walk.finish())
    }

    /// The blocks of the new log, full ones.
    pub(super) fn blocks<'a>(&'a self, files: &'a RawFiles) -> impl FnMut() -> Result<Option<Block>, LogError> + 'a {
        let mut choices = self.choices.iter().take_while(|choice| choice.from <= self.end);
        let mut repack = Some(Repack::new(Position::new(1)));
        let mut ready = VecDeque::new();
        move || {
            while let (true, Some(open)) = (ready.is_empty(), &mut repack) {
                match choices.next() {
                    Some(choice) => {
                        let block = clipped(files, choice, self.end.min(choice.last()))?;
                        for record in block.raw_records() {
                            let (_, header, payload) = record.map_err(LogError::from)?;
                            ready.extend(open.push(header, payload));
                        }
                    }
                    None => ready.extend(repack.take().and_then(|mut rest| rest.take())),
                }
            }
            Ok(ready.pop_front())
        }
    }

    /// Tells the events that cannot be in the new log, in the order of their positions.
    pub(super) fn rest<E: From<LogError>>(
        &self,
        files: &RawFiles,
        mut take: impl FnMut(&RecordRef<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for choice in self.choices.iter().filter(|choice| choice.last() > self.end) {
            let block = clipped(files, choice, choice.last())?;
            for record in block.iter() {
                let record = record.map_err(LogError::from)?;
                if record.position > self.end {
                    take(&record)?;
                }
            }
        }
        Ok(())
    }
}

/// What a choice stands for: its records up to `last`, each of which can be read.
fn clipped(files: &RawFiles, choice: &Choice, last: Position) -> Result<Block, LogError> {
    let block = files.block(&choice.frames)?;
    for record in block.iter() {
        record.map_err(LogError::from)?;
    }
    block.clip(choice.from.previous(), last).map_err(LogError::from)
}

#[derive(Default)]
struct Walk {
    choices: Vec<Choice>,
    checker: Checker,
    /// The least position that there must have been.
    known: Position,
    /// Position of the last record so far.
    reached: Position,
    place: Option<PlaceInAppend>,
    /// End of the last whole append that follows from the beginning, up to a block that is not stale.
    end: Position,
    /// As `end`, stale blocks included.
    whole: Position,
    broken: bool,
    unfit: Option<String>,
    missing: Vec<(Position, Position)>,
}

impl Walk {
    fn block(&mut self, choice: Choice, block: &Block) {
        if choice.from > self.reached.next() {
            self.missing.push((self.reached.next(), choice.from.previous()));
            self.broken = true;
        }
        // They were looked at before: none is malformed.
        for record in block.iter().filter_map(Result::ok) {
            self.record(&record);
        }
        if !choice.stale {
            self.end = self.whole;
        }
        self.choices.push(choice);
    }

    fn record(&mut self, record: &RecordRef<'_>) {
        (self.reached, self.place) = (record.position, Some(record.header.place));
        if self.broken {
            return;
        }
        match self.checker.record(record) {
            Ok(()) if record.header.place.is_last() => self.whole = record.position,
            Ok(()) => {}
            Err(error) => {
                self.broken = true;
                self.unfit = Some(error.to_string());
            }
        }
    }

    fn finish(mut self) -> Plan {
        // An append is stored as a whole or not at all: the rest of the last one was there.
        let open = self
            .place
            .map_or(0, |place| u64::from(place.count.saturating_sub(place.index)));
        let known = self.known.max(self.reached.plus(open));
        if known > self.reached {
            self.missing.push((self.reached.next(), known));
        }
        let found = |choice: &Choice| choice.last().since(choice.from) + 1;
        let all: u64 = self.choices.iter().map(found).sum();
        Plan {
            behind: all - self.end.get(),
            choices: self.choices,
            end: self.end,
            missing: self.missing,
            unfit: self.unfit,
        }
    }
}

//! Reads the log in batches that end anywhere, without reading a block twice.

use crate::pass::Member;
use annals_core::{Block, EventLog, LogError, Position, RecordRef};
use std::collections::VecDeque;

/// Events that are there when they are needed, at least.
const AHEAD_EVENTS: u64 = 8_192;

/// Whether a batch goes on after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Take {
    More,
    Enough,
}

/// Blocks that were read and are not used up.
pub(crate) struct LogReader<'a> {
    log: &'a dyn EventLog,
    read_bytes: usize,
    blocks: VecDeque<Block>,
    member: Option<Member>,
}

impl<'a> LogReader<'a> {
    pub(crate) fn new(log: &'a dyn EventLog, read_bytes: usize) -> Self {
        Self {
            log,
            read_bytes,
            blocks: VecDeque::new(),
            member: None,
        }
    }

    /// Reads together with others, who read about the same.
    pub(crate) fn in_pass(&mut self, member: Option<Member>) {
        self.member = member;
    }

    /// Hands out the events after `after`, up to `until`, until `visit` has enough or the log ends. Returns the position
    /// of the last one handed out, `after` if there was none.
    pub(crate) fn read<E: From<LogError>>(
        &mut self,
        after: Position,
        until: Position,
        mut visit: impl FnMut(&RecordRef<'_>) -> Result<Take, E>,
    ) -> Result<Position, E> {
        let mut position = after;
        while position < until {
            let Some(block) = self.next_block(position)? else {
                break;
            };
            for record in block.clip(position, until).map_err(LogError::from)?.iter() {
                let record = record.map_err(LogError::from)?;
                if record.position != position.next() {
                    let detail = format!("after {position} comes {}", record.position);
                    return Err(LogError::Damaged {
                        position: position.next(),
                        detail,
                    }
                    .into());
                }
                let take = visit(&record)?;
                position = record.position;
                if take == Take::Enough {
                    return Ok(position);
                }
            }
        }
        Ok(position)
    }

    /// Blocks with the events after `after`, up to `until` and so many at most; none where the log ends.
    pub(crate) fn run(&mut self, after: Position, until: Position, events: usize) -> Result<Vec<Block>, LogError> {
        let until = until.min(after.plus(events as u64));
        let (mut run, mut position) = (Vec::new(), after);
        while position < until {
            let Some(block) = self.next_block(position)? else {
                break;
            };
            if block.first() > position.next() {
                let detail = format!("after {position} comes {}", block.first());
                return Err(LogError::Damaged {
                    position: position.next(),
                    detail,
                });
            }
            let clipped = block.clip(position, until).map_err(LogError::from)?;
            position = clipped.last();
            run.push(clipped);
        }
        Ok(run)
    }

    /// Reads what comes behind `after` in advance, unless it is there or is not to be read. What cannot be read is read
    /// again when its turn has come.
    pub(crate) fn read_ahead(&mut self, after: Position, until: Position) {
        let last = self.blocks.back().map_or(after, Block::last).max(after);
        if last >= until || last > after.plus(AHEAD_EVENTS) {
            return;
        }
        if let Ok(blocks) = self.read_blocks(last) {
            self.blocks.extend(blocks);
        }
    }

    fn read_blocks(&self, after: Position) -> Result<Vec<Block>, LogError> {
        match &self.member {
            Some(member) => member.read(self.log, after, self.read_bytes),
            None => self.log.read(after, self.read_bytes),
        }
    }

    /// The block that holds the event after `position`.
    fn next_block(&mut self, position: Position) -> Result<Option<Block>, LogError> {
        // A batch that is folded a second time begins before what is left here.
        if self.blocks.front().is_some_and(|block| block.first() > position.next()) {
            self.blocks.clear();
        }
        while self.blocks.front().is_some_and(|block| block.last() <= position) {
            self.blocks.pop_front();
        }
        if self.blocks.is_empty() {
            self.blocks = self.read_blocks(position)?.into();
        }
        Ok(self.blocks.front().cloned())
    }
}

//! Where streams end, all of them: so that a log that was just opened need not look up one after the other.

use super::Index;
use super::block::STREAM;
use super::run::Run;
use annals_core::{LogError, Position, StreamHead, Version};
use std::cmp::Ordering;
use std::ops::ControlFlow;

impl Index {
    /// Tells the heads of streams, those that were written to last first, until told to stop. A stream comes once for each run
    /// that has it: the first time counts.
    pub(in crate::sled) fn each_head(
        &self,
        mut tell: impl FnMut(&str, StreamHead) -> ControlFlow<()>,
    ) -> Result<(), LogError> {
        for run in self.runs().iter().rev() {
            if self.noticed(run.each_head(&mut tell))?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Run {
    fn each_head(
        &self,
        tell: &mut impl FnMut(&str, StreamHead) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, LogError> {
        // A stream may have several entries, the last of which has its head.
        let mut last: Option<(Vec<u8>, StreamHead)> = None;
        let mut told = |last: &(Vec<u8>, StreamHead)| match std::str::from_utf8(&last.0[1..]) {
            Ok(stream) => tell(stream, last.1),
            // Names of streams are text.
            Err(_) => ControlFlow::Continue(()),
        };
        'blocks: for block in self.find(&[STREAM], 0)..self.block_count() {
            let mut entries = self.block(block, None)?;
            while entries.next_key()? {
                match entries.key[0].cmp(&STREAM) {
                    Ordering::Less => continue,
                    Ordering::Equal => entries.read_rest()?,
                    Ordering::Greater => break 'blocks,
                }
                let head = StreamHead {
                    version: Version::new(entries.order).plus(entries.positions.len() as u64 - 1),
                    position: entries.positions.last().copied().map_or(Position::ZERO, Position::new),
                };
                match &mut last {
                    Some((key, newest)) if *key == entries.key => *newest = head,
                    _ => {
                        if last.as_ref().is_some_and(|last| told(last).is_break()) {
                            return Ok(ControlFlow::Break(()));
                        }
                        last = Some((entries.key.clone(), head));
                    }
                }
            }
        }
        Ok(last.as_ref().map_or(ControlFlow::Continue(()), told))
    }
}

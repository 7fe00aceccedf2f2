//! Blocks that were fetched, kept for whoever wants them next: views that stand near each other share them.

use annals_core::{Block, MalformedRecord, Position};
use std::collections::{BTreeMap, VecDeque};

/// The blocks that came last, up to a number of bytes.
pub(super) struct Cache {
    bytes_max: usize,
    bytes: usize,
    /// By their first position; they may overlap, because answers begin anywhere.
    blocks: BTreeMap<Position, Block>,
    /// First positions, in the order in which the blocks came.
    order: VecDeque<Position>,
}

impl Cache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            blocks: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }

    pub(super) fn insert(&mut self, block: Block) {
        let first = block.first();
        let known = self
            .blocks
            .get(&first)
            .is_some_and(|known| known.last() >= block.last());
        if known || block.count() == 0 {
            return;
        }
        self.bytes += block.bytes().len();
        match self.blocks.insert(first, block) {
            Some(shorter) => self.bytes -= shorter.bytes().len(),
            None => self.order.push_back(first),
        }
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.order.pop_front() else { return };
            if let Some(block) = self.blocks.remove(&oldest) {
                self.bytes -= block.bytes().len();
            }
        }
    }

    /// Whether the event at this position is there.
    pub(super) fn holds(&self, position: Position) -> bool {
        self.block_of(position).is_some()
    }

    fn block_of(&self, position: Position) -> Option<&Block> {
        let (_, block) = self.blocks.range(..=position).next_back()?;
        (block.last() >= position).then_some(block)
    }

    /// Blocks that follow `after` without a gap, about `bytes_max` bytes of them, at least one if there is one.
    pub(super) fn after(&self, after: Position, bytes_max: usize) -> Result<Vec<Block>, MalformedRecord> {
        let (mut found, mut bytes, mut reached) = (Vec::new(), 0, after);
        while bytes < bytes_max {
            let next = reached.next();
            let Some(block) = self.block_of(next) else { break };
            bytes += block.bytes().len();
            let block = if block.first() == next {
                block.clone()
            } else {
                block.clip(reached, block.last())?
            };
            reached = block.last();
            found.push(block);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(first: u64, count: u64) -> Block {
        let mut bytes = Vec::new();
        for number in first..first + count {
            Block::push_record(&mut bytes, &[0; 20], &number.to_le_bytes());
        }
        Block::new(Position::new(first), count, bytes.into())
    }

    fn places(cache: &Cache, after: u64, bytes_max: usize) -> Vec<(u64, u64)> {
        let blocks = cache.after(Position::new(after), bytes_max).unwrap();
        blocks
            .iter()
            .map(|block| (block.first().get(), block.last().get()))
            .collect()
    }

    #[test]
    fn blocks_are_found_from_any_position_and_end_at_a_gap() {
        let mut cache = Cache::new(1 << 20);
        for (first, count) in [(1, 10), (11, 10), (5, 6), (31, 10)] {
            cache.insert(block(first, count));
        }
        assert_eq!(places(&cache, 0, usize::MAX), [(1, 10), (11, 20)]);
        assert_eq!(places(&cache, 7, usize::MAX), [(8, 10), (11, 20)]);
        assert_eq!(places(&cache, 20, usize::MAX), []);
        assert_eq!(places(&cache, 32, 1), [(33, 40)]);
        assert_eq!(places(&cache, 40, usize::MAX), []);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_bytes() {
        let one = block(1, 10).bytes().len();
        let mut cache = Cache::new(3 * one);
        for first in [1, 11, 21, 31] {
            cache.insert(block(first, 10));
            cache.insert(block(first, 10));
        }
        assert_eq!(cache.bytes, 3 * one);
        assert_eq!(places(&cache, 0, usize::MAX), []);
        assert_eq!(places(&cache, 10, usize::MAX), [(11, 20), (21, 30), (31, 40)]);
        assert_eq!((cache.order.len(), cache.blocks.len()), (3, 3));
    }
}

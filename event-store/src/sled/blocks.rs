//! Collects records into blocks of bounded size. Pure: neither sled nor the disk is known here.

use super::volume::{key, part_key};
use crate::frame::{FrameMeta, encode_bytes};
use annals_core::{Block, Epoch, MalformedRecord, Position};

/// Largest block, raw bytes; a record larger than that is cut into parts.
const BLOCK_BYTES_MAX: usize = 60 * 1024;

pub(super) struct GroupBlocks {
    epoch: Epoch,
    boot: u64,
    first: Position,
    count: u32,
    bytes: Vec<u8>,
    done: Vec<Block>,
}

impl GroupBlocks {
    /// Blocks for the records from `first` on.
    pub(super) fn new(epoch: Epoch, boot: u64, first: Position) -> Self {
        Self {
            epoch,
            boot,
            first,
            count: 0,
            bytes: Vec::with_capacity(4096),
            done: Vec::new(),
        }
    }

    /// Position of the next record.
    pub(super) fn next(&self) -> Position {
        self.first.plus(u64::from(self.count))
    }

    /// Adds the records of a block.
    pub(super) fn add(&mut self, block: &Block) -> Result<(), MalformedRecord> {
        for record in block.raw_records() {
            let (_, header, payload) = record?;
            self.push(header, payload);
        }
        Ok(())
    }

    pub(super) fn push(&mut self, header: &[u8], payload: &[u8]) {
        if self.count > 0 && self.bytes.len() + Block::record_len(header.len(), payload.len()) > BLOCK_BYTES_MAX {
            self.close_block();
        }
        Block::push_record(&mut self.bytes, header, payload);
        self.count += 1;
        if self.bytes.len() > BLOCK_BYTES_MAX {
            self.close_block();
        }
    }

    fn close_block(&mut self) {
        if self.count > 0 {
            let bytes = std::mem::take(&mut self.bytes);
            self.done
                .push(Block::new(self.first, u64::from(self.count), bytes.into()));
            self.first = self.next();
            self.count = 0;
        }
    }

    /// The blocks that are full, in order; with `all` also what does not fill one.
    pub(super) fn take(&mut self, all: bool) -> Vec<Block> {
        if all {
            self.close_block();
        }
        std::mem::take(&mut self.done)
    }

    /// Keys and frames to store a block under.
    pub(super) fn frames(block: &Block, epoch: Epoch, boot: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
        let (first, count) = (block.first(), block.count() as u32);
        let meta = FrameMeta {
            epoch,
            boot,
            first,
            count,
            part: 0,
            parts: 1,
        };
        if block.bytes().len() <= BLOCK_BYTES_MAX {
            return vec![(key(first).to_vec(), encode_bytes(block.bytes(), &meta))];
        }
        let parts = block.bytes().len().div_ceil(BLOCK_BYTES_MAX) as u16;
        let chunks = block.bytes().chunks(BLOCK_BYTES_MAX).zip(0u16..);
        let frame = |(chunk, part)| {
            let key = if part == 0 {
                key(first).to_vec()
            } else {
                part_key(first, part).to_vec()
            };
            (key, encode_bytes(chunk, &FrameMeta { part, parts, ..meta }))
        };
        chunks.map(frame).collect()
    }

    pub(super) fn epoch_and_boot(&self) -> (Epoch, u64) {
        (self.epoch, self.boot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks() -> GroupBlocks {
        GroupBlocks::new(Epoch::from_bytes([0; 16]), 1, Position::new(10))
    }

    #[test]
    fn small_records_share_a_block_and_blocks_are_bounded() {
        let mut group = blocks();
        for _ in 0..1000 {
            group.push(&[b'h'; 100], &[b'p'; 100]);
        }
        let done = group.take(true);
        assert_eq!(done.iter().map(Block::count).sum::<u64>(), 1000);
        assert!(done.iter().all(|block| block.bytes().len() <= BLOCK_BYTES_MAX));
        assert!(done.windows(2).all(|pair| pair[0].last().next() == pair[1].first()));
    }

    #[test]
    fn a_large_record_stands_alone_and_is_stored_in_parts() {
        let mut group = blocks();
        group.push(b"h", b"small");
        group.push(b"h", &vec![b'x'; 200_000]);
        group.push(b"h", b"small");
        let done = group.take(true);
        assert_eq!(done.iter().map(Block::count).collect::<Vec<_>>(), [1, 1, 1]);
        assert_eq!(GroupBlocks::frames(&done[1], Epoch::from_bytes([0; 16]), 1).len(), 4);
    }
}

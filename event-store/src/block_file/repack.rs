//! Joins the records of small blocks to full ones.

use annals_core::{Block, Position};

/// Size that a block is filled up to, raw bytes. A larger record stands alone.
const BLOCK_BYTES_MAX: usize = 60 * 1024;
/// From this size on a block counts as full: joining it with its neighbours would save next to nothing.
const FULL_BYTES_MIN: usize = BLOCK_BYTES_MAX / 4 * 3;

/// Takes records in order and gives full blocks.
#[derive(Debug)]
pub(crate) struct Repack {
    first: Position,
    count: u64,
    bytes: Vec<u8>,
}

impl Repack {
    /// For the records from `first` on.
    pub(crate) fn new(first: Position) -> Self {
        Self {
            first,
            count: 0,
            bytes: Vec::with_capacity(BLOCK_BYTES_MAX),
        }
    }

    /// Whether a block is stored in one frame and full, so that it may stay as it is.
    pub(crate) fn is_full(block: &Block) -> bool {
        (FULL_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&block.bytes().len())
    }

    /// Passes over a block that stays as it is; gives what was begun in front of it.
    pub(crate) fn pass(&mut self, block: &Block) -> Option<Block> {
        let begun = self.take();
        self.first = block.last().next();
        begun
    }

    /// Adds the next record; gives the block in front of it when that is full.
    pub(crate) fn push(&mut self, header: &[u8], payload: &[u8]) -> Option<Block> {
        let full = self.bytes.len() + Block::record_len(header.len(), payload.len()) > BLOCK_BYTES_MAX;
        let done = if full { self.take() } else { None };
        Block::push_record(&mut self.bytes, header, payload);
        self.count += 1;
        done
    }

    /// The block begun, if there is one.
    pub(crate) fn take(&mut self) -> Option<Block> {
        if self.count == 0 {
            return None;
        }
        let bytes = std::mem::replace(&mut self.bytes, Vec::with_capacity(BLOCK_BYTES_MAX));
        let block = Block::new(self.first, self.count, bytes.into());
        (self.first, self.count) = (block.last().next(), 0);
        Some(block)
    }
}

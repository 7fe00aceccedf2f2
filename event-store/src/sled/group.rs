//! The bytes of a group while it is decided: one frame that is written to the journal as it stands and read from memory
//! until its records are stored. Pure.

use crate::frame::{FRAME_HEADER_LEN, FrameMeta, seal_raw};
use annals_core::{Block, Epoch, Position};
use bytes::Bytes;

/// About how many bytes an event takes in a group.
const EVENT_BYTES: usize = 384;

pub(super) struct Group {
    first: Position,
    count: u32,
    frame: Vec<u8>,
}

impl Group {
    /// A group whose first record is at `first`, of about so many events.
    pub(super) fn new(first: Position, events: usize) -> Self {
        let mut frame = Vec::with_capacity(FRAME_HEADER_LEN + events * EVENT_BYTES);
        frame.resize(FRAME_HEADER_LEN, 0);
        Self { first, count: 0, frame }
    }

    /// Position of the next record.
    pub(super) fn next(&self) -> Position {
        self.first.plus(u64::from(self.count))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn push(&mut self, header: &[u8], payload: &[u8]) {
        Block::push_record(&mut self.frame, header, payload);
        self.count += 1;
    }

    /// The frame, and the block in it; they share their memory, unless a payload holds what looks like a frame.
    pub(super) fn seal(self, epoch: Epoch, boot: u64) -> (Bytes, Block) {
        let meta = FrameMeta {
            epoch,
            boot,
            first: self.first,
            count: self.count,
            part: 0,
            parts: 1,
        };
        let (frame, records) = seal_raw(self.frame, &meta);
        (frame, Block::new(self.first, u64::from(self.count), records))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::decode_frame;

    #[test]
    fn a_group_is_a_frame_like_any_other() {
        let mut group = Group::new(Position::new(5), 2);
        assert!(group.is_empty());
        group.push(b"header", b"payload");
        group.push(b"h", b"");
        assert_eq!(group.next(), Position::new(7));
        let (frame, block) = group.seal(Epoch::from_bytes([1; 16]), 3);
        let (meta, found, used) = decode_frame(&frame).unwrap();
        assert_eq!((meta.boot, meta.first.get(), meta.count, used), (3, 5, 2, frame.len()));
        assert_eq!(found.bytes(), block.bytes());
    }
}

//! Writes a block file from its beginning to its end; the sink may be a file or a connection.

use super::{END_MAGIC, ENTRY_LEN, MAGIC, PREFIX_LEN, TRAILER_LEN, head_checksum};
use annals_core::{Block, Position};
use sha2::{Digest, Sha256};
use std::io::{self, Write};

/// Writes the parts in order: head, bytes that the head announces, frames, and what ends the file.
pub(crate) struct BlockFileWriter<W> {
    out: W,
    digest: Sha256,
    offset: u64,
    /// First position and offset of each frame.
    table: Vec<(u64, u64)>,
    last: Position,
}

/// A block file that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    /// Its length.
    pub(crate) bytes: u64,
    /// SHA-256 of all in front of the trailer.
    pub(crate) sha256: [u8; 32],
}

impl<W: Write> BlockFileWriter<W> {
    /// Begins the file with its head, which is JSON.
    pub(crate) fn new(out: W, head: &[u8]) -> io::Result<Self> {
        let mut writer = Self {
            out,
            digest: Sha256::new(),
            offset: 0,
            table: Vec::new(),
            last: Position::ZERO,
        };
        let mut prefix = [0; PREFIX_LEN];
        prefix[..8].copy_from_slice(&MAGIC);
        prefix[8..12].copy_from_slice(&(head.len() as u32).to_le_bytes());
        let checksum = head_checksum(&prefix, head);
        prefix[12..].copy_from_slice(&checksum.to_le_bytes());
        writer.bytes(&prefix)?;
        writer.bytes(head)?;
        Ok(writer)
    }

    /// Bytes that the head announces. Before the first frame.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.offset += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// The frame of the block that follows.
    pub(crate) fn frame(&mut self, block: &Block, frame: &[u8]) -> io::Result<()> {
        self.table.push((block.first().get(), self.offset));
        self.last = block.last();
        self.bytes(frame)
    }

    /// The sink, to sync what was written so far.
    pub(crate) fn sink(&mut self) -> &mut W {
        &mut self.out
    }

    /// Writes table and trailer, and flushes. Syncing is up to the caller.
    pub(crate) fn finish(mut self) -> io::Result<(W, Written)> {
        let table_at = self.offset;
        let mut table = Vec::with_capacity(self.table.len() * ENTRY_LEN);
        for (first, offset) in &self.table {
            table.extend_from_slice(&first.to_le_bytes());
            table.extend_from_slice(&offset.to_le_bytes());
        }
        self.bytes(&table)?;
        let sha256: [u8; 32] = self.digest.clone().finalize().into();
        let mut trailer = [0; TRAILER_LEN];
        trailer[..8].copy_from_slice(&END_MAGIC);
        let first = self.table.first().map_or(0, |(first, _)| *first);
        let numbers = [table_at, self.table.len() as u64, first, self.last.get()];
        for (number, at) in numbers.iter().zip((8..).step_by(8)) {
            trailer[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        trailer[40..72].copy_from_slice(&sha256);
        trailer[72..76].copy_from_slice(&crc32c::crc32c(&table).to_le_bytes());
        let checksum = crc32c::crc32c(&trailer[..76]);
        trailer[76..].copy_from_slice(&checksum.to_le_bytes());
        self.out.write_all(&trailer)?;
        self.out.flush()?;
        let bytes = self.offset + TRAILER_LEN as u64;
        Ok((self.out, Written { bytes, sha256 }))
    }
}

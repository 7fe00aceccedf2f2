//! A run of records that were stored together, decompressed and checked.

use crate::Position;
use crate::record::{MalformedRecord, Record, RecordRef};
use bytes::Bytes;

/// Bytes before each record in a block: length of the header, length of the payload (u32, little endian).
const PREFIX_LEN: usize = 8;

/// Records that follow each other in the log. Cheap to clone: the bytes are shared.
///
/// Form of the bytes: for each record `header length u32 LE, payload length u32 LE, header, payload`.
#[derive(Debug, Clone)]
pub struct Block {
    first: Position,
    count: u64,
    bytes: Bytes,
}

impl Block {
    /// A block of `count` records beginning at `first`. The bytes are checked as they are read.
    pub fn new(first: Position, count: u64, bytes: Bytes) -> Self {
        Self { first, count, bytes }
    }

    /// Appends one record to the bytes of a block that is being built.
    pub fn push_record(bytes: &mut Vec<u8>, header: &[u8], payload: &[u8]) {
        // Both are bounded far below 4 GiB: the header by HEADER_LEN_MAX, the payload by APPEND_BYTES_MAX.
        bytes.extend_from_slice(&(header.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(payload);
    }

    /// How many bytes a record takes in a block.
    pub const fn record_len(header_len: usize, payload_len: usize) -> usize {
        PREFIX_LEN + header_len + payload_len
    }

    /// Position of the first record.
    pub fn first(&self) -> Position {
        self.first
    }

    /// Position of the last record; the one before `first` if the block is empty.
    pub fn last(&self) -> Position {
        // Saturating, because a caller may make a block of any numbers.
        Position::new(self.first.get().saturating_add(self.count).saturating_sub(1))
    }

    /// How many records it holds.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The bytes of the records.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Only the records after `after` and up to `last`.
    pub fn clip(&self, after: Position, last: Position) -> Result<Self, MalformedRecord> {
        let first = self.first.max(after.next());
        let last = self.last().min(last);
        let count = (last.get() + 1).saturating_sub(first.get());
        let mut reader = self.raw();
        for _ in self.first.get()..first.get() {
            reader.next().transpose()?;
        }
        // The end needs no cutting: the count says where to stop.
        Ok(Self {
            first,
            count,
            bytes: self.bytes.slice(self.bytes.len() - reader.rest.len()..),
        })
    }

    /// Decoded records, borrowed from the block.
    pub fn iter(&self) -> impl Iterator<Item = Result<RecordRef<'_>, MalformedRecord>> {
        self.raw()
            .map(|raw| raw.and_then(|(position, header, payload)| RecordRef::decode(position, header, payload)))
    }

    /// The records, each sharing the block's memory.
    pub fn records(&self) -> impl Iterator<Item = Result<Record, MalformedRecord>> + '_ {
        self.raw().map(|raw| {
            let (position, header, payload) = raw?;
            Ok(Record::new(
                position,
                self.bytes.slice_ref(header),
                self.bytes.slice_ref(payload),
            ))
        })
    }

    /// Position, header and payload of each record, as bytes and not looked into.
    pub fn raw_records(&self) -> impl Iterator<Item = Result<(Position, &[u8], &[u8]), MalformedRecord>> {
        self.raw()
    }

    fn raw(&self) -> RawRecords<'_> {
        RawRecords {
            rest: &self.bytes,
            position: self.first,
            left: self.count,
        }
    }
}

struct RawRecords<'a> {
    rest: &'a [u8],
    position: Position,
    left: u64,
}

impl<'a> RawRecords<'a> {
    fn split(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let (prefix, rest) = self.rest.split_at_checked(PREFIX_LEN)?;
        let header_len = u32::from_le_bytes(prefix.first_chunk().copied()?) as usize;
        let payload_len = u32::from_le_bytes(prefix.last_chunk().copied()?) as usize;
        let (header, rest) = rest.split_at_checked(header_len)?;
        let (payload, rest) = rest.split_at_checked(payload_len)?;
        self.rest = rest;
        Some((header, payload))
    }
}

impl<'a> Iterator for RawRecords<'a> {
    type Item = Result<(Position, &'a [u8], &'a [u8]), MalformedRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let position = self.position;
        match self.split() {
            Some((header, payload)) => {
                self.left -= 1;
                self.position = position.next();
                Some(Ok((position, header, payload)))
            }
            None => {
                self.left = 0;
                Some(Err(MalformedRecord {
                    position,
                    detail: "the block ends inside a record".into(),
                }))
            }
        }
    }
}

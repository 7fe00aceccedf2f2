//! A run: one immutable file of sorted entries for a stretch of the log, read block by block.
//!
//! Blocks, then the pages of the filter, then the fences (the first key of each block), then a footer. Every part has a
//! checksum that also covers where it stands, so that neither a changed nor a displaced part is taken for true.

use super::block::{Entries, Malformed, put_varint, take_varint};
use super::filter;
use annals_core::{Epoch, LogError, Position};
use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Begins every footer: the second format of the index.
const MAGIC: [u8; 4] = [0x41, 0x4e, 0x49, 0x02];
/// Length of the footer.
const FOOTER_LEN: usize = 92;
/// Length of the checksum in front of every block and behind every page.
pub(super) const CRC_LEN: usize = 4;
/// Most bytes that a block can have: a writer ends one long before.
const BLOCK_LEN_MAX: u64 = 64 << 10;

/// Blocks and pages in memory, by run and place.
pub(super) type BlockCache = Cache<(u64, u64), Bytes, Weight>;

#[derive(Clone)]
pub(super) struct Weight;

impl Weighter<(u64, u64), Bytes> for Weight {
    fn weight(&self, _: &(u64, u64), bytes: &Bytes) -> u64 {
        bytes.len() as u64 + 64
    }
}

pub(super) fn storage(error: impl std::fmt::Display) -> LogError {
    LogError::Storage(format!(
        "the index: {error}; start the server again, an index that is damaged is then built anew"
    ))
}

impl From<Malformed> for LogError {
    fn from(malformed: Malformed) -> Self {
        storage(malformed.0)
    }
}

/// Checksum of a part of a run, covering where it stands.
pub(super) fn part_crc(number: u64, offset: u64, bytes: &[u8]) -> u32 {
    let mut crc = crc32c::crc32c(&number.to_le_bytes());
    crc = crc32c::crc32c_append(crc, &offset.to_le_bytes());
    crc32c::crc32c_append(crc, bytes)
}

/// What a run says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) epoch: Epoch,
    pub(super) number: u64,
    /// Its entries are of the positions after this one,
    pub(super) after: Position,
    /// up to this one.
    pub(super) last: Position,
    pub(super) keys: u64,
    pub(super) positions: u64,
    pub(super) lines: u64,
    pub(super) filter_at: u64,
    pub(super) fences_at: u64,
}

impl Footer {
    /// The footer with its checksum and that of the fences.
    pub(super) fn encode(&self, fences: &[u8]) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&part_crc(self.number, self.fences_at, fences).to_le_bytes());
        out.extend_from_slice(self.epoch.as_bytes());
        for number in [
            self.number,
            self.after.get(),
            self.last.get(),
            self.keys,
            self.positions,
            self.lines,
            self.filter_at,
            self.fences_at,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// The footer and the checksum of the fences.
    fn decode(bytes: &[u8]) -> Option<(Self, u32)> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if body.len() != FOOTER_LEN - 4 || crc32c::crc32c(body) != u32::from_le_bytes(*crc) || body[..4] != MAGIC {
            return None;
        }
        let number = |at: usize| body[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let footer = Self {
            epoch: Epoch::from_bytes(*body[8..].first_chunk()?),
            number: number(24)?,
            after: Position::new(number(32)?),
            last: Position::new(number(40)?),
            keys: number(48)?,
            positions: number(56)?,
            lines: number(64)?,
            filter_at: number(72)?,
            fences_at: number(80)?,
        };
        Some((footer, u32::from_le_bytes(*body[4..].first_chunk()?)))
    }
}

/// First key of each block, in memory as long as the run is open: about 40 bytes for a block of 8 KiB.
#[derive(Default)]
pub(super) struct Fences {
    keys: Vec<u8>,
    /// For each block: where its key ends in `keys`, what orders its first entry, where the block ends in the file.
    blocks: Vec<(u32, u64, u64)>,
}

impl Fences {
    pub(super) fn push(&mut self, key: &[u8], order: u64, end: u64) {
        self.keys.extend_from_slice(key);
        self.blocks.push((self.keys.len() as u32, order, end));
    }

    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    fn key(&self, block: usize) -> (&[u8], u64) {
        let start = block.checked_sub(1).map_or(0, |before| self.blocks[before].0);
        let (end, order, _) = self.blocks[block];
        (&self.keys[start as usize..end as usize], order)
    }

    /// Where a block begins and ends in the file.
    fn span(&self, block: usize) -> (u64, u64) {
        let start = block.checked_sub(1).map_or(0, |before| self.blocks[before].2);
        (start, self.blocks[block].2)
    }

    /// The last block that begins at or before this place; the first one if none does.
    pub(super) fn find(&self, key: &[u8], order: u64) -> usize {
        let (mut low, mut high) = (0, self.blocks.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.key(middle) <= (key, order) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.saturating_sub(1)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.keys.len() + 12 * self.len());
        for block in 0..self.len() {
            let ((key, order), (start, end)) = (self.key(block), self.span(block));
            put_varint(&mut out, key.len() as u64);
            out.extend_from_slice(key);
            put_varint(&mut out, order);
            put_varint(&mut out, end - start);
        }
        out
    }

    fn decode(mut bytes: &[u8]) -> Result<Self, Malformed> {
        let (mut fences, mut offset) = (Self::default(), 0u64);
        while !bytes.is_empty() {
            let len = usize::try_from(take_varint(&mut bytes)?).unwrap_or(usize::MAX);
            let key = bytes.get(..len).ok_or(Malformed("a fence is longer than the fences"))?;
            bytes = &bytes[len..];
            let order = take_varint(&mut bytes)?;
            let len = take_varint(&mut bytes)?;
            if len > BLOCK_LEN_MAX {
                return Err(Malformed("a block is too long"));
            }
            offset += len;
            fences.push(key, order, offset);
        }
        Ok(fences)
    }
}

/// A run that is open for reading. Its file may be removed meanwhile: readers keep what they have.
pub(super) struct Run {
    pub(super) footer: Footer,
    /// How many times its entries were merged.
    pub(super) level: u32,
    fences: Fences,
    file: File,
}

impl Run {
    pub(super) fn new(file: File, level: u32, footer: Footer, fences: Fences) -> Self {
        Self {
            footer,
            level,
            fences,
            file,
        }
    }

    /// Opens a run: reads its footer and its fences, nothing else.
    pub(super) fn open(path: &Path, level: u32) -> Result<Self, LogError> {
        let named = |error: &dyn std::fmt::Display| storage(format!("{}: {error}", path.display()));
        let file = File::open(path).map_err(|error| named(&error))?;
        let len = file.metadata().map_err(|error| named(&error))?.len();
        let end = len
            .checked_sub(FOOTER_LEN as u64)
            .ok_or_else(|| named(&"it is too short"))?;
        let mut bytes = vec![0; FOOTER_LEN];
        file.read_exact_at(&mut bytes, end).map_err(|error| named(&error))?;
        let (footer, crc) = Footer::decode(&bytes).ok_or_else(|| named(&"its footer is damaged"))?;
        let fences_len = end.checked_sub(footer.fences_at);
        let fences_len = fences_len.ok_or_else(|| named(&"its footer is of another file"))?;
        let mut bytes = vec![0; fences_len as usize];
        file.read_exact_at(&mut bytes, footer.fences_at)
            .map_err(|error| named(&error))?;
        if part_crc(footer.number, footer.fences_at, &bytes) != crc {
            return Err(named(&"its fences are damaged"));
        }
        let fences = Fences::decode(&bytes).map_err(|error| named(&error.0))?;
        Ok(Self::new(file, level, footer, fences))
    }

    pub(super) fn block_count(&self) -> usize {
        self.fences.len()
    }

    /// The block in which an entry of this key and order is, if the run has it.
    pub(super) fn find(&self, key: &[u8], order: u64) -> usize {
        self.fences.find(key, order)
    }

    fn read_part(&self, offset: u64, len: u64, crc_first: bool) -> Result<Bytes, LogError> {
        let damaged = |why: &dyn std::fmt::Display| {
            let Footer {
                number, after, last, ..
            } = &self.footer;
            let first = after.next();
            storage(format!(
                "run {number}, of positions {first} to {last}, is damaged at byte {offset}: {why}"
            ))
        };
        let mut bytes = vec![0; len as usize];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(|error| damaged(&error))?;
        let bytes = Bytes::from(bytes);
        let (crc, part) = if crc_first {
            (bytes.slice(..CRC_LEN), bytes.slice(CRC_LEN..))
        } else {
            let end = bytes.len() - CRC_LEN;
            (bytes.slice(end..), bytes.slice(..end))
        };
        if part_crc(self.footer.number, offset, &part).to_le_bytes() != *crc {
            return Err(damaged(&"its checksum does not match"));
        }
        Ok(part)
    }

    /// A block's entries; read past the cache when everything is read once.
    pub(super) fn block(&self, block: usize, cache: Option<&BlockCache>) -> Result<Entries, LogError> {
        let (start, end) = self.fences.span(block);
        if end - start < CRC_LEN as u64 {
            return Err(storage(format!("run {} has an empty block", self.footer.number)));
        }
        let read = || self.read_part(start, end - start, true);
        let bytes = match cache {
            Some(cache) => cache.get_or_insert_with(&(self.footer.number, start), read)?,
            None => read()?,
        };
        Ok(Entries::new(bytes))
    }

    /// Where a page of the filter stands, and how long it is with its CRC.
    fn filter_page(&self, page: u64) -> (u64, u64) {
        let offset = self.footer.filter_at + page * (filter::PAGE_BYTES + CRC_LEN) as u64;
        (offset, filter::page_len(page, self.footer.lines) + CRC_LEN as u64)
    }

    /// Reads every page of the filter: a walk over the entries asks none of them.
    pub(super) fn check_filter(&self) -> Result<(), LogError> {
        let pages = (0..).map(|page| self.filter_page(page));
        for (offset, len) in pages.take_while(|(_, len)| *len > CRC_LEN as u64) {
            self.read_part(offset, len, false)?;
        }
        Ok(())
    }

    /// Whether the run may have a key; `hash` is the key's.
    pub(super) fn may_have(&self, hash: u64, cache: &BlockCache) -> Result<bool, LogError> {
        let (page, at) = filter::place(hash, self.footer.lines);
        let (offset, len) = self.filter_page(page);
        let read = || self.read_part(offset, len, false);
        let page = cache.get_or_insert_with(&(self.footer.number, offset), read)?;
        Ok(filter::page_has(&page, at, hash))
    }
}

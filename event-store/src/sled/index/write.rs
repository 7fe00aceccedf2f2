//! Writes a run: entries come in the order of their keys and are written block by block; what must be kept meanwhile is
//! the filter (ten bits a key) and the fences.

use super::block::{Encoder, POSITIONS_MAX, STREAM};
use super::filter::Builder;
use super::run::{Fences, Footer, Run, part_crc, storage};
use annals_core::{Epoch, LogError, Position};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

/// Size at which a block ends.
const BLOCK_BYTES: usize = 8 << 10;
/// How much is written between two syncs, so that a large run does not hold up the log's own.
const UNSYNCED_MAX: usize = 4 << 20;
const BUFFER_BYTES: usize = 256 << 10;

/// Which stretch of the log a run is of, and what it is called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    pub(super) epoch: Epoch,
    pub(super) number: u64,
    pub(super) after: Position,
    pub(super) last: Position,
    pub(super) level: u32,
    /// At most so many keys.
    pub(super) keys_max: u64,
}

pub(super) struct RunWriter {
    stretch: Stretch,
    file: File,
    buffer: Vec<u8>,
    offset: u64,
    unsynced: usize,
    block: Encoder,
    /// First key of the block that is being filled, and what orders its first entry.
    fence: Option<(Vec<u8>, u64)>,
    fences: Fences,
    filter: Builder,
    /// The entry that may still grow.
    key: Vec<u8>,
    first: u64,
    positions: Vec<u64>,
    last_key: Vec<u8>,
    keys: u64,
    count: u64,
}

impl RunWriter {
    pub(super) fn create(path: &Path, stretch: Stretch) -> Result<Self, LogError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Ok(Self {
            stretch,
            file: options.open(path).map_err(storage)?,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            offset: 0,
            unsynced: 0,
            block: Encoder::default(),
            fence: None,
            fences: Fences::default(),
            filter: Builder::new(stretch.keys_max),
            key: Vec::new(),
            first: 0,
            positions: Vec::new(),
            last_key: Vec::new(),
            keys: 0,
            count: 0,
        })
    }

    /// Adds positions of a key, in order; `first` is the version of the first one, for streams. Positions of one key
    /// that follow each other become one entry.
    pub(super) fn push(&mut self, key: &[u8], first: u64, positions: &[u64]) -> Result<(), LogError> {
        let follows = self.key == key && !self.positions.is_empty();
        if follows && self.positions.last() >= positions.first() {
            return Err(storage("positions of one key do not ascend over its runs"));
        }
        if !follows || (key[0] == STREAM && self.first + self.positions.len() as u64 != first) {
            self.end_entry()?;
            self.key.clear();
            self.key.extend_from_slice(key);
            self.first = first;
        }
        self.positions.extend_from_slice(positions);
        while self.positions.len() >= 2 * POSITIONS_MAX {
            let rest = self.positions.split_off(POSITIONS_MAX);
            self.end_entry()?;
            (self.first, self.positions) = (self.first + POSITIONS_MAX as u64, rest);
        }
        Ok(())
    }

    fn end_entry(&mut self) -> Result<(), LogError> {
        let (mut first, positions) = (self.first, std::mem::take(&mut self.positions));
        for chunk in positions.chunks(POSITIONS_MAX) {
            self.put(first, chunk)?;
            first += chunk.len() as u64;
        }
        self.positions = positions;
        self.positions.clear();
        Ok(())
    }

    fn put(&mut self, first: u64, positions: &[u64]) -> Result<(), LogError> {
        if self.keys == 0 || self.last_key != self.key {
            self.filter.add(&self.key);
            self.keys += 1;
            self.last_key.clone_from(&self.key);
        }
        self.count += positions.len() as u64;
        if self.fence.is_none() {
            let order = if self.key[0] == STREAM { first } else { positions[0] };
            self.fence = Some((self.key.clone(), order));
        }
        self.block.push(&self.key, first, positions);
        if self.block.len() >= BLOCK_BYTES {
            self.end_block()?;
        }
        Ok(())
    }

    fn end_block(&mut self) -> Result<(), LogError> {
        let Some((key, order)) = self.fence.take() else {
            return Ok(());
        };
        let bytes = self.block.take();
        let crc = part_crc(self.stretch.number, self.offset, &bytes);
        self.write(&crc.to_le_bytes())?;
        self.write(&bytes)?;
        self.fences.push(&key, order, self.offset);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), LogError> {
        self.buffer.extend_from_slice(bytes);
        self.offset += bytes.len() as u64;
        if self.buffer.len() >= BUFFER_BYTES {
            self.drain()?;
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<(), LogError> {
        self.file.write_all(&self.buffer).map_err(storage)?;
        self.unsynced += self.buffer.len();
        self.buffer.clear();
        if self.unsynced >= UNSYNCED_MAX {
            self.unsynced = 0;
            self.file.sync_data().map_err(storage)?;
        }
        Ok(())
    }

    /// Writes what is left, syncs, and gives the run for reading. It counts when the manifest names it.
    pub(super) fn finish(mut self) -> Result<Run, LogError> {
        self.end_entry()?;
        self.end_block()?;
        let filter_at = self.offset;
        let filter = std::mem::replace(&mut self.filter, Builder::new(0));
        for page in filter.pages() {
            let crc = part_crc(self.stretch.number, self.offset, page);
            self.write(page)?;
            self.write(&crc.to_le_bytes())?;
        }
        let footer = Footer {
            epoch: self.stretch.epoch,
            number: self.stretch.number,
            after: self.stretch.after,
            last: self.stretch.last,
            keys: self.keys,
            positions: self.count,
            lines: filter.lines(),
            filter_at,
            fences_at: self.offset,
        };
        let fences = self.fences.encode();
        self.write(&fences)?;
        self.write(&footer.encode(&fences))?;
        self.drain()?;
        self.file.sync_data().map_err(storage)?;
        Ok(Run::new(self.file, self.stretch.level, footer, self.fences))
    }
}

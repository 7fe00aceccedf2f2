//! A closed volume that is not sealed yet, read as a plain file: its blocks are found by their own bytes, and the storage
//! engine is not asked. On damaged files the engine may panic, abort, never return or take all memory; here a damaged block
//! is one that is not found, and all others are read as ever.

use super::volume::{checked, damaged};
use crate::frame;
use crate::salvage::{Chooser, FrameSet, RawFiles};
use annals_core::{Block, Epoch, LogError, Position};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Whose blocks may stand in a volume, and where it ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) first: Position,
    /// Last position: the next volume begins behind it.
    pub(super) end: Position,
    pub(super) epoch: Epoch,
    /// How many times the log has been opened for writing.
    pub(super) boot: u64,
}

/// Where a block, or a part of one, stands in the file.
struct Piece {
    at: u64,
    len: u32,
}

/// A block that was found.
struct Found {
    /// First and last positions.
    first: Position,
    last: Position,
    /// The first of its pieces; the next block's are behind its last.
    piece: u32,
}

/// A closed volume, its file open. Any number of threads may read.
pub(super) struct RawVolume {
    path: PathBuf,
    file: File,
    /// Ascending, without what is not whole.
    blocks: Vec<Found>,
    pieces: Vec<Piece>,
}

impl RawVolume {
    /// Looks through the file of a volume. Only one that is not there is an error: what is not whole in it is named when it
    /// is read.
    pub(super) fn open(path: &Path, extent: Extent) -> Result<Self, LogError> {
        let db = path.join("db");
        let storage = |error: std::io::Error| LogError::Storage(format!("{}: {error}", db.display()));
        if !db.exists() {
            return Err(damaged(extent.first, format!("volume {} is missing", path.display())));
        }
        let file = File::open(&db).map_err(storage)?;
        let mut raw = RawFiles::default();
        raw.add(&db, 0, &mut |_| ())?;
        if raw.unreadable > 0 {
            let (path, bytes) = (db.display(), raw.unreadable);
            tracing::error!(%path, bytes, "the disk does not give back all of a volume; what stands there is missing");
        }
        let set = FrameSet::new(std::mem::take(&mut raw.frames), Some(extent.epoch), extent.boot);
        let mut volume = Self {
            path: path.to_owned(),
            file,
            blocks: Vec::new(),
            pieces: Vec::new(),
        };
        let mut chooser = Chooser::new(&set, extent.first);
        while let Some(choice) = chooser.any() {
            if choice.from > extent.end {
                break;
            }
            // What an earlier boot left where another block should stand is not what was acknowledged.
            let Some(frame) = choice.frames.first().filter(|_| !choice.stale) else {
                continue;
            };
            let piece = u32::try_from(volume.pieces.len()).unwrap_or(u32::MAX);
            let (first, last) = (frame.meta.first, frame.last().min(extent.end));
            volume.blocks.push(Found { first, last, piece });
            let pieces = choice.frames.iter().map(|frame| Piece {
                at: frame.at,
                len: frame.len,
            });
            volume.pieces.extend(pieces);
        }
        volume.blocks.shrink_to_fit();
        volume.pieces.shrink_to_fit();
        Ok(volume)
    }

    /// Number of the block that holds `position`, or of the last one before it.
    pub(super) fn block_before(&self, position: Position) -> Option<usize> {
        self.blocks
            .partition_point(|found| found.first <= position)
            .checked_sub(1)
    }

    /// Position of the last event in it; zero if there is none.
    pub(super) fn last(&self) -> Position {
        self.blocks.last().map_or(Position::ZERO, |found| found.last)
    }

    /// First position of a block.
    pub(super) fn block_first(&self, number: usize) -> Option<Position> {
        self.blocks.get(number).map(|found| found.first)
    }

    /// Reads and checks a block, up to the volume's end; `None` behind the last one.
    pub(super) fn block(&self, number: usize) -> Result<Option<Block>, LogError> {
        let (Some(found), Some((block, _))) = (self.blocks.get(number), self.block_and_frame(number)?) else {
            return Ok(None);
        };
        if block.last() == found.last {
            return Ok(Some(block));
        }
        Ok(Some(block.clip(found.first.previous(), found.last)?))
    }

    /// Reads and checks a block as it is stored, also if it goes on behind the volume's end, with its frame or that of its
    /// first part.
    pub(super) fn block_and_frame(&self, number: usize) -> Result<Option<(Block, Vec<u8>)>, LogError> {
        let Some(found) = self.blocks.get(number) else {
            return Ok(None);
        };
        let next = self.blocks.get(number + 1).map(|next| next.piece as usize);
        let pieces = &self.pieces[found.piece as usize..next.unwrap_or(self.pieces.len())];
        let (mut parts, mut count, mut frame) = (Vec::with_capacity(pieces.len()), 0, Vec::new());
        for (piece, part) in pieces.iter().zip(0u16..) {
            let mut bytes = vec![0; piece.len as usize];
            let read = self.file.read_exact_at(&mut bytes, piece.at);
            read.map_err(|error| LogError::Storage(format!("{}: {error}", self.path.display())))?;
            let (meta, raw) = checked(found.first, &bytes)?;
            if meta.part != part {
                return Err(damaged(found.first, "another part of the record stands here"));
            }
            count = u64::from(meta.count);
            parts.push(raw);
            if part == 0 {
                frame = bytes;
            }
        }
        let block = match parts.len() {
            1 => Block::new(found.first, count, parts.remove(0).into()),
            _ => frame::join(found.first, &parts),
        };
        Ok(Some((block, frame)))
    }
}

//! A volume as readers see it: the sled database that is written, or was until a moment ago; the raw file of one that is
//! closed; or the file of blocks that took its place.

use super::raw_volume::RawVolume;
use super::volume::{self, Volume};
use crate::block_file::BlockFile;
use annals_core::{Block, LogError, Position};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) struct Stored {
    kind: Kind,
    // Declared behind `kind`: the files are removed after they were closed.
    removal: Removal,
}

enum Kind {
    Written(Arc<Volume>),
    Raw(RawVolume),
    Sealed(BlockFile),
}

/// What it takes to keep a volume open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeping {
    /// sled keeps nearly all of it in memory.
    Memory,
    /// A table of its blocks, of some 100 KiB.
    Table,
}

/// Removes the files of a volume that another took the place of, when the last reader lets go of it.
struct Removal {
    path: PathBuf,
    due: AtomicBool,
}

impl Drop for Removal {
    fn drop(&mut self) {
        if self.due.load(Ordering::Acquire) {
            remove(&self.path);
        }
    }
}

/// Removes a volume that nobody reads. What cannot be removed is removed when the log is opened again.
pub(super) fn remove(path: &std::path::Path) {
    let removed = if path.is_dir() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
    if let Err(error) = removed {
        tracing::warn!(path = %path.display(), %error, "a volume that was replaced could not be removed");
    }
}

impl Stored {
    pub(super) fn written(volume: Arc<Volume>, path: PathBuf) -> Self {
        Self {
            kind: Kind::Written(volume),
            removal: Removal::of(path),
        }
    }

    pub(super) fn sealed(file: BlockFile, path: PathBuf) -> Self {
        Self {
            kind: Kind::Sealed(file),
            removal: Removal::of(path),
        }
    }

    pub(super) fn raw(volume: RawVolume, path: PathBuf) -> Self {
        Self {
            kind: Kind::Raw(volume),
            removal: Removal::of(path),
        }
    }

    pub(super) fn keeping(&self) -> Keeping {
        match &self.kind {
            Kind::Written(_) => Keeping::Memory,
            Kind::Raw(_) | Kind::Sealed(_) => Keeping::Table,
        }
    }

    /// Has the files removed when nobody reads them any more.
    pub(super) fn remove_when_unused(&self) {
        self.removal.due.store(true, Ordering::Release);
    }

    /// The block that contains `position`; `None` if the volume ends before it.
    pub(super) fn block_at(&self, position: Position) -> Result<Option<Block>, LogError> {
        match self.scan(position)?.next().transpose()? {
            Some(block) if (block.first()..=block.last()).contains(&position) => Ok(Some(block)),
            _ => Ok(None),
        }
    }

    /// The first position of the block that contains `position`, or of the last one before it.
    pub(super) fn block_start(&self, position: Position) -> Result<Option<Position>, LogError> {
        match &self.kind {
            Kind::Written(volume) => volume.block_start(position),
            Kind::Raw(raw) => Ok(raw.block_before(position).and_then(|number| raw.block_first(number))),
            Kind::Sealed(file) => Ok(file.block_before(position).and_then(|number| file.block_first(number))),
        }
    }

    /// Blocks in order, beginning with the one that contains `position` or, if none does, with the next.
    pub(super) fn scan(&self, position: Position) -> Result<Blocks<'_>, LogError> {
        Ok(match &self.kind {
            Kind::Written(volume) => Blocks::Written(Box::new(volume.scan(position)?)),
            Kind::Raw(raw) => Blocks::Raw(raw, Some(raw.block_before(position).unwrap_or(0))),
            Kind::Sealed(file) => Blocks::Sealed(file, Some(file.block_before(position).unwrap_or(0))),
        })
    }

    /// First position of the next block that begins after `position`.
    pub(super) fn start_after(&self, position: Position) -> Result<Option<Position>, LogError> {
        match &self.kind {
            Kind::Written(volume) => volume.start_after(position),
            Kind::Raw(raw) => Ok(raw.block_first(raw.block_before(position).map_or(0, |number| number + 1))),
            Kind::Sealed(file) => {
                let next = file.block_before(position).map_or(0, |number| number + 1);
                Ok(file.block_first(next))
            }
        }
    }
}

impl Removal {
    fn of(path: PathBuf) -> Self {
        Self {
            path,
            due: AtomicBool::new(false),
        }
    }
}

/// Blocks of a volume in order; ends behind one that cannot be read.
pub(super) enum Blocks<'a> {
    Written(Box<volume::Blocks<'a>>),
    Raw(&'a RawVolume, Option<usize>),
    Sealed(&'a BlockFile, Option<usize>),
}

impl Blocks<'_> {
    /// The next block with the frame that it is stored as; a block of several parts has the frame of the first.
    pub(super) fn next_stored(&mut self) -> Option<Result<(Block, Vec<u8>), LogError>> {
        match self {
            Self::Written(blocks) => {
                let stored = blocks.next_stored()?;
                Some(stored.map(|(block, frame)| (block, frame.to_vec())))
            }
            Self::Raw(raw, at) => next_of(at, |number| raw.block_and_frame(number)),
            Self::Sealed(file, at) => next_of(at, |number| file.block_and_frame(number)),
        }
    }
}

impl Iterator for Blocks<'_> {
    type Item = Result<Block, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Written(blocks) => blocks.next(),
            Self::Raw(raw, at) => next_of(at, |number| raw.block(number)),
            Self::Sealed(file, at) => next_of(at, |number| file.block(number)),
        }
    }
}

/// Reads the block whose turn it is; behind one that cannot be read there is none.
fn next_of<T>(
    at: &mut Option<usize>,
    read: impl FnOnce(usize) -> Result<Option<T>, LogError>,
) -> Option<Result<T, LogError>> {
    let number = at.take()?;
    let read = read(number).transpose()?;
    *at = read.is_ok().then_some(number + 1);
    Some(read)
}

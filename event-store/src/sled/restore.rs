//! Writes a log as it is after a restore or a salvage: sealed volumes with the blocks that are given, an empty volume to go on with, and
//! the manifest of a new history.

use super::manifest::{Manifest, Parent, VolumeEntry};
use super::volume::Volume;
use crate::block_file::{BlockFile, BlockFileWriter};
use crate::files::sync_dir;
use crate::frame::{FrameMeta, encode_frame};
use crate::secret::LogSecret;
use annals_core::{Block, Epoch, LogError, Position};
use serde_json::json;
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Largest sealed volume that is written, bytes.
const VOLUME_BYTES_MAX: u64 = 128 << 20;
/// sled's cache while the empty volume is made, bytes.
const CACHE_BYTES: u64 = 1 << 20;

/// Where the log comes from.
pub(crate) struct Origin {
    pub(crate) epoch: Epoch,
    pub(crate) head: Position,
    pub(crate) secret: [u8; 32],
}

/// Why a log was not written.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// The blocks that it was to be written of cannot be read.
    Blocks(LogError),
    /// Writing failed.
    Writing(io::Error),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        Self::Writing(error)
    }
}

/// What the engine and those who read back say, of a volume that was just made.
fn writing(error: LogError) -> WriteError {
    let text = match error {
        LogError::Storage(text) => text,
        other => other.to_string(),
    };
    // The engine gives the system's words alone.
    let full = text.contains("os error 28");
    let kind = if full {
        io::ErrorKind::StorageFull
    } else {
        io::ErrorKind::Other
    };
    WriteError::Writing(io::Error::new(kind, text))
}

/// Gives the blocks of a log one after the other, from position 1 on and without a gap, then `None`.
pub(crate) type NextBlock<'a> = dyn FnMut() -> Result<Option<Block>, LogError> + 'a;

/// Writes the log into `dir`; everything is synced when the new epoch is returned.
pub(crate) fn write_log(
    dir: &Path,
    origin: &Origin,
    blocks: &mut NextBlock<'_>,
    progress: &mut dyn FnMut(Position),
) -> Result<Epoch, WriteError> {
    fs::create_dir_all(dir)?;
    LogSecret::from_bytes(origin.secret).write(dir)?;
    let parent = Parent {
        epoch: origin.epoch,
        head: origin.head,
    };
    let mut manifest = Manifest::new(Some(parent), Vec::new());
    let mut next = blocks().map_err(WriteError::Blocks)?;
    while let Some(block) = next.take() {
        let mut entry = VolumeEntry::sealed_after(&VolumeEntry::written(block.first()));
        let path = entry.path(dir);
        next = write_volume(&path, manifest.epoch, block, blocks)?;
        entry.bytes = Some(fs::metadata(&path)?.len());
        manifest.volumes.push(entry);
        progress(next.as_ref().map_or(origin.head, |block| block.first().previous()));
    }
    let current = VolumeEntry::written(origin.head.next());
    let path = current.path(dir);
    let volume = Volume::open(&path, current.first, CACHE_BYTES).map_err(writing)?;
    volume.sync().map_err(writing)?;
    drop(volume);
    sync_dir(&path)?;
    manifest.volumes.push(current);
    manifest.boot = 1;
    sync_dir(dir)?;
    manifest.save(dir)?;
    Ok(manifest.epoch)
}

/// Writes one sealed volume that begins with `block`; gives the block that the next one begins with.
fn write_volume(
    path: &Path,
    epoch: Epoch,
    block: Block,
    blocks: &mut NextBlock<'_>,
) -> Result<Option<Block>, WriteError> {
    let first = block.first();
    let head = json!({"kind": "volume", "epoch": epoch, "first": first});
    let file = File::create(path)?;
    let mut out = BlockFileWriter::new(io::BufWriter::new(file), head.to_string().as_bytes())?;
    let meta = FrameMeta {
        epoch,
        boot: 1,
        first,
        count: 0,
        part: 0,
        parts: 1,
    };
    let (mut bytes, mut next) = (0, Some(block));
    while let Some(block) = next.take_if(|_| bytes < VOLUME_BYTES_MAX) {
        let frame = encode_frame(&block, meta);
        out.frame(&block, &frame)?;
        bytes += frame.len() as u64;
        next = blocks().map_err(WriteError::Blocks)?;
    }
    let (file, _) = out.finish()?;
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    let written = BlockFile::open(path, first).and_then(|file| file.check_digest(&mut |_| ()));
    written.map_err(writing)?;
    Ok(next)
}

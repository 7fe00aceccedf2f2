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

fn storage(error: impl std::fmt::Display) -> LogError {
    LogError::Storage(format!("the new log cannot be written: {error}"))
}

/// Gives the blocks of a log one after the other, from position 1 on and without a gap, then `None`.
pub(crate) type NextBlock<'a> = dyn FnMut() -> Result<Option<Block>, LogError> + 'a;

/// Writes the log into `dir`; everything is synced when the new epoch is returned.
pub(crate) fn write_log(
    dir: &Path,
    origin: &Origin,
    blocks: &mut NextBlock<'_>,
    progress: &mut dyn FnMut(Position),
) -> Result<Epoch, LogError> {
    fs::create_dir_all(dir).map_err(storage)?;
    LogSecret::from_bytes(origin.secret).write(dir).map_err(storage)?;
    let parent = Parent {
        epoch: origin.epoch,
        head: origin.head,
    };
    let mut manifest = Manifest::new(Some(parent), Vec::new());
    let mut next = blocks()?;
    while let Some(block) = next.take() {
        let entry = VolumeEntry::sealed_after(&VolumeEntry::written(block.first()));
        next = write_volume(&entry.path(dir), manifest.epoch, block, blocks)?;
        manifest.volumes.push(entry);
        progress(next.as_ref().map_or(origin.head, |block| block.first().previous()));
    }
    let current = VolumeEntry::written(origin.head.next());
    let path = current.path(dir);
    let volume = Volume::open(&path, current.first, CACHE_BYTES)?;
    volume.sync()?;
    drop(volume);
    sync_dir(&path).map_err(storage)?;
    manifest.volumes.push(current);
    manifest.boot = 1;
    sync_dir(dir).map_err(storage)?;
    manifest.save(dir).map_err(storage)?;
    Ok(manifest.epoch)
}

/// Writes one sealed volume that begins with `block`; gives the block that the next one begins with.
fn write_volume(
    path: &Path,
    epoch: Epoch,
    block: Block,
    blocks: &mut NextBlock<'_>,
) -> Result<Option<Block>, LogError> {
    let first = block.first();
    let head = json!({"kind": "volume", "epoch": epoch, "first": first});
    let file = File::create(path).map_err(storage)?;
    let mut out = BlockFileWriter::new(io::BufWriter::new(file), head.to_string().as_bytes()).map_err(storage)?;
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
        out.frame(&block, &frame).map_err(storage)?;
        bytes += frame.len() as u64;
        next = blocks()?;
    }
    let (file, _) = out.finish().map_err(storage)?;
    let file = file.into_inner().map_err(|error| storage(error.error()))?;
    file.sync_all().map_err(storage)?;
    BlockFile::open(path, first)?.check_digest(&mut |_| ())?;
    Ok(next)
}

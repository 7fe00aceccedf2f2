//! Writes a log as it is after a restore: sealed volumes with the blocks of a backup, an empty volume to go on with, and
//! the manifest of a new history.

use super::manifest::{Manifest, Parent, VolumeEntry};
use super::volume::Volume;
use crate::block_file::{BlockFile, BlockFileWriter};
use crate::files::{sync_dir, write_atomically};
use crate::frame::{FrameMeta, encode_frame};
use annals_core::{Epoch, LogError, Position};
use serde_json::json;
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Largest sealed volume that is written, bytes.
const VOLUME_BYTES_MAX: u64 = 128 << 20;
/// sled's cache while the empty volume is made, bytes.
const CACHE_BYTES: u64 = 1 << 20;

/// Where a restored log comes from.
pub(crate) struct Origin {
    pub(crate) epoch: Epoch,
    pub(crate) head: Position,
    pub(crate) secret: [u8; 32],
}

fn storage(error: impl std::fmt::Display) -> LogError {
    LogError::Storage(format!("restoring: {error}"))
}

/// Writes the log into `dir`; everything is synced when the new epoch is returned.
pub(crate) fn write_log(
    dir: &Path,
    origin: &Origin,
    blocks: &BlockFile,
    progress: &mut dyn FnMut(Position),
) -> Result<Epoch, LogError> {
    fs::create_dir_all(dir).map_err(storage)?;
    write_atomically(&dir.join("secret"), &origin.secret).map_err(storage)?;
    let parent = Parent {
        epoch: origin.epoch,
        head: origin.head,
    };
    let mut manifest = Manifest::new(Some(parent), Vec::new());
    let mut number = 0;
    while number < blocks.blocks() {
        let (entry, next) = write_volume(dir, manifest.epoch, blocks, number)?;
        manifest.volumes.push(entry);
        number = next;
        progress(blocks.block_first(number).map_or(origin.head, Position::previous));
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

/// Writes one sealed volume that begins with the block of this number; gives the number of the next one.
fn write_volume(
    dir: &Path,
    epoch: Epoch,
    blocks: &BlockFile,
    mut number: usize,
) -> Result<(VolumeEntry, usize), LogError> {
    let first = blocks.block_first(number).unwrap_or_default();
    let entry = VolumeEntry::sealed_after(&VolumeEntry::written(first));
    let path = entry.path(dir);
    let head = json!({"kind": "volume", "epoch": epoch, "first": first});
    let file = File::create(&path).map_err(storage)?;
    let mut out = BlockFileWriter::new(io::BufWriter::new(file), head.to_string().as_bytes()).map_err(storage)?;
    let meta = FrameMeta {
        epoch,
        boot: 1,
        first,
        count: 0,
        part: 0,
        parts: 1,
    };
    let mut bytes = 0;
    while let Some(block) = blocks.block(number)? {
        let frame = encode_frame(&block, meta);
        out.frame(&block, &frame).map_err(storage)?;
        bytes += frame.len() as u64;
        number += 1;
        if bytes >= VOLUME_BYTES_MAX {
            break;
        }
    }
    let (file, _) = out.finish().map_err(storage)?;
    let file = file.into_inner().map_err(|error| storage(error.error()))?;
    file.sync_all().map_err(storage)?;
    BlockFile::open(&path, first)?.check_digest(&mut |_| ())?;
    Ok((entry, number))
}

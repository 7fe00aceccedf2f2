//! Looks whether the volumes that the manifest names are there, as long as they were written, before anything is done to the
//! log: writing on would take from the journal what a lost volume could still be salvaged from. Files are not read, so that
//! this takes no longer for a large log; but for the newest closed volume that is not sealed yet, which the journal may reach
//! back into.

use super::manifest::{Manifest, VolumeEntry};
use super::raw_volume::{Extent, RawVolume};
use super::recover;
use super::settings::OpenError;
use crate::block_file::BlockFile;
use annals_core::Position;
use std::io;
use std::path::Path;

/// An error that names the first volume that is missing, empty or cut. The last volume, which is written, has to be there.
/// Lengths that an earlier version did not write down are added to the manifest.
pub(super) fn check(dir: &Path, manifest: &mut Manifest) -> Result<(), OpenError> {
    let (epoch, boot) = (manifest.epoch, manifest.boot);
    let starts: Vec<Position> = manifest.volumes.iter().map(|entry| entry.first).collect();
    let closed = manifest.volumes.iter_mut().zip(starts.iter().skip(1));
    let newest = starts.len().saturating_sub(2);
    for (at, (entry, next)) in closed.enumerate() {
        check_len(dir, entry)?;
        if at == newest && !entry.is_sealed() {
            let (first, end) = (entry.first, next.previous());
            let extent = Extent {
                first,
                end,
                epoch,
                boot,
            };
            check_end(&entry.path(dir), extent)?;
        }
    }
    check_last(dir, manifest)
}

/// A volume is durable before it is named, but for the first one of a log that was never opened. The engine would make a new
/// one in the place of one that is gone.
fn check_last(dir: &Path, manifest: &Manifest) -> Result<(), OpenError> {
    let Some(last) = manifest.volumes.last().filter(|_| manifest.boot > 0) else {
        return Ok(());
    };
    let path = last.path(dir);
    match path.join("db").try_exists() {
        Ok(true) => Ok(()),
        // A crash between two renames, which is finished next.
        Ok(false) if recover::rebuilding(&path).exists() => Ok(()),
        Ok(false) => Err(damaged(last.first, &path, "is missing")),
        Err(error) => Err(OpenError::storage(&path, error)),
    }
}

fn damaged(position: Position, path: &Path, what: &str) -> OpenError {
    let detail = format!("volume {} {what}", path.display());
    OpenError::Damaged { position, detail }
}

fn check_len(dir: &Path, entry: &mut VolumeEntry) -> Result<(), OpenError> {
    let path = entry.path(dir);
    let file = if entry.is_sealed() {
        path.clone()
    } else {
        path.join("db")
    };
    let len = match std::fs::metadata(&file) {
        Ok(found) => found.len(),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Err(damaged(entry.first, &path, "is missing"));
        }
        Err(error) => return Err(OpenError::storage(&file, error)),
    };
    match entry.bytes {
        Some(bytes) if bytes != len => {
            let what = format!("has {len} bytes, and {bytes} were written");
            Err(damaged(entry.first, &path, &what))
        }
        None if len == 0 => Err(damaged(entry.first, &path, "is empty")),
        None if entry.is_sealed() => {
            // Once: its end says whether it is all there.
            BlockFile::open(&path, entry.first)?;
            entry.bytes = Some(len);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// An error if the last event of a closed volume is not in it.
fn check_end(path: &Path, extent: Extent) -> Result<(), OpenError> {
    let volume = RawVolume::open(path, extent)?;
    if volume.last() >= extent.end {
        return Ok(());
    }
    let what = format!("ends before it, and should go up to {}", extent.end);
    Err(damaged(volume.last().next().max(extent.first), path, &what))
}

//! What happens to the last volume after an unclean stop, before and after sled opens it: nothing that was acknowledged
//! may be missing afterwards, and whatever is done is said.

use super::examine::{Case, Examined, Raw, beside, key_of, remove_if_there, rescue_file, storage};
use super::manifest::Manifest;
use super::probe::{ProbeCommand, examine_with};
use super::settings::OpenError;
use super::volume::Volume;
use crate::files::sync_dir;
use crate::salvage::RawFiles;
use annals_core::{LogError, Position};
use std::fs;
use std::path::{Path, PathBuf};

/// How many bytes are written between two syncs while blocks are inserted anew.
const SYNC_BYTES: usize = 256 * 1024;
/// How many damaged databases of one volume are kept.
const DAMAGED_MAX: u32 = 100;

/// Looks at the last volume before sled opens it, and rebuilds it if sled cannot open it. `journal` is where the groups
/// in the journal begin; `probe` is who looks at it. `None`: there is nothing to look at.
pub(super) fn before_open(
    dir: &Path,
    manifest: &Manifest,
    journal: Option<Position>,
    probe: Option<&ProbeCommand>,
) -> Result<Option<Examined>, OpenError> {
    let Some(last) = manifest.volumes.last() else {
        return Ok(None);
    };
    let (first, path) = (last.first, last.path(dir));
    finish_rebuild(dir, &path)?;
    if !path.join("db").exists() {
        // The log was created and never opened. Any other volume was synced before the manifest named it.
        return if manifest.boot == 0 && first <= Position::new(1) {
            Ok(None)
        } else {
            let detail = format!("volume {} is missing", path.display());
            Err(OpenError::Damaged {
                position: first,
                detail,
            })
        };
    }
    if manifest.clean && !rescue_file(&path).exists() {
        return Ok(None);
    }
    let (epoch, boot) = (manifest.epoch, manifest.boot);
    let case = Case {
        path,
        first,
        epoch,
        boot,
    };
    let mut examined = examine_with(probe, &case)?;
    if let Some(why) = examined.broken.take() {
        examined = rebuild(dir, &case, &why, journal)?;
    }
    if examined.last > examined.proven && !covers(journal, examined.proven.next()) {
        let detail = format!("it is missing, and there are blocks of events up to {}", examined.last);
        let position = examined.proven.next();
        return Err(OpenError::Damaged { position, detail });
    }
    Ok(Some(examined))
}

fn covers(journal: Option<Position>, next: Position) -> bool {
    journal.is_some_and(|from| from <= next)
}

/// Inserts the blocks that sled did not show, and removes those behind a gap: the journal has them and the gap.
pub(super) fn insert_rescued(dir: &Path, examined: &Examined, volume: &Volume) -> Result<(), LogError> {
    let path = rescue_file(volume.path());
    if examined.last > examined.proven {
        volume.remove_after(examined.proven)?;
    }
    if let Some((from, to)) = examined.rescued {
        let mut files = RawFiles::default();
        files.add(&path, 0, &mut |_| ())?;
        let mut entries = files
            .frames
            .iter()
            .map(|frame| Ok((key_of(frame), files.bytes(frame)?)));
        insert_all(volume, &mut entries)?;
        tracing::warn!(
            from = from.get(),
            to = to.get(),
            "the storage engine did not show these events after the crash; they were brought back from its raw file"
        );
    }
    match fs::remove_file(&path) {
        Ok(()) => sync_dir(dir).map_err(storage(dir)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(storage(&path)(error)),
    }
}

fn insert_all(
    volume: &Volume,
    entries: &mut dyn Iterator<Item = Result<(Vec<u8>, Vec<u8>), LogError>>,
) -> Result<(), LogError> {
    let mut unsynced = 0;
    for entry in entries {
        let (key, frame) = entry?;
        unsynced += frame.len();
        volume.insert(&key, frame)?;
        if unsynced > SYNC_BYTES {
            volume.sync()?;
            unsynced = 0;
        }
    }
    volume.sync()
}

pub(super) fn rebuilding(volume: &Path) -> PathBuf {
    beside(volume, "rebuilding")
}

/// Builds the volume anew from the blocks in its raw file, if none is missing that the journal does not have. The
/// damaged database is kept beside it.
fn rebuild(dir: &Path, case: &Case, why: &str, journal: Option<Position>) -> Result<Examined, OpenError> {
    let raw = Raw::read(case)?;
    let next = raw.found.proven.next();
    let in_journal = covers(journal, next);
    let damaged = |position: Position, what: &str| OpenError::Damaged {
        position,
        detail: format!("{why}, and {what}"),
    };
    if raw.spine.is_empty() && !in_journal {
        return Err(damaged(case.first, "in its raw file no block is whole"));
    }
    if raw.found.last > raw.found.proven && !in_journal {
        return Err(damaged(next, "in its raw file blocks are missing from here on"));
    }
    let new = rebuilding(&case.path);
    remove_if_there(&new).map_err(storage(&new))?;
    let volume = Volume::open(&new, case.first, 1 << 20)?;
    insert_all(
        &volume,
        &mut raw.spine.iter().map(|frame| Ok((key_of(frame), raw.bytes(frame)?))),
    )?;
    drop(volume);
    sync_dir(&new).map_err(storage(&new))?;
    let aside = set_aside(&case.path)?;
    fs::rename(&new, &case.path).map_err(storage(&case.path))?;
    sync_dir(dir).map_err(storage(dir))?;
    tracing::warn!(
        from = case.first.get(),
        to = raw.found.proven.get(),
        why,
        kept = %aside.display(),
        "the last volume was damaged and has been rebuilt from its blocks; the damaged files are kept"
    );
    Ok(raw.found)
}

/// Moves a damaged database out of the way. It stays: what it still holds may be wanted.
fn set_aside(volume: &Path) -> Result<PathBuf, OpenError> {
    let free = (1..=DAMAGED_MAX).map(|number| beside(volume, &format!("damaged-{number}")));
    let aside = free.into_iter().find(|path| !path.exists()).ok_or_else(|| {
        let said = format!("{DAMAGED_MAX} damaged copies of it are kept already: look into them, then move them away");
        OpenError::storage(volume, said)
    })?;
    fs::rename(volume, &aside).map_err(storage(volume))?;
    Ok(aside)
}

/// A rebuild that was interrupted between its two renames is finished; one that was interrupted before is forgotten.
fn finish_rebuild(dir: &Path, volume: &Path) -> Result<(), OpenError> {
    let new = rebuilding(volume);
    if !new.exists() {
        return Ok(());
    }
    if volume.exists() {
        remove_if_there(&new).map_err(storage(&new))?;
    } else {
        fs::rename(&new, volume).map_err(storage(volume))?;
    }
    sync_dir(dir).map_err(storage(dir))?;
    Ok(())
}

//! The set of volumes: which one holds a position, few of them open at a time, rolling on to the next, and putting a
//! sealed one in the place of others. Readers see each position once, whatever is done meanwhile.

use super::manifest::{Manifest, VolumeEntry};
use super::opened::{Opened, Seen};
use super::raw_volume::{Extent, RawVolume};
use super::stored::{self, Stored};
use super::volume::Volume;
use crate::block_file::BlockFile;
use crate::files::sync_dir;
use annals_core::{Epoch, LogError, Position};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

/// How long a volume that its last reader is closing may hold its lock.
const CLOSING_MAX: Duration = Duration::from_secs(10);

/// What readers look up.
struct Table {
    /// Ascending; the last one is the volume that is written.
    entries: Vec<VolumeEntry>,
    current: Arc<Volume>,
    current_stored: Arc<Stored>,
}

pub(super) struct Volumes {
    dir: PathBuf,
    cache_bytes: u64,
    /// Epoch and boot number, as the manifest has them while the log is open.
    history: (Epoch, u64),
    manifest: Mutex<Manifest>,
    table: RwLock<Table>,
    opened: Mutex<Opened>,
    /// Held by who replaces volumes; names of damaged ones, which are passed over.
    sealing: Mutex<BTreeSet<String>>,
}

fn storage(error: impl std::fmt::Display) -> LogError {
    LogError::Storage(error.to_string())
}

/// Opens a volume of sled's. Its last reader, or what sled leaves to its own threads when a log of this process is closed,
/// may be closing it this moment, which takes a while and holds its lock.
fn open_written(path: &Path, first: Position, cache_bytes: u64) -> Result<Volume, LogError> {
    let deadline = Instant::now() + CLOSING_MAX;
    loop {
        match Volume::open(path, first, cache_bytes) {
            Err(LogError::Storage(_)) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            opened => return opened,
        }
    }
}

impl Volumes {
    /// Opens the last volume of the manifest; counts this opening, and removes what a crash left of others.
    pub(super) fn open(dir: &Path, mut manifest: Manifest, cache_bytes: u64) -> Result<Self, LogError> {
        let last = manifest.volumes.last().cloned();
        let last = last.unwrap_or_else(|| VolumeEntry::written(Position::new(1)));
        let path = last.path(dir);
        let current = Arc::new(open_written(&path, last.first, cache_bytes)?);
        // Before the manifest counts this opening: from then on a volume that is not there is one that was lost.
        sync_dir(&path).and_then(|()| sync_dir(dir)).map_err(storage)?;
        manifest.boot += 1;
        manifest.clean = false;
        manifest.save(dir).map_err(storage)?;
        manifest.remove_leftovers(dir).map_err(storage)?;
        let table = Table {
            entries: manifest.volumes.clone(),
            current_stored: Arc::new(Stored::written(current.clone(), path)),
            current,
        };
        Ok(Self {
            dir: dir.to_owned(),
            cache_bytes,
            history: (manifest.epoch, manifest.boot),
            manifest: Mutex::new(manifest),
            table: RwLock::new(table),
            opened: Mutex::default(),
            sealing: Mutex::default(),
        })
    }

    fn manifest(&self) -> MutexGuard<'_, Manifest> {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened(&self) -> MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held while volumes are replaced: one at a time. Names of damaged volumes, which stay as they are.
    pub(super) fn sealing(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.sealing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn boot(&self) -> u64 {
        self.history.1
    }

    /// The volume that is written.
    pub(super) fn current(&self) -> Arc<Volume> {
        self.table().current.clone()
    }

    /// The volume that holds `position`, and the first position of the next one if there is one.
    pub(super) fn containing(&self, position: Position) -> Result<(Arc<Stored>, Option<Position>), LogError> {
        loop {
            let (entry, next) = {
                let table = self.table();
                if position >= table.current.first {
                    return Ok((table.current_stored.clone(), None));
                }
                let after = table.entries.partition_point(|entry| entry.first <= position);
                let entry = after.checked_sub(1).and_then(|at| table.entries.get(at)).cloned();
                let entry = entry.ok_or_else(|| LogError::Damaged {
                    position,
                    detail: "no volume holds it".into(),
                })?;
                (entry, table.entries.get(after).map(|entry| entry.first))
            };
            // None: another volume took its place meanwhile.
            if let Some(volume) = self.closed(&entry)? {
                return Ok((volume, next));
            }
        }
    }

    /// Opens a closed volume; `None` if it is not part of the log any more.
    pub(super) fn closed(&self, entry: &VolumeEntry) -> Result<Option<Arc<Stored>>, LogError> {
        let slot = self.opened().slots.entry(entry.name.clone()).or_default().clone();
        let volume = {
            let mut seen = slot.lock().unwrap_or_else(PoisonError::into_inner);
            // Looked at while the slot is held: what is taken out of the table is removed only with its slot held.
            if !self.table().entries.contains(entry) {
                self.opened().slots.remove(&entry.name);
                return Ok(None);
            }
            match seen.volume()? {
                Some(volume) => volume,
                None => {
                    let opened = self.open_closed(entry).map(Arc::new);
                    match &opened {
                        Ok(volume) => *seen = Seen::Open(Arc::downgrade(volume)),
                        Err(error @ LogError::Damaged { .. }) => {
                            tracing::error!(volume = entry.name, %error, "a volume is damaged");
                            *seen = Seen::Damaged(error.clone());
                        }
                        Err(_) => {}
                    }
                    opened?
                }
            }
        };
        let gone = self.opened().keep(&entry.name, &volume);
        drop(gone);
        Ok(Some(volume))
    }

    fn open_closed(&self, entry: &VolumeEntry) -> Result<Stored, LogError> {
        let (path, first) = (entry.path(&self.dir), entry.first);
        if entry.is_sealed() {
            let file = BlockFile::open(&path, first)?;
            if file.first() != first {
                return Err(LogError::Damaged {
                    position: first,
                    detail: format!("{} begins at {}", path.display(), file.first()),
                });
            }
            return Ok(Stored::sealed(file, path));
        }
        let (epoch, boot) = self.history;
        let next = self
            .table()
            .entries
            .iter()
            .map(|entry| entry.first)
            .find(|next| *next > first);
        let end = next.map_or(first.previous(), Position::previous);
        let extent = Extent {
            first,
            end,
            epoch,
            boot,
        };
        Ok(Stored::raw(RawVolume::open(&path, extent)?, path))
    }

    /// First positions of all volumes, ascending.
    pub(super) fn starts(&self) -> Vec<Position> {
        self.table().entries.iter().map(|entry| entry.first).collect()
    }

    /// All volumes, ascending; the last one is written.
    pub(super) fn entries(&self) -> Vec<VolumeEntry> {
        self.table().entries.clone()
    }

    /// Closes the current volume and begins the next at `first`. The new one is durable before it is named.
    pub(super) fn roll(&self, first: Position) -> Result<(), LogError> {
        let entry = VolumeEntry::written(first);
        let path = entry.path(&self.dir);
        if path.exists() {
            // Left by a crash before it was named in the manifest: it holds nothing.
            fs::remove_dir_all(&path).map_err(storage)?;
        }
        let volume = Arc::new(Volume::open(&path, first, self.cache_bytes)?);
        volume.sync()?;
        sync_dir(&path).and_then(|()| sync_dir(&self.dir)).map_err(storage)?;
        let stored = Arc::new(Stored::written(volume.clone(), path));
        let mut manifest = self.manifest();
        let mut changed = manifest.clone();
        changed.volumes.push(entry);
        changed.save(&self.dir).map_err(storage)?;
        *manifest = changed;
        let gone = {
            let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
            let name = table.entries.last().map(|entry| entry.name.clone()).unwrap_or_default();
            let closed = std::mem::replace(&mut table.current_stored, stored);
            table.current = volume;
            table.entries = manifest.volumes.clone();
            // Opened already: readers near the head go on without opening it anew.
            let mut opened = self.opened();
            let seen = Seen::Open(Arc::downgrade(&closed));
            opened.slots.insert(name.clone(), Arc::new(Mutex::new(seen)));
            opened.keep(&name, &closed)
        };
        drop(gone);
        Ok(())
    }

    /// Puts `new`, which is durable, in the place of the adjacent closed volumes `old`: in the manifest, then for
    /// readers, in one step. The old ones are removed when their last readers let go of them.
    pub(super) fn replace(&self, old: &[VolumeEntry], new: VolumeEntry) -> Result<(), LogError> {
        {
            let mut manifest = self.manifest();
            let mut changed = manifest.clone();
            let at = changed.volumes.windows(old.len().max(1)).position(|run| run == old);
            let at = at.ok_or_else(|| storage("the volumes to be replaced are not part of the log"))?;
            changed.volumes.splice(at..at + old.len(), [new]);
            changed.save(&self.dir).map_err(storage)?;
            *manifest = changed;
            let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
            table.entries = manifest.volumes.clone();
        }
        old.iter().for_each(|entry| self.retire(entry));
        Ok(())
    }

    /// Removes a volume that is not in the table any more, now or when its last reader lets go of it.
    fn retire(&self, entry: &VolumeEntry) {
        let slot = self.opened().slots.entry(entry.name.clone()).or_default().clone();
        let seen = slot.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.volume() {
            Ok(Some(volume)) => volume.remove_when_unused(),
            Ok(None) | Err(_) => stored::remove(&entry.path(&self.dir)),
        }
        drop(seen);
        let (kept, _) = {
            let mut opened = self.opened();
            (opened.forget(&entry.name), opened.slots.remove(&entry.name))
        };
        drop(kept);
    }

    /// Says in the manifest that everything was written.
    pub(super) fn mark_clean(&self) -> std::io::Result<()> {
        let mut manifest = self.manifest();
        manifest.clean = true;
        manifest.save(&self.dir)
    }
}

#[cfg(test)]
mod tests {
    use super::super::opened::{Slot, WRITTEN_OPEN_MAX};
    use super::super::stored::Keeping;
    use super::*;

    #[test]
    fn a_volume_that_a_reader_still_holds_is_not_opened_twice() {
        let dir = tempfile::tempdir().unwrap();
        let (manifest, _) = Manifest::open(dir.path()).unwrap();
        let volumes = Volumes::open(dir.path(), manifest, 1 << 20).unwrap();
        for first in 2..=9 {
            volumes.roll(Position::new(first)).unwrap();
        }
        let (held, next) = volumes.containing(Position::new(1)).unwrap();
        assert_eq!(next, Some(Position::new(2)));
        for first in 2..=8 {
            volumes.containing(Position::new(first)).unwrap();
        }
        let (again, _) = volumes.containing(Position::new(1)).unwrap();
        assert!(Arc::ptr_eq(&held, &again), "sled would refuse to open it a second time");
    }

    #[test]
    fn few_closed_volumes_stay_open() {
        let dir = tempfile::tempdir().unwrap();
        let (manifest, _) = Manifest::open(dir.path()).unwrap();
        let volumes = Volumes::open(dir.path(), manifest, 1 << 20).unwrap();
        for first in 2..=9 {
            volumes.roll(Position::new(first)).unwrap();
        }
        for first in 1..=8 {
            volumes.containing(Position::new(first)).unwrap();
        }
        let slots: Vec<Slot> = volumes.opened().slots.values().cloned().collect();
        let open = slots.iter().filter_map(|slot| slot.lock().unwrap().volume().unwrap());
        let in_memory = open.filter(|volume| volume.keeping() == Keeping::Memory).count();
        assert_eq!(in_memory, WRITTEN_OPEN_MAX);
    }
}

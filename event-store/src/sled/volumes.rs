//! The set of volumes: which one holds a position, few of them open at a time, and rolling on to the next.

use super::manifest::{Manifest, volume_path};
use super::volume::Volume;
use crate::files::sync_dir;
use annals_core::{LogError, Position};
use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

/// How many closed volumes stay open for readers; closing one frees its cache.
const OPEN_MAX: usize = 4;
/// How long a volume that its last reader is closing may hold its lock.
const CLOSING_MAX: Duration = Duration::from_secs(10);

/// Closed volumes that are open for reading.
#[derive(Default)]
struct Opened {
    /// Kept open, least recently used first.
    recent: VecDeque<Arc<Volume>>,
    /// Also those that only a reader still holds: a volume can be open once at a time.
    all: Vec<Weak<Volume>>,
}

impl Opened {
    fn find(&mut self, first: Position) -> Option<Arc<Volume>> {
        self.all.retain(|volume| volume.strong_count() > 0);
        self.all
            .iter()
            .filter_map(Weak::upgrade)
            .find(|volume| volume.first == first)
    }

    fn keep(&mut self, volume: &Arc<Volume>) {
        self.recent.retain(|kept| kept.first != volume.first);
        self.recent.push_back(volume.clone());
        if self.recent.len() > OPEN_MAX {
            self.recent.pop_front();
        }
        if !self
            .all
            .iter()
            .filter_map(Weak::upgrade)
            .any(|known| known.first == volume.first)
        {
            self.all.push(Arc::downgrade(volume));
        }
    }
}

pub(super) struct Volumes {
    dir: PathBuf,
    cache_bytes: u64,
    manifest: Mutex<Manifest>,
    /// First positions, ascending, and the volume that is written.
    current: RwLock<(Vec<Position>, Arc<Volume>)>,
    opened: Mutex<Opened>,
}

impl Volumes {
    /// Opens the last volume of the manifest; counts this opening.
    pub(super) fn open(dir: &Path, mut manifest: Manifest, cache_bytes: u64) -> Result<Self, LogError> {
        let last = manifest.volumes.last().copied().unwrap_or(Position::new(1));
        let path = volume_path(dir, last);
        let volume = Arc::new(Volume::open(&path, last, cache_bytes)?);
        manifest.boot += 1;
        manifest.clean = false;
        let storage = |error: std::io::Error| LogError::Storage(error.to_string());
        manifest.save(dir).map_err(storage)?;
        sync_dir(&path).and_then(|()| sync_dir(dir)).map_err(storage)?;
        let current = RwLock::new((manifest.volumes.clone(), volume));
        let opened = Mutex::default();
        Ok(Self {
            dir: dir.to_owned(),
            cache_bytes,
            manifest: Mutex::new(manifest),
            current,
            opened,
        })
    }

    fn manifest(&self) -> MutexGuard<'_, Manifest> {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn boot(&self) -> u64 {
        self.manifest().boot
    }

    /// The volume that is written.
    pub(super) fn current(&self) -> Arc<Volume> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// The volume that holds `position`, and the first position of the next one if there is one.
    pub(super) fn containing(&self, position: Position) -> Result<(Arc<Volume>, Option<Position>), LogError> {
        let (first, next) = {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            let (starts, volume) = &*current;
            if position >= volume.first {
                return Ok((volume.clone(), None));
            }
            let after = starts.partition_point(|first| *first <= position);
            let first = after.checked_sub(1).and_then(|at| starts.get(at)).copied();
            let first = first.ok_or_else(|| LogError::Damaged {
                position,
                detail: "no volume holds it".into(),
            })?;
            (first, starts.get(after).copied())
        };
        self.closed(first).map(|volume| (volume, next))
    }

    fn closed(&self, first: Position) -> Result<Arc<Volume>, LogError> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(volume) = opened.find(first) {
            opened.keep(&volume);
            return Ok(volume);
        }
        let path = volume_path(&self.dir, first);
        if !path.join("db").exists() {
            return Err(LogError::Damaged {
                position: first,
                detail: format!("volume {} is missing", path.display()),
            });
        }
        // Its last reader may be closing it this moment, which takes a while and holds its lock.
        let deadline = Instant::now() + CLOSING_MAX;
        let volume = loop {
            match Volume::open(&path, first, self.cache_bytes) {
                Err(LogError::Storage(_)) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                opened => break Arc::new(opened?),
            }
        };
        opened.keep(&volume);
        Ok(volume)
    }

    /// First positions of all volumes, ascending.
    pub(super) fn starts(&self) -> Vec<Position> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Closes the current volume and begins the next at `first`. The new one is durable before it is named.
    pub(super) fn roll(&self, first: Position) -> Result<(), LogError> {
        let storage = |error: std::io::Error| LogError::Storage(error.to_string());
        let path = volume_path(&self.dir, first);
        if path.exists() {
            // Left by a crash before it was named in the manifest: it holds nothing.
            fs::remove_dir_all(&path).map_err(storage)?;
        }
        let volume = Arc::new(Volume::open(&path, first, self.cache_bytes)?);
        volume.sync()?;
        sync_dir(&path).and_then(|()| sync_dir(&self.dir)).map_err(storage)?;
        let mut manifest = self.manifest();
        manifest.volumes.push(first);
        manifest.save(&self.dir).map_err(storage)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let closed = std::mem::replace(&mut *current, (manifest.volumes.clone(), volume)).1;
        // Opened already: readers near the head go on without opening it anew.
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).keep(&closed);
        Ok(())
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
        assert_eq!((held.first.get(), next), (1, Some(Position::new(2))));
        for first in 2..=8 {
            volumes.containing(Position::new(first)).unwrap();
        }
        let (again, _) = volumes.containing(Position::new(1)).unwrap();
        assert!(Arc::ptr_eq(&held, &again), "sled would refuse to open it a second time");
    }
}

//! The directory of all views: which store serves which view, which one served before, and which one is being built;
//! changed in one step.
//!
//! Each store is a directory `NAME@VERSION.GENERATION`; `manifest.json` names those that count. What it does not name is
//! what a crash left of a store, and is removed at the next start.

use crate::RebuildOptions;
use crate::failures::Board;
use crate::progress::locked;
use crate::store::{RowStore, StoreError, Stores};
use crate::threads::Threads;
use annals_core::Position;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a store that was replaced may still be read by somebody.
const CLOSED_WITHIN: Duration = Duration::from_secs(30);
/// How often it is tried meanwhile.
const LOOK: Duration = Duration::from_millis(20);

const MANIFEST: &str = "manifest.json";
const MANIFEST_NEW: &str = "manifest.json.new";
const MANIFEST_FORMAT: u32 = 1;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    /// Those that serve.
    views: BTreeMap<String, Serving>,
    /// Those that served before, for a rollback.
    #[serde(default)]
    previous: BTreeMap<String, Serving>,
    /// Those that are being built, or wait to be put in place.
    #[serde(default)]
    shadows: BTreeMap<String, Unfinished>,
}

/// A store of a view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Serving {
    pub(crate) version: u32,
    pub(crate) directory: String,
}

/// A store that does not serve yet, and what is to become of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unfinished {
    #[serde(flatten)]
    pub(crate) store: Serving,
    pub(crate) stage: Stage,
    pub(crate) swap: bool,
    pub(crate) compare: bool,
    /// How far it is, if it waits.
    pub(crate) position: Position,
}

impl Unfinished {
    pub(crate) fn options(&self) -> RebuildOptions {
        RebuildOptions {
            swap: self.swap,
            compare: self.compare,
            ..RebuildOptions::default()
        }
    }
}

/// What is done with a store that does not serve yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stage {
    /// It is being built, and goes on being built after a kill.
    Building,
    /// The same, once a person says so.
    Paused,
    /// It waits to be put in place.
    Ready,
}

/// What became of the stores of a view when another one took the place.
pub(crate) struct Activated {
    /// Stores that nothing names any more.
    pub(crate) dropped: Vec<Serving>,
}

/// See the module.
pub(crate) struct ViewsDir {
    path: PathBuf,
    stores: Arc<Stores>,
    manifest: Mutex<Manifest>,
}

impl ViewsDir {
    /// Opens the directory; creates it if there is none. A manifest that cannot be read is begun anew: all views are
    /// then built again.
    pub(crate) fn open(path: &Path, stores: Arc<Stores>) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let manifest = match read_manifest(path) {
            Ok(manifest) => manifest,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the manifest of the views cannot be read: all are rebuilt");
                Manifest::default()
            }
        };
        Ok(Self {
            path: path.to_owned(),
            stores,
            manifest: Mutex::new(manifest),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Threads that all views fold with.
    pub(crate) fn threads(&self) -> Arc<Threads> {
        self.stores.threads()
    }

    /// Removes stores that the manifest does not name. Only before anything is being built.
    pub(crate) fn remove_leftovers(&self) {
        let manifest = locked(&self.manifest).clone();
        let shadows = manifest.shadows.values().map(|shadow| &shadow.store);
        let named = manifest.views.values().chain(manifest.previous.values()).chain(shadows);
        let named: Vec<&str> = named.map(|store| store.directory.as_str()).collect();
        for name in directories(&self.path) {
            if name.contains('@') && !named.contains(&name.as_str()) {
                tracing::info!(directory = %name, "removing a view store that was not finished");
                remove(&self.path.join(name));
            }
        }
    }

    /// The store that serves a view.
    pub(crate) fn serving(&self, view: &str) -> Option<Serving> {
        locked(&self.manifest).views.get(view).cloned()
    }

    /// The store that served it before.
    pub(crate) fn previous(&self, view: &str) -> Option<Serving> {
        locked(&self.manifest).previous.get(view).cloned()
    }

    /// The store that is to serve it.
    pub(crate) fn shadow(&self, view: &str) -> Option<Unfinished> {
        locked(&self.manifest).shadows.get(view).cloned()
    }

    /// Names the store that is to serve a view, so that it is found again after a kill; or none. Returns the one named
    /// before, whose directory is still there.
    pub(crate) fn set_shadow(&self, view: &str, shadow: Option<Unfinished>) -> io::Result<Option<Unfinished>> {
        let before = self.shadow(view);
        if before != shadow {
            self.change(|manifest| match shadow {
                Some(shadow) => drop(manifest.shadows.insert(view.to_owned(), shadow)),
                None => drop(manifest.shadows.remove(view)),
            })?;
        }
        Ok(before)
    }

    /// Forgets a store that is to serve a view, and removes it unless somebody has it open.
    pub(crate) fn drop_shadow(&self, view: &str) -> io::Result<bool> {
        let Some(shadow) = self.set_shadow(view, None)? else {
            return Ok(false);
        };
        self.discard(&shadow.store);
        Ok(true)
    }

    /// Forgets and removes the store that served a view before.
    pub(crate) fn drop_previous(&self, view: &str) -> io::Result<bool> {
        let Some(previous) = self.previous(view) else {
            return Ok(false);
        };
        self.change(|manifest| drop(manifest.previous.remove(view)))?;
        self.discard(&previous);
        Ok(true)
    }

    fn change(&self, change: impl FnOnce(&mut Manifest)) -> io::Result<()> {
        let mut manifest = locked(&self.manifest);
        let mut next = manifest.clone();
        next.format = MANIFEST_FORMAT;
        change(&mut next);
        let mut file = fs::File::create(self.path.join(MANIFEST_NEW))?;
        file.write_all(&serde_json::to_vec_pretty(&next)?)?;
        file.sync_all()?;
        fs::rename(self.path.join(MANIFEST_NEW), self.path.join(MANIFEST))?;
        fs::File::open(&self.path)?.sync_all()?;
        *manifest = next;
        Ok(())
    }

    /// Opens a store.
    pub(crate) fn open_serving(&self, serving: &Serving) -> Result<ViewStore, StoreError> {
        let path = self.path.join(&serving.directory);
        let rows = self.stores.open(&path)?;
        Ok(ViewStore::new(rows, path))
    }

    /// Opens a store that served until just now, once the worker and the last query have finished with it.
    pub(crate) fn open_when_closed(&self, serving: &Serving) -> Result<ViewStore, StoreError> {
        let begun = Instant::now();
        loop {
            match self.open_serving(serving) {
                Err(StoreError::InUse(_)) if begun.elapsed() < CLOSED_WITHIN => std::thread::sleep(LOOK),
                other => return other,
            }
        }
    }

    /// A new, empty store for a view.
    pub(crate) fn create(&self, view: &str, version: u32) -> Result<ViewStore, StoreError> {
        let prefix = format!("{view}@{version}.");
        // Also behind stores that are missing: their names are not used again while the manifest has them.
        let shadow = self.shadow(view).map(|shadow| shadow.store);
        let named = [self.serving(view), self.previous(view), shadow];
        let named: Vec<String> = named.into_iter().flatten().map(|store| store.directory).collect();
        let newest = directories(&self.path)
            .iter()
            .chain(&named)
            .filter_map(|name| name.strip_prefix(&prefix)?.parse::<u64>().ok())
            .max();
        let path = self.path.join(format!("{prefix}{}", newest.unwrap_or(0) + 1));
        let rows = self.stores.create(&path)?;
        Ok(ViewStore::new(rows, path))
    }

    /// Makes a synced store the one that serves its view; what served before is kept for a rollback, or dropped. On
    /// return the manifest is on the disk; the directories of stores that were dropped are still there.
    pub(crate) fn activate(
        &self,
        view: &str,
        version: u32,
        store: &ViewStore,
        keep_before: bool,
    ) -> io::Result<Activated> {
        let directory = store.directory();
        fs::File::open(&store.cleanup.path)?.sync_all()?;
        let mut dropped = Vec::new();
        self.change(|manifest| {
            let new = Serving { version, directory };
            if manifest.shadows.get(view).is_some_and(|shadow| shadow.store == new) {
                manifest.shadows.remove(view);
            }
            if manifest.previous.get(view) == Some(&new) {
                manifest.previous.remove(view);
            }
            match manifest.views.insert(view.to_owned(), new) {
                Some(before) if keep_before => dropped.extend(manifest.previous.insert(view.to_owned(), before)),
                before => dropped.extend(before),
            }
        })?;
        Ok(Activated { dropped })
    }

    /// Removes the directory of a store that nobody has open.
    pub(crate) fn discard(&self, store: &Serving) {
        let path = self.path.join(&store.directory);
        if path.is_dir() {
            remove(&path);
        }
    }
}

fn read_manifest(path: &Path) -> io::Result<Manifest> {
    let bytes = match fs::read(path.join(MANIFEST)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Manifest::default()),
        Err(error) => return Err(error),
    };
    let manifest: Manifest = serde_json::from_slice(&bytes)?;
    if manifest.format != MANIFEST_FORMAT {
        return Err(io::Error::other(format!(
            "it has format {}, not {MANIFEST_FORMAT}",
            manifest.format
        )));
    }
    Ok(manifest)
}

fn directories(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path) {
        tracing::warn!(path = %path.display(), %error, "an old view store could not be removed");
    }
}

/// A store with its directory. Once it is retired, the directory goes with the last one who uses it.
pub(crate) struct ViewStore {
    // Fields are dropped in this order: the store is closed before its directory is removed.
    rows: RowStore,
    board: Board,
    cleanup: Cleanup,
}

struct Cleanup {
    path: PathBuf,
    retired: AtomicBool,
}

impl ViewStore {
    fn new(rows: RowStore, path: PathBuf) -> Self {
        Self {
            rows,
            board: Board::default(),
            cleanup: Cleanup {
                path,
                retired: AtomicBool::new(false),
            },
        }
    }

    pub(crate) fn rows(&self) -> &RowStore {
        &self.rows
    }

    /// The keys that are parked in it.
    pub(crate) fn board(&self) -> &Board {
        &self.board
    }

    /// The name of its directory.
    pub(crate) fn directory(&self) -> String {
        let name = self.cleanup.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// The directory is removed when the last one has finished with the store.
    pub(crate) fn retire(&self) {
        self.cleanup.retired.store(true, Ordering::Relaxed);
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        if self.retired.load(Ordering::Relaxed) {
            remove(&self.path);
        }
    }
}

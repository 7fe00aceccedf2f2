//! The directory of all views: which store serves which view, changed in one step.
//!
//! Each store is a directory `NAME@VERSION.GENERATION`; `manifest.json` names the one that serves. A store that is being
//! built is not in the manifest, so what a crash leaves of it is removed at the next start.

use crate::failures::Board;
use crate::progress::locked;
use crate::store::{RowStore, StoreError, Stores};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

const MANIFEST: &str = "manifest.json";
const MANIFEST_NEW: &str = "manifest.json.new";
const MANIFEST_FORMAT: u32 = 1;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    views: BTreeMap<String, Serving>,
}

/// The store that serves a view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Serving {
    pub(crate) version: u32,
    pub(crate) directory: String,
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

    /// Removes stores that nobody serves. Only before anything is being built.
    pub(crate) fn remove_leftovers(&self) {
        let serving: Vec<String> = locked(&self.manifest)
            .views
            .values()
            .map(|view| view.directory.clone())
            .collect();
        for name in directories(&self.path) {
            if name.contains('@') && !serving.contains(&name) {
                tracing::info!(directory = %name, "removing a view store that was not finished");
                remove(&self.path.join(name));
            }
        }
    }

    /// The store that serves a view.
    pub(crate) fn serving(&self, view: &str) -> Option<Serving> {
        locked(&self.manifest).views.get(view).cloned()
    }

    /// Opens the store that serves a view.
    pub(crate) fn open_serving(&self, serving: &Serving) -> Result<ViewStore, StoreError> {
        let path = self.path.join(&serving.directory);
        let rows = self.stores.open(&path)?;
        Ok(ViewStore::new(rows, path))
    }

    /// A new, empty store for a view.
    pub(crate) fn create(&self, view: &str, version: u32) -> Result<ViewStore, StoreError> {
        let prefix = format!("{view}@{version}.");
        // Also behind a store that is missing: its name is not used again while the manifest has it.
        let serving = self.serving(view).map(|serving| serving.directory);
        let newest = directories(&self.path)
            .iter()
            .chain(&serving)
            .filter_map(|name| name.strip_prefix(&prefix)?.parse::<u64>().ok())
            .max();
        let path = self.path.join(format!("{prefix}{}", newest.unwrap_or(0) + 1));
        let rows = self.stores.create(&path)?;
        Ok(ViewStore::new(rows, path))
    }

    /// Makes a synced store the one that serves its view. On return the manifest is on the disk. Returns what served
    /// before, whose directory is still there.
    pub(crate) fn activate(&self, view: &str, version: u32, store: &ViewStore) -> io::Result<Option<Serving>> {
        let directory = store
            .cleanup
            .path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut manifest = locked(&self.manifest);
        let mut next = manifest.clone();
        next.format = MANIFEST_FORMAT;
        let before = next.views.insert(view.to_owned(), Serving { version, directory });
        fs::File::open(&store.cleanup.path)?.sync_all()?;
        let mut file = fs::File::create(self.path.join(MANIFEST_NEW))?;
        file.write_all(&serde_json::to_vec_pretty(&next)?)?;
        file.sync_all()?;
        fs::rename(self.path.join(MANIFEST_NEW), self.path.join(MANIFEST))?;
        fs::File::open(&self.path)?.sync_all()?;
        *manifest = next;
        Ok(before)
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

//! The manifest: which history the log tells, how often it was opened, and which volumes it has, in one file.

use super::settings::OpenError;
use crate::files::write_atomically;
use crate::secret::LogSecret;
use annals_core::{Epoch, Position};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: u32,
    pub(super) epoch: Epoch,
    /// How many times the log was opened for writing; stands in every block.
    pub(super) boot: u64,
    /// First positions of the volumes, ascending; the last one is open for writing.
    pub(super) volumes: Vec<Position>,
    /// Whether the log was closed in order the last time.
    pub(super) clean: bool,
}

fn path(dir: &Path) -> PathBuf {
    dir.join("manifest.json")
}

/// The directory of the volume that begins at a position.
pub(super) fn volume_path(dir: &Path, first: Position) -> PathBuf {
    dir.join(format!("{:020}", first.get()))
}

impl Manifest {
    /// Reads the manifest of the log in `dir`; a log that has none yet gets one, and its secret.
    pub(super) fn open(dir: &Path) -> Result<(Self, LogSecret), OpenError> {
        let io = |error: io::Error| OpenError::storage(dir, error);
        let manifest = match fs::read(path(dir)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| OpenError::storage(&path(dir), error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(dir)?,
            Err(error) => return Err(io(error)),
        };
        let file = dir.join("secret");
        let lost = |why: String| OpenError::storage(&file, format!("the log's secret {why}: restore it from a backup"));
        let secret = fs::read(&file).map_err(|error| lost(format!("cannot be read ({error})")))?;
        let secret = <[u8; 32]>::try_from(secret.as_slice()).map_err(|_| lost("does not have 32 bytes".into()))?;
        Ok((manifest, LogSecret::from_bytes(secret)))
    }

    fn create(dir: &Path) -> Result<Self, OpenError> {
        let io = |error: io::Error| OpenError::storage(dir, error);
        let holds_volumes = fs::read_dir(dir)
            .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|entry| entry.path().is_dir())));
        // A log without its manifest must not be taken for an empty one.
        if holds_volumes {
            return Err(OpenError::storage(
                &path(dir),
                "the manifest is missing: restore a backup",
            ));
        }
        fs::create_dir_all(dir).map_err(io)?;
        write_atomically(&dir.join("secret"), LogSecret::random().as_bytes()).map_err(io)?;
        let manifest = Self {
            format: 1,
            epoch: Epoch::random(),
            boot: 0,
            volumes: vec![Position::new(1)],
            clean: true,
        };
        manifest.save(dir).map_err(io)?;
        Ok(manifest)
    }

    pub(super) fn save(&self, dir: &Path) -> io::Result<()> {
        write_atomically(&path(dir), &serde_json::to_vec_pretty(self)?)
    }
}

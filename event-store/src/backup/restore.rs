//! Restores a backup into a new data directory, as a new history that goes on from the backup's.

use super::{BackupError, BackupFile, RestoreSummary};
use crate::data_dir::{DataDir, OpenOptions};
use crate::files::sync_dir;
use crate::sled::{Origin, write_log};
use annals_core::Position;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What is added to the name of a data directory while it is being restored.
const UNFINISHED: &str = "restoring";

impl BackupFile {
    /// Checks all of the backup, then writes it as a new data directory. `target` must not exist or be empty. Until
    /// everything is written, checked and synced it stands beside, as `target.restoring`.
    pub fn restore(&self, target: &Path, progress: &mut dyn FnMut(Position)) -> Result<RestoreSummary, BackupError> {
        check_target(target)?;
        let backup = self.verify(progress)?;
        let beside = beside(target)?;
        if beside.exists() {
            return Err(BackupError::Target {
                path: beside,
                detail: "is what a restore left that did not come to its end: delete it, then restore again".into(),
            });
        }
        let restored = self.write(&beside, progress);
        if restored.is_err() {
            // What cannot be removed is named by the next restore.
            let _ = fs::remove_dir_all(&beside);
        }
        let epoch = restored?;
        fs::rename(&beside, target)?;
        sync_dir(parent(target))?;
        Ok(RestoreSummary { backup, epoch })
    }

    fn write(&self, dir: &Path, progress: &mut dyn FnMut(Position)) -> Result<annals_core::Epoch, BackupError> {
        let options = OpenOptions {
            create: true,
            name: Some(self.name()),
            domain: self.domain(),
        };
        let held = DataDir::open(dir, options).map_err(io::Error::other)?;
        let origin = Origin {
            epoch: self.about.epoch,
            head: self.about.head,
            secret: self.secret,
        };
        let epoch = write_log(&held.log_path(), &origin, &self.file, progress)?;
        self.write_attached(&held.reactors_path())?;
        sync_dir(dir)?;
        Ok(epoch)
    }

    fn write_attached(&self, reactors: &Path) -> Result<(), BackupError> {
        let mut open: Option<File> = None;
        self.attached(|path, piece, last| {
            let path = reactors.join(path);
            let mut file = match open.take() {
                Some(file) => file,
                None => {
                    fs::create_dir_all(parent(&path))?;
                    File::create(&path)?
                }
            };
            file.write_all(piece)?;
            if last {
                file.sync_all()?;
                sync_dir(parent(&path))?;
            } else {
                open = Some(file);
            }
            Ok::<_, BackupError>(())
        })?;
        if reactors.exists() {
            sync_dir(reactors)?;
        }
        Ok(())
    }
}

fn parent(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

fn beside(target: &Path) -> Result<PathBuf, BackupError> {
    let name = target.file_name().ok_or_else(|| BackupError::Target {
        path: target.to_owned(),
        detail: "has no name: write the data directory as a path that ends in one".into(),
    })?;
    let mut name = name.to_owned();
    name.push(".");
    name.push(UNFINISHED);
    Ok(target.with_file_name(name))
}

fn check_target(target: &Path) -> Result<(), BackupError> {
    let refused = |detail: &str| {
        Err(BackupError::Target {
            path: target.to_owned(),
            detail: detail.into(),
        })
    };
    match fs::read_dir(target).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => refused("is not empty: a backup is restored into a new directory only, name another one"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => refused("is a file: name a directory"),
        Err(error) => Err(error.into()),
    }
}

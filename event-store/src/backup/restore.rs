//! Restores a backup into a new data directory, as a new history that goes on from the backup's.

use super::{BackupError, BackupFile, RestoreSummary};
use crate::data_dir::{DataDir, OpenOptions};
use crate::files::{parent, sync_dir};
use crate::fresh;
use crate::sled::{Origin, write_log};
use annals_core::Position;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// What is added to the name of a data directory while it is being restored.
const UNFINISHED: &str = "restoring";

impl BackupFile {
    /// Checks all of the backup, then writes it as a new data directory. `target` must not exist or be empty. Until
    /// everything is written, checked and synced it stands beside, as `target.restoring`.
    pub fn restore(&self, target: &Path, progress: &mut dyn FnMut(Position)) -> Result<RestoreSummary, BackupError> {
        let (backup, epoch) = fresh::build(target, UNFINISHED, |beside| {
            let backup = self.verify(progress)?;
            Ok::<_, BackupError>((backup, self.write(beside, progress)?))
        })?;
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
        let mut number = 0;
        let mut next = || {
            number += 1;
            self.file.block(number - 1)
        };
        let epoch = write_log(&held.log_path(), &origin, &mut next, progress)?;
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

//! An image of a data directory that cannot be written, to be opened in its place: closed volumes, the runs of the index,
//! outboxes and signed checkpoints are links, the few files that opening a log writes are copies in the directory for temporary files. The directory
//! itself is only read.

use crate::data_dir::LOG_DIR;
use rustix::fs::{Access, access};
use rustix::io::Errno;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// The image; removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Image {
    path: PathBuf,
    /// The directory that it is of.
    of: PathBuf,
}

/// Whether nothing can be written in a data directory, because of its file system or of who asks.
pub(crate) fn is_read_only(data: &Path) -> bool {
    let refused = |path: &Path| {
        let asked = access(path, Access::WRITE_OK);
        matches!(asked, Err(Errno::ROFS | Errno::ACCESS | Errno::PERM))
    };
    refused(data) || refused(&data.join(LOG_DIR))
}

impl Image {
    /// Makes an image. It takes the space of the newest volume and the journal, some 50 MiB.
    pub(crate) fn of(data: &Path) -> io::Result<Self> {
        let of = data.canonicalize()?;
        let path = std::env::temp_dir().join(format!("annals-image-{}", Uuid::new_v4().simple()));
        // It holds the log's secret.
        DirBuilder::new().mode(0o700).create(&path)?;
        let image = Self { path, of };
        image.fill()?;
        Ok(image)
    }

    /// Where it stands.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A text in which the directory has its own name instead of the image's.
    pub(crate) fn named(&self, text: &str) -> String {
        let (image, of) = (self.path.display().to_string(), self.of.display().to_string());
        text.replace(&image, &of)
    }

    fn fill(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.of)? {
            let (from, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
            let to = self.path.join(&name);
            match name.to_str() {
                Some("annals.json") => copy(&from, &to)?,
                Some(LOG_DIR) => self.fill_log(&from, &to)?,
                Some("index") => each(&from, &to, &|name| name.ends_with(".run"))?,
                Some("reactors" | "checkpoints" | "keys") => symlink(&from, &to)?,
                // Derived, or of no use to who only reads the log.
                _ => {}
            }
        }
        Ok(())
    }

    /// Of the log the volume that is written, and what an opening put beside it, are copies.
    fn fill_log(&self, from: &Path, to: &Path) -> io::Result<()> {
        let last = crate::sled::last_volume(from);
        let is_written = |name: &str| {
            let rest = last.as_deref().and_then(|last| name.strip_prefix(last));
            rest.is_some_and(|rest| matches!(rest, "" | ".rescued" | ".rebuilding"))
        };
        let is_small = |name: &str| name.starts_with("journal-") || name == "manifest.json" || name == "secret";
        each(from, to, &|name| !is_written(name) && !is_small(name))
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // What cannot be removed is in the directory for temporary files.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Makes a directory like another one: entries for which `is_linked` says so are links to those there, others are copies.
fn each(from: &Path, to: &Path, is_linked: &dyn Fn(&str) -> bool) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_name().to_str().is_none_or(is_linked) {
            symlink(&path, &target)?;
        } else if entry.file_type()?.is_dir() {
            each(&path, &target, &|_| false)?;
        } else {
            copy(&path, &target)?;
        }
    }
    Ok(())
}

/// Copies a file, which can be written afterwards even if the one that is copied cannot.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    io::copy(&mut fs::File::open(from)?, &mut fs::File::create_new(to)?)?;
    Ok(())
}

//! A new data directory: written beside its place, and there as a whole or not at all.

use crate::files::{parent, sync_dir};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why there cannot be one.
#[derive(Debug)]
pub(crate) enum FreshError {
    /// There is something where it should be.
    Target {
        path: PathBuf,
        detail: String,
    },
    Io(io::Error),
}

impl From<io::Error> for FreshError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Has the directory written as `target.<unfinished>`, then renames it. `target` must not exist or be empty. What was written
/// is removed when `write` fails.
pub(crate) fn build<T, E: From<FreshError>>(
    target: &Path,
    unfinished: &str,
    write: impl FnOnce(&Path) -> Result<T, E>,
) -> Result<T, E> {
    check(target)?;
    let beside = beside(target, unfinished)?;
    if beside.exists() {
        let detail = "is what an earlier try left that did not come to its end: delete it, then try again".into();
        return Err(FreshError::Target { path: beside, detail }.into());
    }
    let written = write(&beside);
    if written.is_err() {
        // What cannot be removed is named by the next try.
        let _ = fs::remove_dir_all(&beside);
    }
    let written = written?;
    let named = sync_dir(&beside)
        .and_then(|()| fs::rename(&beside, target))
        .and_then(|()| sync_dir(parent(target)));
    named.map_err(FreshError::Io)?;
    Ok(written)
}

/// An error unless `target` is free.
pub(crate) fn check(target: &Path) -> Result<(), FreshError> {
    let refused = |detail: &str| {
        Err(FreshError::Target {
            path: target.to_owned(),
            detail: detail.into(),
        })
    };
    match fs::read_dir(target).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => refused("is not empty: name a new directory"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => refused("is a file: name a directory"),
        Err(error) => Err(error.into()),
    }
}

fn beside(target: &Path, unfinished: &str) -> Result<PathBuf, FreshError> {
    let name = target.file_name().ok_or_else(|| FreshError::Target {
        path: target.to_owned(),
        detail: "has no name: write the data directory as a path that ends in one".into(),
    })?;
    let mut name = name.to_owned();
    name.push(".");
    name.push(unfinished);
    Ok(target.with_file_name(name))
}

//! A new data directory: written beside its place, and there as a whole or not at all.

use crate::files::{parent, sync_dir};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
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

/// Marks a directory that is being written, by a lock while its writer lives. Who finds it unlocked knows that the writer was
/// killed, and that nothing in the directory counts.
const MARK: &str = "unfinished";
const MARK_TEXT: &[u8] = b"This directory is being written by annals, or its writer was killed.\n";

/// Has the directory written as `target.<unfinished>`, then renames it. `target` must not exist or be empty. What was written
/// is removed when `write` fails; what an earlier try left that was killed is removed first.
pub(crate) fn build<T, E: From<FreshError>>(
    target: &Path,
    unfinished: &str,
    write: impl FnOnce(&Path) -> Result<T, E>,
) -> Result<T, E> {
    check(target)?;
    let beside = beside(target, unfinished)?;
    remove_leftover(&beside)?;
    let mark = begin(&beside)?;
    let written = write(&beside);
    if written.is_err() {
        // What cannot be removed is removed by the next try.
        let _ = fs::remove_dir_all(&beside);
    }
    let written = written?;
    let named = sync_dir(&beside)
        .and_then(|()| fs::rename(&beside, target))
        .and_then(|()| sync_dir(parent(target)))
        // A mark that stays says nothing about a directory that has its name.
        .and_then(|()| fs::remove_file(target.join(MARK)));
    named.map_err(FreshError::Io)?;
    drop(mark);
    Ok(written)
}

/// Makes the directory, marked and held.
fn begin(beside: &Path) -> Result<File, FreshError> {
    fs::create_dir(beside)?;
    let mut mark = File::create_new(beside.join(MARK))?;
    mark.lock()?;
    mark.write_all(MARK_TEXT)?;
    mark.sync_all()?;
    sync_dir(beside)?;
    Ok(mark)
}

/// Removes what a try that was killed left, and nothing else: a directory with the mark, which nobody holds, or an empty one.
fn remove_leftover(beside: &Path) -> Result<(), FreshError> {
    let refused = |detail: &str| {
        let (path, detail) = (beside.to_owned(), detail.to_owned());
        Err(FreshError::Target { path, detail })
    };
    match fs::symlink_metadata(beside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
        Ok(found) if !found.is_dir() => return refused(NOT_OURS),
        Ok(_) => {}
    }
    let mark = match File::open(beside.join(MARK)) {
        Ok(mark) => mark,
        // Killed before it was marked. One that holds anything is not removed, but by whose it is.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return fs::remove_dir(beside).or_else(|_| refused(NOT_OURS));
        }
        Err(error) => return Err(error.into()),
    };
    match mark.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return refused(
                "is being written by another annals process: wait until it ends, or name another directory",
            );
        }
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    let mut text = Vec::new();
    (&mark).take(MARK_TEXT.len() as u64 + 1).read_to_end(&mut text)?;
    if !MARK_TEXT.starts_with(&text) {
        return refused(NOT_OURS);
    }
    tracing::info!(path = %beside.display(), "removed what an earlier try left that was killed");
    Ok(fs::remove_dir_all(beside)?)
}

/// Where a directory should be written there is one that nobody but a person may remove.
const NOT_OURS: &str =
    "is in the way, and is nothing that a killed try has left: move it away, or name another directory";

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

#[cfg(test)]
mod tests {
    use super::*;

    fn build_in(dir: &Path) -> Result<(), FreshError> {
        build(&dir.join("new"), "restoring", |beside| {
            fs::write(beside.join("content"), b"all of it")?;
            Ok(())
        })
    }

    fn refused(dir: &Path) -> String {
        match build_in(dir) {
            Err(FreshError::Target { path, detail }) => format!("{} {detail}", path.display()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_a_killed_try_left_is_removed_and_the_next_one_succeeds() {
        let dir = tempfile::tempdir().unwrap();
        let beside = dir.path().join("new.restoring");
        let cut: [fn(&Path); 3] = [
            |_| (),
            |beside| fs::write(beside.join(MARK), b"").unwrap(),
            |beside| {
                drop(begin_again(beside));
                fs::create_dir(beside.join("log")).unwrap();
                fs::write(beside.join("log/half"), b"half").unwrap();
            },
        ];
        for leave in cut {
            fs::create_dir(&beside).unwrap();
            leave(&beside);
            build_in(dir.path()).unwrap();
            let names: Vec<_> = fs::read_dir(dir.path().join("new")).unwrap().collect();
            assert_eq!(names.len(), 1, "the content alone");
            assert!(!beside.exists());
            fs::remove_dir_all(dir.path().join("new")).unwrap();
        }
    }

    fn begin_again(beside: &Path) -> File {
        fs::remove_dir(beside).unwrap();
        begin(beside).unwrap()
    }

    #[test]
    fn what_is_somebody_elses_stays() {
        let dir = tempfile::tempdir().unwrap();
        let beside = dir.path().join("new.restoring");
        fs::create_dir(&beside).unwrap();
        let held = begin_again(&beside);
        assert!(refused(dir.path()).contains("another annals process"));
        drop(held);
        fs::write(beside.join(MARK), b"a list of what I have not finished").unwrap();
        assert!(refused(dir.path()).contains("in the way"));
        fs::remove_file(beside.join(MARK)).unwrap();
        fs::write(beside.join("letters"), b"mine").unwrap();
        assert!(refused(dir.path()).contains("in the way"));
        assert_eq!(fs::read(beside.join("letters")).unwrap(), b"mine");
        // A link to a directory that looks like a leftover.
        let elsewhere = dir.path().join("elsewhere");
        fs::rename(&beside, &elsewhere).unwrap();
        fs::remove_file(elsewhere.join("letters")).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &beside).unwrap();
        assert!(refused(dir.path()).contains("in the way"));
        assert!(elsewhere.exists());
    }
}

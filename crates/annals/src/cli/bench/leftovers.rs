//! The temporary data directory of a run, and those that killed runs have left: a lock tells them from one in use.

use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const PREFIX: &str = "annals-bench-";
/// The data directory's own lock, held as long as its log is open, and by the servers that are measured.
const LOCK: &str = "lock";
/// Of this module: held from the first moment to the last.
const RUNNING: &str = "bench-running";
const RUNNING_NEW: &str = "bench-running.new";

/// A directory that goes with this value, and is known to be in use until then.
pub(super) struct Temporary {
    dir: TempDir,
    _running: fs::File,
}

impl Temporary {
    pub(super) fn path(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Removes it; an error if that does not go.
    pub(super) fn close(self) -> std::io::Result<()> {
        self.dir.close()
    }
}

/// A new one in `place`.
pub(super) fn directory(place: &Path) -> Result<Temporary> {
    let made = tempfile::Builder::new().prefix(PREFIX).tempdir_in(place);
    let cannot = || {
        format!(
            "cannot make a temporary directory in {}: name one with --data",
            place.display()
        )
    };
    let dir = made.with_context(cannot)?;
    let new = dir.path().join(RUNNING_NEW);
    let running = fs::File::create_new(&new).with_context(cannot)?;
    running.try_lock().with_context(cannot)?;
    // Never there without being held: another run may be looking.
    fs::rename(new, dir.path().join(RUNNING)).with_context(cannot)?;
    Ok(Temporary { dir, _running: running })
}

/// Removes those that nobody uses any more. What cannot be looked at stays.
pub(super) fn remove(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if ours && is_abandoned(&entry.path()) && fs::remove_dir_all(entry.path()).is_ok() {
            crate::cli::note(format_args!(
                "removed {}, which a killed benchmark had left",
                entry.path().display()
            ));
        }
    }
}

/// Whether it was made here, and neither a benchmark nor a server that it has started runs on it.
fn is_abandoned(dir: &Path) -> bool {
    let free = |file: &Path| fs::File::open(file).is_ok_and(|file| file.try_lock().is_ok());
    let data = dir.join("data").join(LOCK);
    free(&dir.join(RUNNING)) && (!data.exists() || free(&data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_left_is_removed_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let here = place.path();
        let running = directory(here).unwrap();
        let left = here.join("annals-bench-left");
        fs::create_dir_all(left.join("data")).unwrap();
        fs::write(left.join(RUNNING), "").unwrap();
        fs::write(left.join("data").join(LOCK), "").unwrap();
        // Of the same name, and nobody knows whose.
        let other = here.join("annals-bench-results");
        fs::create_dir(&other).unwrap();
        // Its benchmark is gone, the server that it measured is not.
        let served = here.join("annals-bench-served");
        fs::create_dir_all(served.join("data")).unwrap();
        fs::write(served.join(RUNNING), "").unwrap();
        let lock = fs::File::create(served.join("data").join(LOCK)).unwrap();
        lock.lock().unwrap();

        remove(here);
        assert!(!left.exists(), "left by a killed run");
        assert!(running.dir.path().exists() && other.exists() && served.exists());
        drop(lock);
        remove(here);
        assert!(!served.exists() && running.dir.path().exists());
        let path = running.dir.path().to_owned();
        running.close().unwrap();
        assert!(!path.exists());
    }
}

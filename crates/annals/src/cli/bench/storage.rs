//! What a log takes on the disk, and how long it takes to open when nothing of it is cached.

use crate::cli::note;
use anyhow::{Context, Result};
use rustix::fs::{Advice, fadvise};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The parts of a data directory that the log consists of.
const PARTS: [&str; 2] = ["log", "index"];
/// Unit of `st_blocks`.
const BLOCK_BYTES: u64 = 512;
/// How long a log must not change to be settled.
const SETTLED: Duration = Duration::from_secs(5);
/// How long it may take to settle.
const SETTLING_MAX: Duration = Duration::from_secs(900);
const POLL: Duration = Duration::from_millis(200);

/// Bytes that log and index take on the disk.
pub(super) fn disk_bytes(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for file in files(dir)? {
        // One that is being replaced may be gone already.
        bytes += fs::metadata(&file).map_or(0, |metadata| metadata.blocks() * BLOCK_BYTES);
    }
    Ok(bytes)
}

/// Waits until an open log has stopped to rewrite its volumes and index. Whether it did in time.
pub(super) fn settle(dir: &Path) -> Result<bool> {
    let begin = Instant::now();
    let (mut bytes, mut since) = (disk_bytes(dir)?, Instant::now());
    while since.elapsed() < SETTLED {
        if begin.elapsed() > SETTLING_MAX {
            note(format_args!("the log still changes after {} s", SETTLING_MAX.as_secs()));
            return Ok(false);
        }
        std::thread::sleep(POLL);
        let now = disk_bytes(dir)?;
        if now != bytes {
            (bytes, since) = (now, Instant::now());
        }
    }
    Ok(true)
}

/// Writes everything in a data directory to the disk and drops it from the system's cache.
pub(super) fn drop_cache(dir: &Path) -> Result<()> {
    for path in files(dir)? {
        let said = || format!("{} cannot be dropped from the cache", path.display());
        let file = File::open(&path).with_context(said)?;
        file.sync_all().with_context(said)?;
        fadvise(&file, 0, None, Advice::DontNeed).with_context(said)?;
    }
    Ok(())
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut directories: Vec<PathBuf> = PARTS.iter().map(|part| dir.join(part)).collect();
    let mut files = Vec::new();
    while let Some(directory) = directories.pop() {
        // A volume may be replaced meanwhile, and a log without one of the parts is small.
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else {
                files.push(path);
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_and_index_count_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(disk_bytes(dir.path()).unwrap(), 0);
        for part in ["log/00000000000000000001", "index", "views"] {
            fs::create_dir_all(dir.path().join(part)).unwrap();
            fs::write(dir.path().join(part).join("db"), vec![1; 100_000]).unwrap();
        }
        drop_cache(dir.path()).unwrap();
        let of = |part: &str| fs::metadata(dir.path().join(part).join("db")).unwrap().blocks() * BLOCK_BYTES;
        let parts = of("log/00000000000000000001") + of("index");
        assert_eq!(disk_bytes(dir.path()).unwrap(), parts);
        assert!(parts > 0);
    }
}

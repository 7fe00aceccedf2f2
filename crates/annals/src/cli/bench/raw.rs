//! The baseline: the same bytes written with pwrite and fdatasync to a file beside the log, by one thread.
//!
//! The file has its full size before, so that no size has to be written either: the least that a disk can be asked.

use super::measure::{Measured, repeat};
use anyhow::{Context, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// Size of the file; writes begin again at its start when they reach its end.
const FILE_BYTES: u64 = 64 << 20;

/// Writes and syncs `bytes` bytes at a time, which stand for `events` events, in a file in `dir`.
pub(super) fn baseline(dir: &Path, bytes: usize, events: u64, time: Duration) -> Result<Measured> {
    let path = dir.join("bench-baseline");
    let said = || format!("cannot write {}", path.display());
    let file = File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .open(&path)
        .with_context(said)?;
    let zeros = vec![0; 1 << 20];
    for at in (0..FILE_BYTES).step_by(zeros.len()) {
        file.write_all_at(&zeros, at).with_context(said)?;
    }
    file.sync_all().with_context(said)?;
    let (content, mut at) = (vec![b'x'; bytes], 0);
    let measured = repeat(time, || {
        if at + bytes as u64 > FILE_BYTES {
            at = 0;
        }
        file.write_all_at(&content, at)?;
        file.sync_data()?;
        at += bytes as u64;
        Ok(events)
    });
    std::fs::remove_file(&path).with_context(said)?;
    measured
}

//! What a process takes: memory, file handles, disk. Knows Linux's `/proc`, and nothing of what the process does.

use std::path::Path;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Memory in MiB that the process has now.
///
/// # Errors
///
/// When there is no such process.
pub fn memory_mib(pid: u32) -> Result<u64> {
    status_mib(pid, "VmRSS:")
}

/// Most memory in MiB that the process ever had.
///
/// # Errors
///
/// As [`memory_mib`].
pub fn memory_peak_mib(pid: u32) -> Result<u64> {
    status_mib(pid, "VmHWM:")
}

fn status_mib(pid: u32, field: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.with_context(|| format!("no {field} in {path}"))? / 1024)
}

/// How many files, sockets and the like the process has open.
///
/// # Errors
///
/// As [`memory_mib`].
pub fn open_files(pid: u32) -> Result<usize> {
    let path = format!("/proc/{pid}/fd");
    Ok(std::fs::read_dir(&path).with_context(|| path.clone())?.count())
}

/// Bytes of all files below a directory. A file that goes away meanwhile does not count.
#[must_use]
pub fn disk_bytes(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(about) if about.is_dir() => disk_bytes(&entry.path()),
        Ok(about) => about.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// Lets this process have as many files open as it may, for suites of thousands of connections. Returns how many.
///
/// # Errors
///
/// When the system refuses what it said it would allow.
pub fn raise_open_files() -> Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum;
    setrlimit(Resource::Nofile, Rlimit { current, ..limit })?;
    Ok(current.unwrap_or(u64::MAX))
}

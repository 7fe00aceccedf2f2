//! File systems of a test's own: small ones that fill up, and ones that cannot be written. Each lives in a mount
//! namespace and is gone with the process that runs in it, so nothing has to be cleaned up.
//!
//! Needs root, or user namespaces, as any current Debian has them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::cli;

/// Arguments of a program that mounts a tmpfs with these options at `place`, then becomes the program that follows.
///
/// # Errors
///
/// When this machine does not let a test mount anything; the message says what is needed.
pub fn with_tmpfs(place: &Path, options: &str) -> Result<Vec<OsString>> {
    with(place, &format!("mount -t tmpfs -o {options} tmpfs \"$0\""))
}

/// Arguments of a program that makes `place` read-only, for root as well, then becomes the program that follows.
///
/// # Errors
///
/// As [`with_tmpfs`].
pub fn read_only(place: &Path) -> Result<Vec<OsString>> {
    with(place, "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\"")
}

/// Arguments of a program that mounts something, then becomes the program that follows.
fn with(place: &Path, mount: &str) -> Result<Vec<OsString>> {
    let flags = if rustix::process::geteuid().is_root() {
        "-m"
    } else {
        "-rm"
    };
    let script = format!("{mount} && exec \"$@\"");
    let mut program: Vec<OsString> = ["unshare", flags, "sh", "-c", &script].map(OsString::from).to_vec();
    program.push(place.into());
    let mut probe = Command::new("unshare");
    let tried = cli::run(probe.args(&program[1..]).arg("true"))?;
    ensure!(
        tried.code == 0,
        "this suite mounts a file system of its own: run it as root, or allow unprivileged user namespaces \
         (sysctl kernel.unprivileged_userns_clone=1); unshare said: {}",
        tried.stderr
    );
    Ok(program)
}

/// A path as the process `pid` sees it, from outside of its mount namespace.
#[must_use]
pub fn seen_by(pid: u32, path: &Path) -> PathBuf {
    let inside = path.strip_prefix("/").unwrap_or(path);
    PathBuf::from(format!("/proc/{pid}/root")).join(inside)
}

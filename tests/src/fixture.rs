//! Data directories to begin with: one with business traffic of every kind in it, and copies of directories.

use std::path::Path;

use anyhow::{Context, Result};

use crate::cli::{Run, annals};

/// A data directory with the traffic of so many orders, views and reactors caught up, closed in order.
///
/// # Errors
///
/// When the binary cannot make one.
pub fn demo(data: &Path, orders: u32) -> Result<()> {
    let orders = orders.to_string();
    verb(data, &["demo", "--once", "--format", "json", "--orders", &orders])?.exits(0)?;
    Ok(())
}

/// Runs a verb on a data directory.
///
/// # Errors
///
/// When it cannot be run.
pub fn verb(data: &Path, arguments: &[&str]) -> Result<Run> {
    let data = data.to_str().context("the path is not UTF-8")?;
    annals(arguments.iter().copied().chain(["--data", data]))
}

/// Copies a directory with everything in it.
///
/// # Errors
///
/// When it cannot be read, or the copy not be written.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

//! Where the real data is, and how its files are opened. Suites that need it fail loudly when it is missing.
//!
//! The data belongs to others and is not in the repository. Must not know what the tables mean.

mod decimal;
mod uci;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

pub use decimal::scaled;
pub use uci::{UciRow, uci_rows};

/// The environment variable that names the directory of the data sets.
pub const ENVIRONMENT: &str = "ANNALS_TEST_DATA";

/// The directory that holds the data sets: `ANNALS_TEST_DATA`, else `../shared/data` beside the workspace.
///
/// # Errors
///
/// When it is not there; the message says what to do.
pub fn directory() -> Result<PathBuf> {
    let directory = match std::env::var_os(ENVIRONMENT) {
        Some(directory) => PathBuf::from(directory),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
    };
    existing(directory)
}

/// The directory of the seven Olist tables.
///
/// # Errors
///
/// As [`directory`].
pub fn olist() -> Result<PathBuf> {
    existing(directory()?.join("olist-sample"))
}

/// The directory of the UCI invoice lines.
///
/// # Errors
///
/// As [`directory`].
pub fn uci() -> Result<PathBuf> {
    existing(directory()?.join("uci-online-retail"))
}

fn existing(directory: PathBuf) -> Result<PathBuf> {
    ensure!(
        directory.is_dir(),
        "no real data at {}: put the data sets (olist-sample, uci-online-retail) into ../shared/data beside the \
         workspace, or set {ENVIRONMENT} to the directory that holds them",
        directory.display(),
    );
    Ok(directory)
}

/// Opens a zstd-compressed CSV file.
///
/// # Errors
///
/// When there is no such file or it is not zstd.
pub fn csv(path: &Path) -> Result<csv::Reader<Box<dyn Read>>> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let decoder = zstd::Decoder::new(file).with_context(|| path.display().to_string())?;
    Ok(csv::Reader::from_reader(Box::new(decoder)))
}

#[cfg(test)]
mod tests {
    use super::{ENVIRONMENT, existing};

    #[test]
    fn missing_data_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap().path().join("nowhere");
        let message = existing(directory.clone()).unwrap_err().to_string();
        assert!(
            message.contains(ENVIRONMENT) && message.contains(&directory.display().to_string()),
            "{message}"
        );
    }
}

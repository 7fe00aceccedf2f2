//! Backups: a whole log in one file of blocks, with the outboxes of its reactors; written while the log is appended to,
//! checked, read as a log, restored as a new history. `docs/format.md` defines the file.

mod check;
mod file;
mod log;
mod restore;
mod write;

pub(crate) use check::Checker;
pub use file::BackupFile;
pub use log::BackupLog;
pub use write::BackupSource;

use crate::fresh::FreshError;
use crate::sled::WriteError;
use annals_core::{Epoch, LogError, Position};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;

/// Newest format of a backup's head that this binary reads and writes.
const FORMAT: u32 = 1;
const KIND: &str = "backup";

/// The head of a backup.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Head {
    kind: String,
    format: u32,
    name: String,
    domain: Option<String>,
    /// When the backup was taken.
    taken: DateTime<Utc>,
    epoch: Epoch,
    /// Position of the last event in it.
    head: Position,
    /// The log's secret, in hexadecimal.
    secret: String,
    /// Files of the reactors' directory, which follow the head in this order.
    files: Vec<Attached>,
}

/// A file in a backup.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Attached {
    /// Its place in the reactors' directory, parts separated by `/`.
    path: String,
    bytes: u64,
}

/// What a backup has, once all of it was written or checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupSummary {
    /// Name of the log.
    pub name: String,
    /// The history that it tells.
    pub epoch: Epoch,
    /// Position of the last event in it; as many events are in it.
    pub head: Position,
    /// Length of the file, bytes.
    pub bytes: u64,
    /// SHA-256 of the file without its last 80 bytes, in hexadecimal.
    pub sha256: String,
    /// How many outboxes of reactors are in it.
    pub outboxes: u64,
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreSummary {
    /// What was restored.
    pub backup: BackupSummary,
    /// The new history, which goes on from that of the backup.
    pub epoch: Epoch,
}

/// Why a backup was not written, read or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The log or the backup is damaged or cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The backup is damaged. Nothing was restored.
    #[error("the backup is damaged at position {position}: {detail}; take another backup")]
    Damaged {
        /// Where.
        position: Position,
        /// What is wrong there.
        detail: String,
    },
    /// It is no backup, or a newer one.
    #[error("{} is not a backup that can be read: {detail}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// There is something where the log should be restored.
    #[error("{} {detail}", path.display())]
    Target {
        /// Where.
        path: PathBuf,
        /// What is there, and what to do.
        detail: String,
    },
    /// Writing failed.
    #[error("{}", cannot_write(.0))]
    Io(#[from] io::Error),
}

impl From<FreshError> for BackupError {
    fn from(error: FreshError) -> Self {
        match error {
            FreshError::Target { path, detail } => Self::Target { path, detail },
            FreshError::Io(error) => Self::Io(error),
        }
    }
}

impl From<WriteError> for BackupError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Blocks(error) => Self::of_file(error),
            WriteError::Writing(error) => Self::Io(error),
        }
    }
}

impl BackupError {
    /// What was found in a backup: damage there is named as such.
    fn of_file(error: LogError) -> Self {
        match error {
            LogError::Damaged { position, detail } => Self::Damaged { position, detail },
            other => Self::Log(other),
        }
    }
}

/// What to do when nothing can be written.
pub(crate) fn cannot_write(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::StorageFull {
        return format!("the disk is full: free some space, or name a place on another disk ({error})");
    }
    format!("cannot write: {error}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}

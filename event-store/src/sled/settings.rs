//! Settings of the sled engine and why it could not be opened.

use super::probe::ProbeCommand;
use crate::data_dir::DataDirError;
use annals_core::Position;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of the log; the defaults are for a server of its own.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// Size at which a volume is closed and the next one begun, bytes. While a volume is open nearly all of it is in
    /// memory: sled looks at the limit of its cache once for some 16,000 pages, and a volume has a few hundred.
    pub volume_bytes_max: u64,
    /// Free space on the disk below which appends are refused, bytes.
    pub reserve_bytes: u64,
    /// How many appends may wait.
    pub queue_appends_max: usize,
    /// How many bytes of appends may wait.
    pub queue_bytes_max: usize,
    /// Size of each of the two journal files, bytes.
    pub journal_bytes: u64,
    /// How many bytes of records gather in the journal before they are stored in a volume; 0 stores each group at once,
    /// as a block of its own.
    pub store_bytes: usize,
    /// How long a sync may take before the log counts as failed: appends in flight are then answered "outcome unknown".
    pub sync_time_max: Duration,
    /// How many events may be in memory before the stream index is written.
    pub index_tail_max: usize,
    /// Size of the cache of decompressed blocks, bytes.
    pub block_cache_bytes: u64,
    /// Size of the cache of blocks and filters of the index, bytes.
    pub index_cache_bytes: u64,
    /// sled's cache for each open volume, bytes; it bounds only volumes of several thousand pages.
    pub volume_cache_bytes: u64,
    /// Whether closed volumes are sealed in the background: rewritten into full blocks, a fraction of their size.
    pub seal: bool,
    /// Size up to which small sealed volumes are joined, bytes.
    pub sealed_bytes_max: u64,
    /// Whether the log is only read. One that is damaged and has no index then opens as far as it can be read by position, and
    /// says of everything else why it cannot be known; else it does not open. Nothing may be appended.
    pub only_read: bool,
    /// The program that examines the last volume after an unclean stop, in a process of its own; `None` for this process,
    /// which damaged files can then bring down with the storage engine.
    pub probe: Option<ProbeCommand>,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            volume_bytes_max: 32 << 20,
            reserve_bytes: 64 << 20,
            queue_appends_max: 8192,
            queue_bytes_max: 32 << 20,
            journal_bytes: 4 << 20,
            store_bytes: 1 << 20,
            sync_time_max: Duration::from_secs(30),
            index_tail_max: 64 * 1024,
            block_cache_bytes: 32 << 20,
            index_cache_bytes: 32 << 20,
            volume_cache_bytes: 16 << 20,
            seal: true,
            sealed_bytes_max: 128 << 20,
            only_read: false,
            probe: None,
        }
    }
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Dir(#[from] DataDirError),
    /// What is stored is not what was written.
    #[error(
        "the log is damaged at position {position}: {detail}; keep the directory as it is and restore a backup, or make a \
         new log of what is whole in it with `annals salvage`"
    )]
    Damaged {
        /// The first position that is lost or cannot be trusted.
        position: Position,
        /// What is wrong.
        detail: String,
    },
    /// The storage failed.
    #[error("{} cannot be opened: {detail}", path.display())]
    Storage {
        /// Where.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// The storage failed while the log was being opened.
    #[error("the log cannot be opened: {0}")]
    Log(String),
}

impl OpenError {
    pub(super) fn storage(path: &std::path::Path, detail: impl std::fmt::Display) -> Self {
        Self::Storage {
            path: path.to_owned(),
            detail: detail.to_string(),
        }
    }
}

impl From<annals_core::LogError> for OpenError {
    fn from(error: annals_core::LogError) -> Self {
        match error {
            annals_core::LogError::Damaged { position, detail } => Self::Damaged { position, detail },
            annals_core::LogError::Storage(detail) => Self::Log(detail),
            other => Self::Log(other.to_string()),
        }
    }
}

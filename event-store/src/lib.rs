//! The append-only log: an engine in memory as the model, and the embedded engine on sled.
//!
//! Nobody outside sees an engine's types: the log is used through `annals_core::{EventLog, Appender}`.

mod admission;
mod backup;
mod block_file;
mod checkpoints;
mod clock;
mod data_dir;
mod event_ids;
mod files;
mod frame;
mod fresh;
mod head;
mod image;
mod memory;
mod metrics;
mod salvage;
mod secret;
mod sled;
mod tree;

pub use backup::{BackupError, BackupFile, BackupLog, BackupSource, BackupSummary, RestoreSummary};
pub use checkpoints::{
    KeysError, LogKeys, Notary, NotaryError, NotarySettings, SignedCheckpoints, origin, parent_origin,
};
pub use data_dir::{DATA_FORMAT, DataDir, DataDirError, OpenOptions};
pub use frame::{FRAME_HEADER_LEN, FrameError, FrameMeta, decode_frame, encode_frame};
pub use memory::MemoryLog;
pub use metrics::{CacheMetrics, LogMetrics};
pub use salvage::{Salvage, SalvageError, SalvageFound, SalvageSummary};
pub use sled::{
    LogSettings, NotReady, OpenError, ProbeCommand, SledLog, SledSnapshots, VerifyProblem, VerifyProgress,
    VerifyReport, examine_volume,
};
#[doc(hidden)]
pub use sled::{alter_index, decode_index_block};
pub use tree::{LogTree, TreeError, TreeFollower};

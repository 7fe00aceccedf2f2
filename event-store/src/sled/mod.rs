//! The embedded engine: blocks in volumes, each a sled database, written by one thread, indexed behind.
//!
//! `docs/architecture.md` says why; `docs/format.md` says what the bytes are. Only this folder names sled.

mod answers;
mod background;
mod blocks;
mod counters;
mod examine;
mod generation;
mod group;
mod index;
mod indexer;
mod journal;
mod log;
mod lookups;
mod manifest;
mod matching;
mod names;
mod open;
mod opened;
mod present;
mod probe;
mod queue;
mod raw_volume;
mod readiness;
mod recent;
mod recover;
mod restore;
mod seal;
mod settings;
mod shared;
mod snapshots;
mod stored;
mod storer;
mod tail;
mod turn;
mod verify;
mod volume;
mod volumes;
mod watchdog;
mod window;
mod writer;

pub(crate) use index::indexed;
pub use index::{alter_index, decode_index_block};
pub use log::SledLog;
pub(crate) use manifest::{last_volume, parent, stated};
pub use probe::{ProbeCommand, examine_volume};
pub use readiness::NotReady;
pub(crate) use restore::{Origin, WriteError, write_log};
pub use settings::{LogSettings, OpenError};
pub use snapshots::SledSnapshots;
pub use verify::{VerifyProblem, VerifyProgress, VerifyReport};

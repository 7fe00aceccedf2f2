//! What raw files of volumes prove: block frames found by their own bytes, which of them tell the log's history, and a new
//! log made of them.
//!
//! Finding and choosing know nothing of the storage engine: bytes come in, frames come out.

mod choose;
mod plan;
mod raw;
mod remains;
mod scan;
mod verb;

pub(crate) use choose::{Chooser, FrameSet};
pub(crate) use raw::RawFiles;
pub(crate) use scan::RawFrame;
pub use verb::{Salvage, SalvageError, SalvageFound, SalvageSummary};

//! What raw files of volumes prove: block frames found by their own bytes, and which of them tell the log's history.
//!
//! Nothing here knows the storage engine: bytes come in, frames come out.

mod choose;
mod scan;

pub(crate) use choose::{Chooser, FrameSet};
pub(crate) use scan::{RawFrame, scan};

//! Views at work: a worker for each follows the log and writes rows; rebuilds put new rows in the place of old ones.

mod build;
mod directory;
mod fold;
mod follow;
mod online;
mod rebuild;
mod running;
mod worker;

pub use rebuild::{
    Comparison, Difference, DifferenceKind, RebuildOptions, RebuildProgress, RebuildReport, rebuild_offline,
};

pub(crate) use build::first_checkpoint;
pub(crate) use directory::{ViewStore, ViewsDir};
pub(crate) use fold::{Stop, panic_text, stop};
pub(crate) use online::{begin_rebuild, repair};
pub(crate) use running::{RunningView, Shared};
pub(crate) use worker::spawn;

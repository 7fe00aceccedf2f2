//! Views at work: a worker for each follows the log and writes rows; rebuilds put new rows in the place of old ones.

mod build;
mod checkpoint;
mod compare;
mod directory;
mod fold;
mod follow;
mod online;
mod rebuild;
mod retention;
mod running;
mod samples;
#[cfg(test)]
mod tests;
mod throttle;
mod worker;

pub use compare::{Comparison, Difference, DifferenceKind, FieldDifference};
pub use rebuild::{
    RebuildFrom, RebuildOptions, RebuildProgress, RebuildReport, drop_spare_rows, rebuild_offline,
    rebuild_together_offline,
};

pub(crate) use checkpoint::first_checkpoint;
pub(crate) use directory::{ViewStore, ViewsDir};
pub(crate) use fold::{Stop, stop};
pub(crate) use online::{Order, begin_rebuild, continue_rebuild, direct_rebuild, drop_spare, repair};
pub(crate) use running::{RunningView, Shared, Wanted};
pub(crate) use worker::spawn;

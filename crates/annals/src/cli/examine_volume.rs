//! `annals examine-volume`, which people do not call: opening a log after an unclean stop has the last volume examined in a
//! process of its own, because damaged files can bring down the process that opens them.

use super::output::Stdout;
use super::verdict::{Outcome, Verdict};
use anyhow::Context;

/// Examine the volume that is described on standard input, for the process that started this one
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

impl Args {
    #[expect(clippy::unused_self, reason = "a verb like the others")]
    pub(crate) fn run(&self) -> Outcome {
        annals_event_store::examine_volume(std::io::stdin(), Stdout::new())
            .context("this verb is for opening a log after an unclean stop, see `annals serve`")?;
        Ok(Verdict::Fine)
    }
}

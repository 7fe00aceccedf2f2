//! `annals replay`: states and rows as they were, folded from the log alone.

mod blame;
mod stream;
mod view;

use super::verdict::Outcome;
use crate::backend::Backend;

pub(crate) const HELP: &str = "\
Examples:
  annals replay stream orders/ord-1                         the state after each event
  annals replay stream orders/ord-1 --at 1234               the state as it was known then
  annals replay stream orders/ord-1 --blame                 each field with the event that set it
  annals replay view orders ord-1 --diff 1200..1234         what changed between two moments
  annals replay view sales-by-day --at-occurred 2017-11-24  the rows from what had occurred by then
  annals replay view orders --url http://127.0.0.1:8080     from the log of a running server";

/// Show the state of a stream or the rows of a view at any time, folded from the log alone
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Args {
    Stream(stream::Args),
    View(view::Args),
}

impl Args {
    pub(crate) fn run(&self, backend: &Backend) -> Outcome {
        match self {
            Self::Stream(args) => args.run(backend),
            Self::View(args) => args.run(backend),
        }
    }
}

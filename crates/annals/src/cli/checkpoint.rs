//! `annals checkpoint`: the latest signed checkpoint of a log.

use super::output::Stdout;
use super::verdict::{Outcome, Verdict};
use crate::http::Server;
use crate::source::DataArg;
use annals_event_store::SignedCheckpoints;
use anyhow::{Context, bail};
use std::io::Write;

const HELP: &str = "\
A checkpoint says how many events the log has and what the root of its Merkle tree is, signed
with the log's key. Keep one, or give it to somebody else: whoever has it can find out later
whether anything that it covers was changed (`annals verify --trust FILE`). The format is
that of c2sp.org/tlog-checkpoint.

A server signs every 100,000 events, every minute if there is anything new, and when it is
stopped. `annals keys list` shows the key to verify with.

Examples:
  annals checkpoint --url http://127.0.0.1:8080 > monday.checkpoint
  annals checkpoint --data shop

Exit code: 0 fine; 2 usage or environment, or no checkpoint was signed yet.";

/// Show the latest signed checkpoint of a log
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    data: DataArg,

    /// URL of a running command API
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    url: Option<String>,
}

impl Args {
    pub(crate) fn run(&self) -> Outcome {
        let note = match &self.url {
            Some(url) => Server::at(url)?.text("/checkpoint")?,
            None => self.local()?,
        };
        Verdict::Fine.listed(Stdout::new().write_all(note.as_bytes()))
    }

    fn local(&self) -> anyhow::Result<String> {
        let dir = self.data.data.join("checkpoints");
        let checkpoints = SignedCheckpoints::look(&dir)
            .with_context(|| format!("signed checkpoints in {} cannot be read", dir.display()))?;
        let Some((_, note)) = checkpoints.latest() else {
            bail!(
                "there is no signed checkpoint in {}: `annals serve` signs them, and one at its end",
                self.data.data.display()
            )
        };
        Ok(note)
    }
}

//! `annals load FILE|-`: runs commands from NDJSON, offline or against a server.

mod lines;
mod offline;
mod remote;
mod tally;

pub(crate) use lines::CommandLine;
pub(crate) use offline::Window;
pub(crate) use tally::LineResult;

use super::output::FormatArg;
use super::progress;
use super::verdict::Outcome;
use crate::backend::Backend;
use crate::http::Server;
use crate::node::Store;
use crate::source::{DataArg, Instead};
use anyhow::{Context, Result};
use indicatif::ProgressBar;
use lines::Lines;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use tally::Tally;

const HELP: &str = "\
Each line is one command:
  {\"aggregate\":\"orders\",\"id\":\"ord-1\",\"command\":\"place\",\"data\":{…},\"key\":\"k-1\",
   \"expected_version\":0,\"occurred_at\":\"2017-10-02T10:56:33Z\",\"actor\":\"ann\"}
data, key, expected_version, occurred_at and actor may be left out. The events stand in the
log in the order of the lines. A line with a key is not done twice, so that a file may be
loaded again. A bad line is reported with its number and the rest goes on. Against a server,
lines that follow each other and name the same actor go in one request, in its Annals-Actor.

Offline, events are appended and nothing else: views and reactors catch up at the next
`serve`.

Examples:
  annals load commands.ndjson                              into ./annals-data
  annals load --url http://127.0.0.1:8080 commands.ndjson  into a running server
  zstdcat commands.ndjson.zst | annals load -              from a pipe

Exit code: 0 all lines are in; 1 some lines failed; 2 usage or environment.";

/// Run commands from NDJSON, offline or against a running server
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// The file; - is stdin
    #[arg(value_name = "FILE|-")]
    file: PathBuf,

    #[command(flatten)]
    data: DataArg,

    /// URL of a running command API to send the commands to
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    url: Option<String>,

    #[command(flatten)]
    format: FormatArg,
}

impl Args {
    pub(crate) fn run(&self, backend: &Backend) -> Outcome {
        let format = self.format.resolve();
        // The input first: a file that is not there must not leave a new data directory behind.
        let (reader, bar) = open(&self.file)?;
        let lines = Lines::new(reader);
        let mut tally = Tally::default();
        let ended = match &self.url {
            Some(url) => remote::load(&Server::at(url)?, lines, &mut tally, &bar),
            None => {
                let store = Store::open(&self.data.data, backend).map_err(|error| Instead::CommandApi.of(error))?;
                let ended = offline::load(backend, &store, lines, &mut tally, &bar);
                store.close();
                ended
            }
        };
        bar.finish_and_clear();
        let reported = tally.report(format);
        ended.context("not all lines were looked at; once that is set right, load the file again")?;
        tally.verdict().listed(reported)
    }
}

/// The input, and a bar over its bytes.
fn open(path: &Path) -> Result<(Box<dyn BufRead>, ProgressBar)> {
    if path == Path::new("-") {
        return Ok((Box::new(BufReader::new(std::io::stdin())), progress::spinner()));
    }
    let said = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(said)?;
    let about = file.metadata().with_context(said)?;
    anyhow::ensure!(!about.is_dir(), "cannot read {}: it is a directory", path.display());
    let bar = progress::bytes_bar(about.len());
    Ok((Box::new(BufReader::with_capacity(1 << 20, bar.wrap_read(file))), bar))
}

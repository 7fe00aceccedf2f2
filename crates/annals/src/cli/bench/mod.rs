//! `annals bench`: how fast this machine is, always beside what its disk can do at best.

mod domain;
mod log;
mod measure;
mod raw;
mod rest;
mod views;

use super::output::{FormatArg, Listing};
use super::verdict::{Outcome, Verdict};
use super::{note, runtime};
use crate::backend::Backend;
use crate::node::Store;
use crate::source::Instead;
use annals_core::{Appender, EventLog};
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use domain::{Bench, Counts, EVENT_BYTES, STREAMS};
use measure::Measured;
use rest::Call;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const COLUMNS: [&str; 7] = [
    "what",
    "per_second",
    "p50_us",
    "p99_us",
    "p999_us",
    "rate_of_raw",
    "p50_of_raw",
];

const HELP: &str = "\
Events are 200 bytes of JSON over 100,000 streams; every append is synced before it counts.
Closed loop: each task or connection asks again when it has its answer. The baseline writes
the same payload bytes with pwrite and fdatasync to a file of full size beside the log;
`rate_of_raw` and `p50_of_raw` compare with it. For batches, reads and scans the times are
of one call; `per_second` counts events, commands or streams read.

Without --url everything runs in this process, the HTTP server too, on a data directory of
its own: a temporary one in the current directory, or --data, which must have no log yet.
With --url, events are appended to the streams bench/… of the server there.

Examples:
  annals bench
  annals bench --only append-64 --only rest-64 --seconds 10 --format json
  annals bench --data /mnt/fast/bench
  annals bench --url http://127.0.0.1:8080";

/// Measure appends, commands over REST, reads and rebuilds against the raw disk
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// A data directory without a log, to measure in; it is kept
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    data: Option<PathBuf>,

    /// URL of a running command API to measure
    #[arg(long, value_name = "URL")]
    url: Option<String>,

    /// Seconds for each measurement
    #[arg(long, value_name = "N", default_value_t = 3.0)]
    seconds: f64,

    /// Only this measurement, and its baseline; may be given several times
    #[arg(long, value_enum, value_name = "WHAT", conflicts_with = "url")]
    only: Vec<What>,

    #[command(flatten)]
    format: FormatArg,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// One event by one task
    #[value(name = "append-1")]
    Append1,
    /// One event each by 64 tasks
    #[value(name = "append-64")]
    Append64,
    /// Batches of 100 events by 8 tasks
    #[value(name = "append-batches")]
    AppendBatches,
    /// Commands over REST, 1 connection
    #[value(name = "rest-1")]
    Rest1,
    /// Commands over REST, 64 connections
    #[value(name = "rest-64")]
    Rest64,
    /// Whole streams
    #[value(name = "stream-reads")]
    StreamReads,
    /// The whole log, every record decoded
    #[value(name = "scan")]
    Scan,
    /// A counting view from the log
    #[value(name = "rebuild")]
    Rebuild,
}

impl Args {
    pub(crate) fn run(&self) -> Outcome {
        ensure!(
            self.seconds.is_finite() && self.seconds > 0.0,
            "--seconds must be more than 0"
        );
        let mut listing = Listing::stdout(self.format.resolve(), &COLUMNS);
        match &self.url {
            Some(url) => runtime()?.block_on(self.remote(url, &mut listing))?,
            None => self.local(&mut listing)?,
        }
        listing.finish()?;
        Ok(Verdict::Fine)
    }

    fn time(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    fn wants(&self, what: What) -> bool {
        self.only.is_empty() || self.only.contains(&what)
    }

    fn wants_any(&self, what: &[What]) -> bool {
        what.iter().any(|what| self.wants(*what))
    }

    async fn remote(&self, url: &str, listing: &mut Listing) -> Result<()> {
        let address = resolve(url)?;
        for (name, connections) in [
            ("appends over REST, 1 connection", 1),
            ("appends over REST, 64 connections", 64),
        ] {
            let measured = rest::calls(name, address, Call::Append, connections, self.time()).await?;
            listing.row(&measured.row(None))?;
        }
        Ok(())
    }

    fn local(&self, listing: &mut Listing) -> Result<()> {
        let temporary = match &self.data {
            Some(path) => {
                let log = path.join("annals.json");
                ensure!(
                    !log.exists(),
                    "{} has a log, and a benchmark would add to it: name another directory",
                    path.display()
                );
                None
            }
            None => Some(
                tempfile::Builder::new()
                    .prefix("annals-bench-")
                    .tempdir_in(std::env::current_dir()?)?,
            ),
        };
        let path = match (&self.data, &temporary) {
            (Some(path), _) => path.as_path(),
            (None, Some(dir)) => dir.path(),
            (None, None) => Path::new("."),
        };
        note(format_args!(
            "{EVENT_BYTES}-byte events over {STREAMS} streams, {} s each, in {}",
            self.seconds,
            path.display()
        ));
        let backend = Backend::new("bench").aggregate::<Bench>().view(Counts);
        let store = Store::open(path, &backend).map_err(|error| Instead::AnotherDirectory.of(error))?;
        let run = Run {
            args: self,
            backend,
            store,
        };
        let done = runtime()?.block_on(run.all(listing));
        run.store.close();
        drop(run);
        if let Some(dir) = temporary {
            dir.close().context("cannot remove the temporary data directory")?;
        }
        done
    }
}

struct Run<'a> {
    args: &'a Args,
    backend: Backend,
    store: Store,
}

impl Run<'_> {
    async fn all(&self, listing: &mut Listing) -> Result<()> {
        let log = Arc::clone(self.store.log()) as Arc<dyn Appender>;
        let (args, time, dir) = (self.args, self.args.time(), self.store.dir().path());
        if args.wants_any(&[What::Append1, What::Append64, What::Rest1, What::Rest64]) {
            let raw = raw::baseline("raw: 1 event, pwrite + fdatasync", dir, EVENT_BYTES, 1, time)?;
            listing.row(&raw.row(None))?;
            self.singles(&log, &raw, listing).await?;
        }
        if args.wants(What::AppendBatches) {
            let raw = raw::baseline("raw: 100 events, pwrite + fdatasync", dir, EVENT_BYTES * 100, 100, time)?;
            listing.row(&raw.row(None))?;
            let measured = log::appends("append, batches of 100, 8 tasks", &log, 8, 100, time).await?;
            listing.row(&measured.row(Some(&raw)))?;
        }
        if args.wants_any(&[What::StreamReads, What::Scan, What::Rebuild]) {
            log::fill(&log).await?;
            self.reads(log.as_ref(), listing)?;
        }
        Ok(())
    }

    async fn singles(&self, log: &Arc<dyn Appender>, raw: &Measured, listing: &mut Listing) -> Result<()> {
        let (args, time) = (self.args, self.args.time());
        for (what, name, tasks) in [
            (What::Append1, "append, 1 task", 1),
            (What::Append64, "append, 64 tasks", 64),
        ] {
            if args.wants(what) {
                listing.row(&log::appends(name, log, tasks, 1, time).await?.row(Some(raw)))?;
            }
        }
        if args.wants_any(&[What::Rest1, What::Rest64]) {
            let server = views::CommandServer::start(self.backend.commands(Arc::clone(log))?).await?;
            for (what, name, connections) in [
                (What::Rest1, "commands over REST, 1 connection", 1),
                (What::Rest64, "commands over REST, 64 connections", 64),
            ] {
                if args.wants(what) {
                    let measured = rest::calls(name, server.address(), Call::Command, connections, time).await?;
                    listing.row(&measured.row(Some(raw)))?;
                }
            }
            server.stop().await?;
        }
        Ok(())
    }

    fn reads(&self, log: &dyn EventLog, listing: &mut Listing) -> Result<()> {
        let (args, time) = (self.args, self.args.time());
        if args.wants(What::StreamReads) {
            listing.row(&log::stream_reads("stream reads, 1 thread", log, time)?.row(None))?;
        }
        if args.wants(What::Scan) {
            listing.row(&log::scan("scan, 1 thread", log, time)?.row(None))?;
        }
        if args.wants(What::Rebuild) {
            let measured = views::rebuild("rebuild of a counting view", log, &self.backend, self.store.dir())?;
            listing.row(&measured.row(None))?;
        }
        Ok(())
    }
}

fn resolve(url: &str) -> Result<SocketAddr> {
    let rest = url
        .strip_prefix("http://")
        .with_context(|| format!("{url} is no URL: write it as http://127.0.0.1:8080"))?;
    let host = rest.trim_end_matches('/');
    let said = || format!("{url} does not name a host and port: write it as http://127.0.0.1:8080");
    host.to_socket_addrs().with_context(said)?.next().with_context(said)
}

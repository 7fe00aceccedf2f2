//! `annals demo`: a server on a fresh data directory with generated business traffic.

use super::load::{CommandLine, LineResult, Window};
use super::output::FormatArg;
use super::summary;
use super::verdict::{Outcome, Verdict};
use super::{note, runtime, tracing_to_stderr};
use crate::backend::{Backend, Sample};
use crate::config::log_settings;
use crate::node::{Node, Store};
use crate::server::{Addresses, Beside, Listeners, Role, serve};
use annals_commands::Commands;
use anyhow::{Context, Result, anyhow, ensure};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// Business cases when nothing else is said: few enough to read, or to go on for a while.
const CASES_ONCE: u64 = 200;
const CASES_SERVED: u64 = 20_000;
/// Commands a second beside a server when nothing else is said.
const RATE_SERVED: f64 = 50.0;

const HELP: &str = "\
Without --data, the data directory is a temporary one and removed at the end.

Examples:
  annals demo                         serves, with 50 commands a second, until Ctrl-C
  annals demo --once --orders 1000    generates, prints what came of it, exits
  annals demo --data shop --rate 500  keeps the data in ./shop";

/// Serve a fresh data directory with generated business traffic
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Orders (or other business cases) to generate [default: 200 with --once, else 20000]
    #[arg(long, value_name = "N")]
    orders: Option<u64>,

    /// Commands a second [default: 50; with --once as many as go]
    #[arg(long, value_name = "R")]
    rate: Option<f64>,

    /// Generate, print a summary, exit
    #[arg(long)]
    once: bool,

    /// A data directory that has no log yet; it is kept
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Where the command API listens
    #[arg(long, value_name = "IP:PORT", default_value_t = Addresses::default().command)]
    command_addr: SocketAddr,

    /// Where the query API listens
    #[arg(long, value_name = "IP:PORT", default_value_t = Addresses::default().query)]
    query_addr: SocketAddr,

    #[command(flatten)]
    format: FormatArg,
}

impl Args {
    pub(crate) fn run(&self, backend: &Backend) -> Outcome {
        let sample = backend.sample_lines().ok_or_else(|| {
            anyhow!(
                "the backend {:?} has no generated traffic: give it some with Backend::sample",
                backend.name()
            )
        })?;
        ensure!(
            self.rate.is_none_or(|rate| rate > 0.0),
            "--rate must be more than 0 commands a second"
        );
        let addresses = Addresses {
            command: self.command_addr,
            query: self.query_addr,
        };
        for address in [addresses.command, addresses.query] {
            annals_api::check_loopback(address)?;
        }
        // Traffic and reactors race each other here on purpose, so that some commands of reactors come too late.
        tracing_to_stderr("warn,annals_projections::reactors=error");
        let (path, temporary) = self.fresh()?;
        if !self.once && self.data.is_some() {
            Listeners::check_free(&addresses, Role::All)?;
        }
        let held = Store::hold(&path, backend, None)?;
        let runtime = runtime()?;
        let done = runtime.block_on(async {
            if self.once {
                return self.once(backend, held.open(log_settings())?, sample).await;
            }
            let listeners = Listeners::bind(&addresses, Role::All).await?;
            let store = held.open(log_settings())?;
            serve(backend, store, listeners, Some(self.traffic(sample))).await
        });
        runtime.shutdown_background();
        if let Some(temporary) = temporary {
            temporary
                .close()
                .context("cannot remove the temporary data directory")?;
        }
        done.map(|()| Verdict::Fine)
    }

    /// A data directory without a log; a temporary one if none was named.
    fn fresh(&self) -> Result<(PathBuf, Option<TempDir>)> {
        let Some(path) = &self.data else {
            let dir = tempfile::Builder::new().prefix("annals-demo-").tempdir()?;
            return Ok((dir.path().to_owned(), Some(dir)));
        };
        let empty = std::fs::read_dir(path).map_or(true, |mut entries| entries.next().is_none());
        ensure!(
            empty,
            "{} is not empty, and a demo begins afresh: name another --data directory",
            path.display()
        );
        Ok((path.clone(), None))
    }

    /// Commands beside a server.
    fn traffic(&self, sample: Sample) -> Beside {
        let (cases, rate) = (self.orders.unwrap_or(CASES_SERVED), self.rate.unwrap_or(RATE_SERVED));
        Box::new(move |commands| {
            Box::pin(async move {
                match send(commands, sample, cases, Some(rate)).await {
                    Ok(_) => note(format_args!("the traffic of {cases} cases is in; the server goes on")),
                    Err(error) => note(format_args!("the traffic ended: {error:#}")),
                }
            })
        })
    }

    async fn once(&self, backend: &Backend, store: Store, sample: Sample) -> Result<()> {
        let node = Node::start(store, backend, Role::All)?;
        let cases = self.orders.unwrap_or(CASES_ONCE);
        let rejected = send(node.commands.clone(), sample, cases, self.rate).await?;
        if rejected > 0 {
            note(format_args!(
                "{rejected} commands were rejected, because the reactors had been faster"
            ));
        }
        let format = self.format.resolve();
        let backend = backend.clone();
        tokio::task::spawn_blocking(move || {
            summary::settle(&node)?;
            summary::show(&node, &backend, format)?;
            node.stop();
            Ok(())
        })
        .await?
    }
}

/// Sends the commands of so many cases, at this rate if there is one. Returns how many were not accepted.
async fn send(commands: Commands, sample: Sample, cases: u64, rate: Option<f64>) -> Result<u64> {
    let mut ticks = rate.map(|rate| tokio::time::interval(Duration::from_secs_f64(1.0 / rate)));
    let mut window = Window::new(commands);
    let mut failed = 0;
    let mut told = |number: u64, result: LineResult| {
        if let LineResult::Failed(reason) = result {
            failed += 1;
            tracing::debug!(number, reason, "a command of the traffic was not accepted");
        }
    };
    for (number, line) in (1..).zip(sample(cases)) {
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
        }
        let command = CommandLine::parse(line.as_bytes()).map_err(|error| anyhow!("sample line {number}: {error}"))?;
        window.push(number, command, &mut told).await?;
    }
    window.drain(&mut told).await?;
    Ok(failed)
}

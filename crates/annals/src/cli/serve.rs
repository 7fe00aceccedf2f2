//! `annals serve`: command API, workers and query API of one data directory.

use super::{runtime, tracing_to_stderr};
use crate::backend::Backend;
use crate::cli::verdict::{Outcome, Verdict};
use crate::config::Config;
use crate::node::{CommandLimits, Store};
use crate::server::{Addresses, Listeners, Role, serve};
use crate::source::{DEFAULT_DATA, Instead};
use annals_event_store::LogSettings;
use anyhow::{Result, bail};
use clap::ValueEnum;
use std::net::SocketAddr;
use std::path::PathBuf;

const HELP: &str = "\
Servers listen on loopback only until there is authentication. Port 0 takes a free port; the
addresses are printed to stderr. Ctrl-C or SIGTERM lets requests and workers finish; a
second one exits at once.

annals.toml, every key may be left out, options win over it:
  data = \"./annals-data\"
  name = \"annals\"
  command_addr = \"127.0.0.1:8080\"
  query_addr = \"127.0.0.1:8081\"
  [log]
  volume_bytes_max = 33554432     size at which a volume is closed
  reserve_bytes = 67108864        free space below which appends are refused
  queue_appends_max = 8192        appends that may wait, at least 1
  queue_bytes_max = 33554432      bytes of appends that may wait, at least 2097152
  sync_seconds_max = 30           time after which a sync counts as failed, and the server ends
  [commands]
  cached_states_max = 131072      states of streams kept in memory
  cached_state_bytes_max = 67108864  bytes of them
  snapshot_every = 250            events of a stream after which its state is kept on disk, 0 for never
  snapshot_bytes_max = 536870912  bytes of kept states on disk

Examples:
  annals serve
  annals serve --data shop --name shop --command-addr 127.0.0.1:9000 --query-addr 127.0.0.1:9001
  annals serve --config annals.toml";

/// Serve the command API, the workers and the query API
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// The data directory; created if there is none [default: ./annals-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// What this node does
    #[arg(long, value_enum, default_value = "all")]
    role: RoleArg,

    /// Where the command API listens [default: 127.0.0.1:8080]
    #[arg(long, value_name = "IP:PORT")]
    command_addr: Option<SocketAddr>,

    /// Where the query API listens [default: 127.0.0.1:8081]
    #[arg(long, value_name = "IP:PORT")]
    query_addr: Option<SocketAddr>,

    /// Name of the log, fixed when it is created [default: annals]
    #[arg(long)]
    name: Option<String>,

    /// A file with settings
    #[arg(long, value_name = "annals.toml")]
    config: Option<PathBuf>,

    /// The log that a query node follows (not yet)
    #[arg(long, value_name = "URL")]
    log: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleArg {
    /// Command API, reactors, views and query API
    All,
    /// Command API and reactors
    Command,
    /// Views and query API, following another node's log (not yet)
    Query,
}

struct Plan {
    data: PathBuf,
    name: Option<String>,
    role: Role,
    addresses: Addresses,
    log: LogSettings,
    commands: CommandLimits,
}

impl Args {
    pub(crate) fn run(&self, backend: &Backend) -> Outcome {
        let plan = self.resolve()?;
        tracing_to_stderr("warn");
        let held = Store::hold(&plan.data, backend, plan.name.as_deref())
            .map_err(|error| Instead::AnotherDirectory.of(error))?;
        let runtime = runtime()?;
        let served = runtime.block_on(async {
            // A port in use is found out before a large log is opened.
            let listeners = Listeners::bind(&plan.addresses, plan.role).await?;
            serve(backend, held.open(plan.log)?.limited(plan.commands), listeners, None).await
        });
        // Whatever still waits for a disk that does not answer must not keep the process.
        runtime.shutdown_background();
        served?;
        Ok(Verdict::Fine)
    }

    fn resolve(&self) -> Result<Plan> {
        let role = match (self.role, &self.log) {
            (RoleArg::Query, _) | (_, Some(_)) => {
                bail!("nodes that follow another node's log cannot be run yet: use --role all, without --log")
            }
            (RoleArg::All, None) => Role::All,
            (RoleArg::Command, None) => Role::Command,
        };
        let config = self
            .config
            .as_deref()
            .map(Config::read)
            .transpose()?
            .unwrap_or_default();
        let defaults = Addresses::default();
        let addresses = Addresses {
            command: self.command_addr.or(config.command_addr).unwrap_or(defaults.command),
            query: self.query_addr.or(config.query_addr).unwrap_or(defaults.query),
        };
        for address in [addresses.command, addresses.query] {
            annals_api::check_loopback(address)?;
        }
        Ok(Plan {
            data: self.data.clone().or(config.data).unwrap_or_else(|| DEFAULT_DATA.into()),
            name: self.name.clone().or(config.name),
            role,
            addresses,
            log: config.log.settings()?,
            commands: config.commands.limits(),
        })
    }
}

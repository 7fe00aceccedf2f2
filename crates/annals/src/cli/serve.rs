//! `annals serve`: command API, workers and query API of one data directory, or a part of them.

use super::{runtime, tracing_to_stderr};
use crate::backend::Backend;
use crate::cli::verdict::{Outcome, Verdict};
use crate::config::Config;
use crate::failure_config::FailureLimits;
use crate::node::{CommandLimits, Store};
use crate::query_dir::QueryDir;
use crate::query_node::QueryNode;
use crate::server::{Addresses, Listeners, Role, check_free, serve};
use crate::source::{DEFAULT_DATA, Instead, is_url};
use annals_api::ApiBounds;
use annals_event_store::LogSettings;
use anyhow::{Result, bail};
use clap::ValueEnum;
use std::net::SocketAddr;
use std::path::PathBuf;

const HELP: &str = "\
Servers listen on loopback only until there is authentication. Port 0 takes a free port; the
addresses are printed to stderr. Ctrl-C or SIGTERM lets requests and workers finish; a
second one exits at once.

A query node (--role query) has views of its own in a directory of its own, and follows the log
of a command node over HTTP. While that is away it goes on serving, and every answer says how
old it is: Annals-Lag, events behind as of the last contact, and Annals-Log-Age, seconds since.

annals.toml, every key may be left out, options win over it:
  data = \"./annals-data\"
  name = \"annals\"
  command_addr = \"127.0.0.1:8080\"
  query_addr = \"127.0.0.1:8081\"
  [log]
  volume_bytes_max = 33554432     size at which a volume is closed, 1048576 to 268435456
  reserve_bytes = 67108864        free space below which appends are refused
  queue_appends_max = 8192        appends that may wait, at least 1
  queue_bytes_max = 33554432      bytes of appends that may wait, at least 2097152
  sync_seconds_max = 30           time after which a sync counts as failed, and the server ends, 1 to 3600
  examine_seconds_max = 60        time that looking at the last volume after a crash may take
  examine_bytes_max = 1073741824  memory that it may take; with more the volume counts as damaged
  [commands]
  cached_states_max = 131072      states of streams kept in memory
  cached_state_bytes_max = 67108864  bytes of them
  snapshot_every = 250            events of a stream after which its state is kept on disk, 0 for never
  snapshot_bytes_max = 536870912  bytes of kept states on disk, at least 1048576
  [projections]
  attempts_max = 5                how often a failing event or command is tried, at least 1
  retry_pause_seconds_max = 30    longest pause between two attempts
  dead_letters_max = 1000         keys that a view or reactor parks, then it stops
  parked_events_max = 100000      events that wait for the parked keys of a view, then it stops
  rebuild_share_percent = 20      of the time, for a rebuild while others append, 1 to 100
  fold_bytes_max = 16777216       rows that each view keeps in memory for folding, at least 65536
  spill_bytes_max = 8388608       rows that each store gathers before it writes them, at least 65536
  spill_bytes_all_max = 67108864  the same for all stores together
  spill_seconds_max = 10          time after which they are written at the latest
  cache_bytes_max = 33554432      what was read from all stores and is kept, at least 65536
  open_files_max = 128            files of stores that are kept open, at least 16
  [views]
  history_days = \"all\"            how long views keep what rows were: days, \"all\", or \"off\" for none
  [views.NAME]
  history_days = 30               the same for one view
  on_failure = \"stop\"             or \"park\": park the key of an event that fails, and go on [default: the view's]
  [api]                           for each of the two APIs, all its callers together
  body_bytes_max = 33554432       bytes of large bodies, at least 2097152
  answer_bytes_max = 67108864     bytes of large answers, at least 16777216
  bulk_requests_max = 32          requests of many lines under way, at least 1
  followers_max = 64              requests that wait for further blocks of the log, 1 to 256
  live_queries_max = 256          live queries that are open, at least 1

Examples:
  annals serve
  annals serve --data shop --name shop --command-addr 127.0.0.1:9000 --query-addr 127.0.0.1:9001
  annals serve --config annals.toml
  annals serve --role command --data shop
  annals serve --role query --log http://127.0.0.1:8080 --data shop-views";

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

    /// URL of the command API whose log a query node follows
    #[arg(long, value_name = "URL")]
    log: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RoleArg {
    /// Command API, reactors, views and query API
    All,
    /// Command API and reactors
    Command,
    /// Views and query API, following another node's log (--log URL)
    Query,
}

struct Plan {
    data: PathBuf,
    name: Option<String>,
    role: Role,
    addresses: Addresses,
    log: LogSettings,
    commands: CommandLimits,
    failures: FailureLimits,
    api: ApiBounds,
}

/// What a query node needs.
struct QueryPlan {
    data: PathBuf,
    url: String,
    address: SocketAddr,
    api: ApiBounds,
    failures: FailureLimits,
}

impl Args {
    pub(crate) fn run(&self, backend: &Backend) -> Outcome {
        self.check()?;
        let served = match &self.log {
            Some(url) => serve_queries(backend, self.query_plan(backend, url)?),
            None => serve_log(backend, self.plan(backend)?),
        };
        served.map(|()| Verdict::Fine)
    }

    /// Options that do not go together, each with what to do instead.
    fn check(&self) -> Result<()> {
        match (self.role, &self.log) {
            (RoleArg::Query, None) => {
                bail!("a query node follows a command node's log: name it with --log http://127.0.0.1:8080")
            }
            (RoleArg::Query, Some(log)) if !is_url(log) => bail!(
                "--log {log} is no URL: a query node follows a running command API, as in --log http://127.0.0.1:8080"
            ),
            (RoleArg::All | RoleArg::Command, Some(_)) => bail!(
                "--log is for query nodes: add --role query, or leave --log out to serve the log in the data directory"
            ),
            _ => {}
        }
        let misplaced = [
            (
                RoleArg::Query,
                self.command_addr.is_some(),
                "--command-addr: a query node has no command API",
            ),
            (
                RoleArg::Query,
                self.name.is_some(),
                "--name: the log is another node's and has its name",
            ),
            (
                RoleArg::Command,
                self.query_addr.is_some(),
                "--query-addr: a command node has no query API",
            ),
        ];
        match misplaced.iter().find(|(role, given, _)| *role == self.role && *given) {
            Some((.., said)) => bail!("{said}; leave it out"),
            None => Ok(()),
        }
    }

    fn config(&self) -> Result<Config> {
        let config = self.config.as_deref().map(Config::read).transpose()?;
        Ok(config.unwrap_or_default())
    }

    fn data(&self, config: &mut Config) -> PathBuf {
        let data = self.data.clone().or(config.data.take());
        data.unwrap_or_else(|| DEFAULT_DATA.into())
    }

    fn query_plan(&self, backend: &Backend, url: &str) -> Result<QueryPlan> {
        let mut config = self.config()?;
        let address = self.query_addr.or(config.query_addr);
        let address = address.unwrap_or(Addresses::default().query);
        annals_api::check_loopback(address)?;
        Ok(QueryPlan {
            api: config.api.bounds()?,
            failures: FailureLimits::of(config.projections, &config.views, backend)?,
            data: self.data(&mut config),
            url: url.to_owned(),
            address,
        })
    }

    fn plan(&self, backend: &Backend) -> Result<Plan> {
        let mut config = self.config()?;
        let defaults = Addresses::default();
        let addresses = Addresses {
            command: self.command_addr.or(config.command_addr).unwrap_or(defaults.command),
            query: self.query_addr.or(config.query_addr).unwrap_or(defaults.query),
        };
        for address in [addresses.command, addresses.query] {
            annals_api::check_loopback(address)?;
        }
        Ok(Plan {
            data: self.data(&mut config),
            name: self.name.clone().or(config.name),
            role: if self.role == RoleArg::Command {
                Role::Command
            } else {
                Role::All
            },
            addresses,
            log: config.log.settings()?,
            commands: config.commands.limits()?,
            failures: FailureLimits::of(config.projections, &config.views, backend)?,
            api: config.api.bounds()?,
        })
    }
}

/// The log of a data directory.
fn serve_log(backend: &Backend, plan: Plan) -> Result<()> {
    tracing_to_stderr("warn");
    if QueryDir::is_at(&plan.data) {
        bail!(
            "data directory {0} is a query node's and has no log: name another one with --data, or start it with \
             --role query --log URL",
            plan.data.display()
        );
    }
    if !plan.data.exists() {
        // One that is there says who holds it, before what its ports say.
        Listeners::check_free(&plan.addresses, plan.role)?;
    }
    let held =
        Store::hold(&plan.data, backend, plan.name.as_deref()).map_err(|error| Instead::AnotherDirectory.of(error))?;
    let runtime = runtime()?;
    let served = runtime.block_on(async {
        // A port in use is found out before a large log is opened.
        let listeners = Listeners::bind(&plan.addresses, plan.role).await?;
        let store = held
            .open(plan.log)?
            .limited(plan.commands)
            .failing(plan.failures)
            .bounded(plan.api);
        serve(backend, store, listeners, None).await
    });
    // Whatever still waits for a disk that does not answer must not keep the process.
    runtime.shutdown_background();
    served
}

/// Views of another node's log.
fn serve_queries(backend: &Backend, plan: QueryPlan) -> Result<()> {
    tracing_to_stderr("warn");
    if !plan.data.exists() {
        check_free(&[(plan.address, "--query-addr")])?;
    }
    let dir = QueryDir::hold(&plan.data)?;
    let runtime = runtime()?;
    let served = runtime.block_on(async {
        let node = QueryNode::prepare(backend, dir, &plan.url, plan.address).await?;
        node.bounded(plan.api).failing(plan.failures).serve(backend).await
    });
    // Whoever still waits for the command node must not keep the process.
    runtime.shutdown_background();
    served
}

//! The servers of one node, from binding their ports to the last drained request. Knows nothing of options.

use crate::backend::Backend;
use crate::banner;
use crate::node::{Node, Store};
use annals_api::{Api, ApiState, Backups, ServeLimits, command_api, query_api};
use annals_commands::Commands;
use annals_event_store::{BackupSource, SledLog};
use anyhow::{Context, Result, bail};
use futures_util::future::BoxFuture;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long requests under way may take to finish when the server is stopped.
const DRAIN: Duration = Duration::from_secs(10);
/// How often the log is asked whether its storage failed.
const WATCH: Duration = Duration::from_millis(100);

/// Files that are kept free for log, views and outboxes, beside one for each connection.
const FILES_KEPT: u64 = 512;

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Everything.
    All,
    /// Command API and reactors.
    Command,
}

/// Where the servers listen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) command: SocketAddr,
    pub(crate) query: SocketAddr,
}

impl Default for Addresses {
    fn default() -> Self {
        let local = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        Self {
            command: local(8080),
            query: local(8081),
        }
    }
}

/// Ports that are bound and not served yet.
pub(crate) struct Listeners {
    command: TcpListener,
    query: Option<TcpListener>,
}

impl Listeners {
    /// An error if a port that the role needs is in use, see [`check_free`].
    pub(crate) fn check_free(addresses: &Addresses, role: Role) -> Result<()> {
        let wanted = [(addresses.command, "--command-addr"), (addresses.query, "--query-addr")];
        check_free(if role == Role::All { &wanted } else { &wanted[..1] })
    }

    /// Binds the ports that the role needs.
    pub(crate) async fn bind(addresses: &Addresses, role: Role) -> Result<Self> {
        let command = bind(addresses.command, "--command-addr").await?;
        let query = match role {
            Role::All => Some(bind(addresses.query, "--query-addr").await?),
            Role::Command => None,
        };
        Ok(Self { command, query })
    }
}

pub(crate) async fn bind(address: SocketAddr, option: &str) -> Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| not_bound(error, address, option))
}

/// An error if a port that is needed is in use. To be asked before a directory is made, so that none is left behind.
pub(crate) fn check_free(wanted: &[(SocketAddr, &str)]) -> Result<()> {
    for (address, option) in wanted {
        let bound = std::net::TcpListener::bind(address);
        bound.map_err(|error| not_bound(error, *address, option))?;
    }
    Ok(())
}

fn not_bound(error: io::Error, address: SocketAddr, option: &str) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "port {} is in use: stop what listens there, or choose another with {option} {}:0 (0 takes a free port)",
            address.port(),
            address.ip()
        ),
        _ => anyhow::Error::from(error).context(format!("cannot listen on {address} ({option})")),
    }
}

/// Work that goes on beside the servers, on the node's commands; dropped when the servers stop.
pub(crate) type Beside = Box<dyn FnOnce(Commands) -> BoxFuture<'static, ()> + Send>;

/// Serves until a signal, then lets everything finish. An error if a server or the log failed.
pub(crate) async fn serve(backend: &Backend, store: Store, listeners: Listeners, beside: Option<Beside>) -> Result<()> {
    let mut signals = Signals::listen()?;
    let command_url = format!("http://{}", listeners.command.local_addr()?);
    let query_url = listeners
        .query
        .as_ref()
        .map(|query| query.local_addr().map(|at| format!("http://{at}")))
        .transpose()?;
    let role = if query_url.is_some() { Role::All } else { Role::Command };
    store
        .dir()
        .announce(&command_url, query_url.as_deref())
        .context("cannot write the URLs into the data directory's lock")?;
    let node = Node::start(store, backend, role)?;
    let log = Arc::clone(node.store.log());
    let state = state(&node);
    let (stop, stopped) = watch::channel(false);
    let mut servers = vec![spawn(listeners.command, command_api(state.clone()), &stopped)];
    if let Some(query) = listeners.query {
        servers.push(spawn(query, query_api(state), &stopped));
    }
    banner::say(backend, &node, &command_url, query_url.as_deref());
    let beside = beside.map(|beside| tokio::spawn(beside(node.commands.clone())));
    let ended = tokio::select! {
        () = signals.next() => Ok(()),
        said = failure(&log) => Err(said),
        said = first_ended(&mut servers) => Err(said),
    };
    if let Some(beside) = beside {
        beside.abort();
    }
    tokio::spawn(async move {
        signals.next().await;
        std::process::exit(2);
    });
    let _ = stop.send(true);
    // One that has ended was awaited above, and must not be again.
    futures_util::future::join_all(servers.into_iter().filter(|server| !server.is_finished())).await;
    match ended {
        Ok(()) => {
            tokio::task::spawn_blocking(move || node.stop()).await?;
            Ok(())
        }
        Err(said) => {
            // What failed cannot be closed in order, and closing could wait for ever for a disk that does not answer:
            // the process ends as it stands, and the next start looks at what is there.
            std::mem::forget(node);
            bail!("{said}")
        }
    }
}

fn state(node: &Node) -> ApiState {
    let log = Arc::clone(node.store.log());
    let mut state = ApiState::new(node.commands.clone());
    state.bounds = node.store.bounds();
    state.projections = Some(node.projections.clone());
    state.domain = node.store.dir().domain().map(str::to_owned);
    let numbers = Arc::clone(&log);
    state.log_metrics = Some(Arc::new(move || numbers.metrics()));
    let backup = BackupSource::new(node.store.dir(), Arc::clone(&log));
    state.backups = Some(Backups::new(move |out| {
        let written = backup.write(out, &mut |_| ()).map_err(|error| error.to_string())?;
        tracing::info!(head = written.head.get(), bytes = written.bytes, "a backup was taken");
        Ok(())
    }));
    state.notary = Some(Arc::clone(node.notary.notary()));
    state.log_failure = Some(Arc::new(move || log.not_ready()));
    state
}

pub(crate) fn spawn(listener: TcpListener, api: Api, stopped: &watch::Receiver<bool>) -> JoinHandle<io::Result<()>> {
    let mut stopped = stopped.clone();
    let stop = async move {
        // A sender that is gone means the same as its word.
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let limits = ServeLimits {
        drain_time_max: DRAIN,
        connections_max: connections_max(),
        ..ServeLimits::default()
    };
    tokio::spawn(annals_api::serve_within(limits, listener, api, stop))
}

/// How many connections each API may have: no more than there are files for, or callers could take those of the log.
fn connections_max() -> u32 {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum;
    // One that cannot be raised stays as it is.
    let raised = setrlimit(Resource::Nofile, Rlimit { current, ..limit }).is_ok();
    let files = if raised { current } else { limit.current }.unwrap_or(u64::MAX);
    let each = (files.saturating_sub(FILES_KEPT) / 2).max(16);
    ServeLimits::default()
        .connections_max
        .min(u32::try_from(each).unwrap_or(u32::MAX))
}

/// Resolves when the log's storage failed.
async fn failure(log: &SledLog) -> String {
    loop {
        if let Some(said) = log.fatal() {
            return format!(
                "the log's storage failed, whether the appends under way were stored is unknown: {said}; set it right, \
                 then start the server again"
            );
        }
        tokio::time::sleep(WATCH).await;
    }
}

/// Resolves when a server ends by itself, which none should.
pub(crate) async fn first_ended(servers: &mut [JoinHandle<io::Result<()>>]) -> String {
    let (ended, ..) = futures_util::future::select_all(servers.iter_mut()).await;
    match ended.map_err(io::Error::from).flatten() {
        Ok(()) => "a server ended by itself".to_owned(),
        Err(error) => format!("a server failed: {error}"),
    }
}

/// SIGINT and SIGTERM.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

//! A query node: views of its own, folded from another node's log, and the query API over them. Takes no commands.
//!
//! It goes on serving while the command node is away. When that tells another history (it was restored), the node begins
//! anew in place: its port stays open, and its views judge what they have by the epoch that they read it in.

use crate::backend::Backend;
use crate::banner;
use crate::failure_config::FailureLimits;
use crate::follow::{About, FetchError, FollowedLog, about};
use crate::http::Server;
use crate::query_dir::{Followed, QueryDir};
use crate::server::{Signals, bind, first_ended, spawn};
use crate::source::check_domain;
use annals_api::{ApiBounds, ApiState, query_api};
use annals_core::{Appender, EventLog};
use annals_projections::{Projections, furthest_read};
use anyhow::{Result, anyhow, bail};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// How often the node looks whether the history that it follows has ended.
const WATCH: Duration = Duration::from_millis(100);
/// How long the node waits before it asks again for a log that it has to begin anew with.
const MEET_AGAIN: Duration = Duration::from_millis(500);

/// A query node before it serves: its directory is held, its port bound, and the log that it follows is known.
pub(crate) struct QueryNode {
    dir: QueryDir,
    server: Server,
    listener: std::net::TcpListener,
    query_url: String,
    first: Met,
    bounds: ApiBounds,
    failures: FailureLimits,
}

/// What is known of the log at a beginning.
struct Met {
    about: About,
    /// Whether the command node said so just now; else it stands in the directory.
    heard: bool,
}

impl QueryNode {
    /// Takes up contact with the command node at `url`. If it cannot be reached, what the directory knows is enough.
    pub(crate) async fn prepare(backend: &Backend, dir: QueryDir, url: &str, address: SocketAddr) -> Result<Self> {
        let server = Server::at(url)?;
        let listener = bind(address, "--query-addr").await?.into_std()?;
        let query_url = format!("http://{}", listener.local_addr()?);
        dir.announce(&query_url)?;
        let (asked, known) = (server.clone(), dir.followed()?);
        let answered = tokio::task::spawn_blocking(move || about(&asked)).await?;
        let first = match (answered, known) {
            (Ok(about), known) => {
                check_same(&about, known.as_ref(), &dir, url)?;
                Met { about, heard: true }
            }
            (Err(FetchError::Unreachable(why)), Some(known)) => {
                tracing::warn!(url, why, "the log cannot be reached: what was read before is served");
                Met {
                    about: remembered(backend, &dir, known),
                    heard: false,
                }
            }
            (Err(error), _) => bail!("{error}"),
        };
        check_domain(first.about.domain.as_deref(), backend)?;
        Ok(Self {
            dir,
            server,
            listener,
            query_url,
            first,
            bounds: ApiBounds::default(),
            failures: FailureLimits::default(),
        })
    }

    /// With other settings for its views.
    pub(crate) fn failing(mut self, failures: FailureLimits) -> Self {
        self.failures = failures;
        self
    }

    /// With other bounds for requests and answers.
    pub(crate) fn bounded(mut self, bounds: ApiBounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// Serves until a signal, then lets everything finish.
    pub(crate) async fn serve(self, backend: &Backend) -> Result<()> {
        let mut signals = Signals::listen()?;
        banner::say_query(
            backend,
            &self.first.about,
            self.server.url(),
            self.dir.path(),
            &self.query_url,
        );
        let mut met = self.first;
        let (dir, server) = (self.dir, self.server);
        loop {
            let listener = TcpListener::from_std(self.listener.try_clone()?)?;
            let mut running = Running::start(backend, &dir, &self.failures, &server, met).await?;
            running.state.bounds = self.bounds;
            match running.serve(listener, &mut signals).await? {
                Ended::Told => return Ok(()),
                Ended::History(why) => tracing::warn!(why, "the views of this node are of another history"),
            }
            met = tokio::select! {
                met = meet_again(&server, backend, &dir) => met?,
                () = signals.next() => return Ok(()),
            };
        }
    }
}

/// Until the command node answers, and with the log that the directory is of.
async fn meet_again(server: &Server, backend: &Backend, dir: &QueryDir) -> Result<Met> {
    let known = dir.followed()?;
    loop {
        let asked = server.clone();
        let answered = tokio::task::spawn_blocking(move || about(&asked)).await?;
        let fits = |about: &About| {
            check_same(about, known.as_ref(), dir, server.url())?;
            check_domain(about.domain.as_deref(), backend)
        };
        match answered
            .map_err(anyhow::Error::from)
            .and_then(|about| fits(&about).map(|()| about))
        {
            Ok(about) => return Ok(Met { about, heard: true }),
            Err(error) => tracing::warn!(%error, "the log is not followed for now"),
        }
        tokio::time::sleep(MEET_AGAIN).await;
    }
}

/// An error if the directory's views are of a log of another name.
fn check_same(about: &About, known: Option<&Followed>, dir: &QueryDir, url: &str) -> Result<()> {
    let Some(known) = known.filter(|known| known.name != about.name) else {
        return Ok(());
    };
    bail!(
        "data directory {0} has views of the log {1:?}, and {url} serves the log {2:?}: name the URL of {1:?} with --log, \
         or another directory with --data",
        dir.path().display(),
        known.name,
        about.name
    )
}

/// What the directory knows of the log: it reaches at least as far as the views have read it.
fn remembered(backend: &Backend, dir: &QueryDir, known: Followed) -> About {
    About {
        head: furthest_read(backend.views(), &dir.settings(), known.epoch),
        name: known.name,
        domain: known.domain,
        epoch: known.epoch,
    }
}

/// The log is followed from here on until its history ends.
struct Running {
    log: Arc<FollowedLog>,
    projections: Projections,
    state: ApiState,
}

/// Why a node stopped serving.
enum Ended {
    /// It was told to.
    Told,
    /// The log tells another history.
    History(String),
}

impl Running {
    async fn start(
        backend: &Backend,
        dir: &QueryDir,
        failures: &FailureLimits,
        server: &Server,
        met: Met,
    ) -> Result<Self> {
        let about = &met.about;
        dir.remember(&Followed::new(&about.name, about.domain.as_deref(), about.epoch))?;
        let log = Arc::new(FollowedLog::start(server, about, met.heard)?);
        let commands = backend.commands(Arc::clone(&log) as Arc<dyn Appender>)?;
        let (catalog, views) = (Arc::clone(commands.catalog()), failures.views(backend.views()));
        let (read, mut settings) = (Arc::clone(&log) as Arc<dyn EventLog>, dir.settings());
        failures.apply(&mut settings);
        let starting = move || Projections::start(read, catalog, views, Vec::new(), None, settings);
        let projections = tokio::task::spawn_blocking(starting).await??;
        let mut state = ApiState::new(commands);
        state.projections = Some(projections.clone());
        state.domain.clone_from(&about.domain);
        let contact = Arc::clone(&log);
        state.log_contact = Some(Arc::new(move || contact.contact()));
        Ok(Self {
            log,
            projections,
            state,
        })
    }

    async fn serve(self, listener: TcpListener, signals: &mut Signals) -> Result<Ended> {
        let (stop, stopped) = watch::channel(false);
        let mut servers = vec![spawn(listener, query_api(self.state), &stopped)];
        let ended = tokio::select! {
            () = signals.next() => Ok(Ended::Told),
            why = history_ended(&self.log) => Ok(Ended::History(why)),
            said = first_ended(&mut servers) => Err(anyhow!(said)),
        };
        if !matches!(ended, Ok(Ended::History(_))) {
            let mut again = Signals::listen()?;
            tokio::spawn(async move {
                again.next().await;
                std::process::exit(2);
            });
        }
        let _ = stop.send(true);
        // One that has ended was awaited above, and must not be again.
        futures_util::future::join_all(servers.into_iter().filter(|server| !server.is_finished())).await;
        self.log.close();
        let projections = self.projections;
        tokio::task::spawn_blocking(move || projections.shutdown()).await?;
        ended
    }
}

/// Resolves when the log that is followed tells another history.
async fn history_ended(log: &FollowedLog) -> String {
    loop {
        if let Some(why) = log.ended() {
            return why;
        }
        tokio::time::sleep(WATCH).await;
    }
}

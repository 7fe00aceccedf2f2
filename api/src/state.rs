//! What the handlers of both APIs work with.

use crate::backup::Backups;
use crate::bounds::{ApiBounds, Bounds};
use crate::closing::Closing;
use crate::metrics::Requests;
use crate::tail::Tail;
use annals_commands::Commands;
use annals_core::Appender;
use annals_event_store::{LogMetrics, NotReady, Notary};
use annals_projections::Projections;
use axum::http::HeaderValue;
use std::sync::Arc;
use std::time::Duration;

/// Says why the log takes no appends at the moment, or what of it is damaged; `None` while all is well.
pub type LogFailure = Arc<dyn Fn() -> Option<NotReady> + Send + Sync>;

/// Says the numbers of the log for `/metrics`.
pub type LogNumbers = Arc<dyn Fn() -> LogMetrics + Send + Sync>;

/// What a query node knows of the log that it follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogContact {
    /// URL of the command API that has the log.
    pub url: String,
    /// How long ago it last answered.
    pub age: Duration,
    /// Why it does not answer, or why its answers are of no use; `None` while all is well.
    pub trouble: Option<String>,
}

/// Says what a query node knows of the log that it follows.
pub type ContactNow = Arc<dyn Fn() -> LogContact + Send + Sync>;

/// A backend as the two APIs see it.
#[derive(Clone)]
pub struct ApiState {
    /// Decides commands.
    pub commands: Commands,
    /// The running views and reactors, if this node has any.
    pub projections: Option<Projections>,
    /// The log.
    pub log: Arc<dyn Appender>,
    /// Asked by `/readyz`.
    pub log_failure: Option<LogFailure>,
    /// Asked by `/metrics`.
    pub log_metrics: Option<LogNumbers>,
    /// Of a query node: asked for every answer, which says how old it is.
    pub log_contact: Option<ContactNow>,
    /// Counted by both APIs, shown by `/metrics` of either.
    pub(crate) requests: Arc<Requests>,
    /// Takes backups, if the log's engine can.
    pub backups: Option<Backups>,
    /// Name of the domain that wrote the log, said by `GET /v1/log` so that nobody folds another domain's events.
    pub domain: Option<String>,
    /// Keeps the log's Merkle tree and signs checkpoints; none where the log is elsewhere.
    pub notary: Option<Arc<Notary>>,
    /// What each of the two APIs holds in memory for its callers.
    pub bounds: ApiBounds,
}

impl ApiState {
    /// The state of a backend without projections and without a log that can fail.
    pub fn new(commands: Commands) -> Self {
        let log = Arc::clone(commands.log());
        Self {
            commands,
            projections: None,
            log,
            log_failure: None,
            log_metrics: None,
            log_contact: None,
            requests: Arc::default(),
            backups: None,
            domain: None,
            notary: None,
            bounds: ApiBounds::default(),
        }
    }
}

/// The state as the handlers share it.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) api: ApiState,
    /// The epoch never changes while a log is open, so its header is written once.
    pub(crate) epoch: HeaderValue,
    pub(crate) bounds: Bounds,
    pub(crate) closing: Closing,
    /// For those who listen to events.
    pub(crate) tail: Tail,
}

impl Shared {
    pub(crate) fn new(api: ApiState) -> Self {
        let epoch = HeaderValue::try_from(api.log.epoch().to_string());
        Self(Arc::new(Inner {
            bounds: Bounds::new(&api.bounds),
            closing: Closing::default(),
            tail: Tail::default(),
            api,
            // A uuid is a valid header value; an empty one would say that it is not.
            epoch: epoch.unwrap_or_else(|_| HeaderValue::from_static("")),
        }))
    }
}

impl std::ops::Deref for Shared {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

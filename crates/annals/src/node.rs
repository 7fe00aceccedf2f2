//! A node in this process: a data directory with its log open, and on it commands, views and reactors at work.

use crate::backend::Backend;
use crate::config::log_settings;
use crate::dispatcher::CommandDispatcher;
use crate::failure_config::FailureLimits;
use crate::notary::NotaryAtWork;
use crate::server::Role;
use crate::source::check_domain;
use annals_api::ApiBounds;
use annals_commands::{CommandSettings, Commands};
use annals_core::{Appender, Catalog, EventLog, SnapshotStore};
use annals_event_store::{DataDir, LogSettings, OpenOptions, SledLog, SledSnapshots};
use annals_projections::{ProjectionSettings, Projections};
use anyhow::Result;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A data directory with its log open for appends. Held, and nobody else's, until it is dropped.
pub(crate) struct Store {
    dir: DataDir,
    log: Arc<SledLog>,
    limits: CommandLimits,
    failures: FailureLimits,
    bounds: ApiBounds,
}

/// Bounds of what commands keep of states, in memory and on disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommandLimits {
    pub(crate) settings: CommandSettings,
    /// Bytes of snapshots on disk.
    pub(crate) snapshot_bytes_max: u64,
}

impl Default for CommandLimits {
    fn default() -> Self {
        Self {
            settings: CommandSettings::default(),
            snapshot_bytes_max: 512 << 20,
        }
    }
}

impl Store {
    /// Opens or creates the data directory for the domain of `backend`.
    pub(crate) fn open(path: &Path, backend: &Backend) -> Result<Self> {
        Self::hold(path, backend, None)?.open(log_settings())
    }

    /// Holds the data directory; the log is opened in a second step, so that what is quick to fail comes before it.
    pub(crate) fn hold(path: &Path, backend: &Backend, name: Option<&str>) -> Result<Held> {
        let options = OpenOptions {
            create: true,
            name,
            domain: Some(backend.name()),
        };
        let dir = DataDir::open(path, options)?;
        check_domain(dir.domain(), backend)?;
        Ok(Held { dir })
    }

    /// With other bounds for commands.
    pub(crate) fn limited(mut self, limits: CommandLimits) -> Self {
        self.limits = limits;
        self
    }

    /// With other settings for what fails in views and reactors.
    pub(crate) fn failing(mut self, failures: FailureLimits) -> Self {
        self.failures = failures;
        self
    }

    /// With other bounds for requests and answers.
    pub(crate) fn bounded(mut self, bounds: ApiBounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// The bounds of requests and answers.
    pub(crate) fn bounds(&self) -> ApiBounds {
        self.bounds
    }

    /// Snapshots of states; none if they are switched off, or there is no thread for them.
    fn snapshots(&self) -> Option<Arc<SledSnapshots>> {
        if self.limits.settings.snapshot_every == 0 {
            return None;
        }
        let log = Arc::clone(&self.log) as Arc<dyn EventLog>;
        SledSnapshots::open(&self.dir, log, self.limits.snapshot_bytes_max)
            .inspect_err(|error| tracing::warn!(%error, "no snapshots of states are kept"))
            .ok()
            .map(Arc::new)
    }

    pub(crate) fn dir(&self) -> &DataDir {
        &self.dir
    }

    pub(crate) fn log(&self) -> &Arc<SledLog> {
        &self.log
    }

    /// Returns when everything is synced. Dropping does the same, and says less.
    pub(crate) fn close(&self) {
        self.log.close();
    }
}

/// A data directory that is held while its log is not open yet.
pub(crate) struct Held {
    dir: DataDir,
}

impl Held {
    pub(crate) fn open(self, settings: LogSettings) -> Result<Store> {
        let log = Arc::new(SledLog::open(&self.dir, settings)?);
        Ok(Store {
            dir: self.dir,
            log,
            limits: CommandLimits::default(),
            failures: FailureLimits::default(),
            bounds: ApiBounds::default(),
        })
    }
}

/// Where the views and reactors of a data directory stand.
pub(crate) fn projection_settings(dir: &DataDir) -> ProjectionSettings {
    ProjectionSettings::new(dir.views_path(), dir.reactors_path())
}

/// Commands, views and reactors at work on one log.
pub(crate) struct Node {
    pub(crate) store: Store,
    pub(crate) commands: Commands,
    pub(crate) projections: Projections,
    pub(crate) notary: NotaryAtWork,
    snapshots: Option<Arc<SledSnapshots>>,
    stop_checking: Arc<AtomicBool>,
}

impl Node {
    /// Starts the workers. From within a runtime, because reactors send their commands through it.
    pub(crate) fn start(store: Store, backend: &Backend, role: Role) -> Result<Self> {
        let notary = NotaryAtWork::start(&store.dir, &store.log)?;
        let snapshots = store.snapshots();
        let commands = backend.commands_within(
            Arc::clone(&store.log) as Arc<dyn Appender>,
            store.limits.settings,
            snapshots.clone().map(|snapshots| snapshots as Arc<dyn SnapshotStore>),
        )?;
        let stop_checking = Arc::new(AtomicBool::new(false));
        if snapshots.is_some() {
            let (commands, stop) = (commands.clone(), Arc::clone(&stop_checking));
            std::thread::Builder::new()
                .name("annals-snapshot-check".into())
                .spawn(move || commands.check_snapshots(&stop))?;
        }
        let catalog: Arc<Catalog> = Arc::clone(commands.catalog());
        let dispatcher = CommandDispatcher::new(commands.clone(), tokio::runtime::Handle::current());
        let mut settings = projection_settings(&store.dir);
        store.failures.apply(&mut settings);
        let projections = Projections::start(
            Arc::clone(&store.log) as Arc<dyn EventLog>,
            catalog,
            if role == Role::All {
                store.failures.views(backend.views())
            } else {
                Vec::new()
            },
            backend.reactors().to_vec(),
            Some(Arc::new(dispatcher)),
            settings,
        )?;
        Ok(Self {
            store,
            commands,
            projections,
            notary,
            snapshots,
            stop_checking,
        })
    }

    /// Lets the workers finish what they have begun, then closes the log. Blocks.
    pub(crate) fn stop(self) {
        self.stop_checking.store(true, Ordering::Relaxed);
        self.projections.shutdown();
        self.notary.stop();
        self.store.close();
        if let Some(snapshots) = &self.snapshots {
            snapshots.close();
        }
    }
}

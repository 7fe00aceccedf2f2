//! A running view as its worker, its rebuild and its queries share it.

use super::directory::{ViewStore, ViewsDir};
use crate::changes::Changes;
use crate::failures::{DeadLetter, DeadLetterState, dead_letter};
use crate::progress::{Progress, locked};
use crate::space::Space;
use crate::store::{Letter, Stores};
use crate::{
    ProjectionKind, ProjectionSettings, ProjectionState, ProjectionStatus, QueryError, RebuildState, RebuildStatus,
    ViewDefinition,
};
use annals_core::{Catalog, EventLog};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

/// What all views of a process share.
pub(crate) struct Shared {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) settings: ProjectionSettings,
    pub(crate) stores: Arc<Stores>,
    pub(crate) stopping: AtomicBool,
}

impl Shared {
    pub(crate) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

/// One running view.
pub(crate) struct RunningView {
    pub(crate) shared: Arc<Shared>,
    pub(crate) definition: ViewDefinition,
    pub(crate) directory: Arc<ViewsDir>,
    pub(crate) space: Space,
    pub(crate) progress: Progress,
    pub(crate) changes: Changes,
    serving: RwLock<Option<Arc<ViewStore>>>,
    /// Held while a batch is folded and written, and while a store takes another's place.
    pub(crate) step: Mutex<()>,
    pub(crate) rebuild: Mutex<Rebuild>,
    /// How often its store was found damaged since the start.
    pub(crate) repairs: AtomicU32,
    /// The event that it stopped at.
    pub(crate) stopped_at: Mutex<Option<Letter>>,
    /// Set when a decision about it was appended, so that the worker looks at once.
    decided: AtomicBool,
}

/// The rebuild that is going on, or the last one.
#[derive(Default)]
pub(crate) struct Rebuild {
    pub(crate) status: Option<RebuildStatus>,
    pub(crate) wanted: Wanted,
    pub(crate) thread: Option<JoinHandle<()>>,
}

impl Rebuild {
    pub(crate) fn is_going_on(&self) -> bool {
        let state = self.status.as_ref().map(|status| status.state);
        matches!(state, Some(RebuildState::Running | RebuildState::Paused))
    }
}

/// What a person wants of a rebuild.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Wanted {
    #[default]
    GoOn,
    Rest,
    End,
}

impl RunningView {
    pub(crate) fn new(shared: Arc<Shared>, definition: ViewDefinition, directory: Arc<ViewsDir>) -> Self {
        let progress = Progress::new(
            definition.name(),
            ProjectionKind::View,
            Some(definition.version()),
            Arc::clone(&shared.log),
        );
        let space = Space::new(directory.path(), shared.settings.reserve_bytes);
        Self {
            shared,
            definition,
            directory,
            space,
            progress,
            changes: Changes::new(),
            serving: RwLock::new(None),
            step: Mutex::new(()),
            rebuild: Mutex::new(Rebuild::default()),
            repairs: AtomicU32::new(0),
            stopped_at: Mutex::new(None),
            decided: AtomicBool::new(false),
        }
    }

    /// A decision about the view stands in the log.
    pub(crate) fn decide(&self) {
        self.decided.store(true, Ordering::Release);
    }

    /// Whether there is one that the worker does not know.
    pub(crate) fn take_decided(&self) -> bool {
        self.decided.swap(false, Ordering::Acquire)
    }

    /// Its dead letters, the one that it stopped at first, then by key.
    pub(crate) fn dead_letters(&self) -> Vec<DeadLetter> {
        let (name, version) = (self.name(), self.definition.version());
        let stopped = locked(&self.stopped_at).clone();
        let stopped = stopped.map(|letter| dead_letter(name, version, &letter, DeadLetterState::Stopped));
        let parked = self.serving().map(|store| store.board().all()).unwrap_or_default();
        let parked = parked.values().map(|posted| {
            let state = if posted.retrying {
                DeadLetterState::Retrying
            } else {
                DeadLetterState::Parked
            };
            dead_letter(name, version, &posted.letter, state)
        });
        stopped.into_iter().chain(parked).collect()
    }

    pub(crate) fn name(&self) -> &'static str {
        self.definition.name()
    }

    pub(crate) fn serving(&self) -> Option<Arc<ViewStore>> {
        self.serving.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on queries and the worker use this store. Returns what served before.
    pub(crate) fn serve(&self, store: ViewStore) -> Option<Arc<ViewStore>> {
        let new = Some(Arc::new(store));
        let old = std::mem::replace(&mut *self.serving.write().unwrap_or_else(PoisonError::into_inner), new);
        self.changes.all();
        old
    }

    /// The store to be queried.
    pub(crate) fn queried(&self) -> Result<Arc<ViewStore>, QueryError> {
        self.serving().ok_or_else(|| {
            let (state, error) = self.progress.state();
            QueryError::Unavailable {
                view: self.name().to_owned(),
                state: state.as_str(),
                detail: error.unwrap_or_else(|| "its rows are being built, try again later".into()),
            }
        })
    }

    pub(crate) fn status(&self) -> ProjectionStatus {
        let mut status = self.progress.status();
        let parked = self.serving().map_or(0, |store| store.board().all().len());
        status.dead_letters = parked as u64 + u64::from(locked(&self.stopped_at).is_some());
        status.rebuild = locked(&self.rebuild).status.clone();
        status
    }

    /// Closes the store, so that another process can open it.
    pub(crate) fn close(&self) {
        *self.serving.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What to say of an error in an event that no attempt has helped against.
    pub(crate) fn helpless(&self, error: &str) -> String {
        let (attempts, name) = (self.shared.settings.attempts_max.max(1), self.name());
        format!(
            "{error}; tried {attempts} times: correct the view's code, raise its VERSION and restart the server, or retry \
             or skip the event, see `annals dead-letters list --view {name}`"
        )
    }

    pub(crate) fn stop(&self, error: &str) {
        tracing::error!(view = self.name(), position = %self.progress.position(), error, "view stopped");
        self.progress.enter(ProjectionState::Stopped, Some(error.to_owned()));
        self.changes.all();
    }
}

//! Builds while the server runs: how they tell of themselves, and how their store takes the place of another.

use super::build::{Build, BuildWatch, Shadow};
use super::running::RunningView;
use crate::progress::locked;
use crate::space::NoSpace;
use crate::store::{Checkpoint, Letter};
use crate::{ProjectionState, RebuildError, RebuildProgress, RebuildState, RebuildStatus};
use annals_core::Position;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often a full disk is looked at.
const SPACE_WAIT: Duration = Duration::from_millis(250);
/// The worker is paused while a rebuild folds its last events: at most about this many.
const LAST_EVENTS: u64 = 2_000;
/// Stores that turn out damaged are built anew this often since the start; then the disk must be looked at.
const SELF_REPAIRS_MAX: u32 = 3;

/// Starts a thread that rebuilds the view beside the store that serves.
pub(crate) fn begin_rebuild(view: &Arc<RunningView>) -> Result<(), RebuildError> {
    let mut rebuild = locked(&view.rebuild);
    if rebuild
        .status
        .as_ref()
        .is_some_and(|status| status.state == RebuildState::Running)
    {
        return Err(RebuildError::Running(view.name().to_owned()));
    }
    let worker = Arc::clone(view);
    let thread = std::thread::Builder::new()
        .name(format!("rebuild-{}", view.name()))
        .spawn(move || {
            // The outcome stands in the status.
            let _ = worker.build_and_swap(Some(&worker.step));
        })
        .map_err(|error| RebuildError::Store {
            view: view.name().to_owned(),
            detail: format!("no thread for it: {error}"),
        })?;
    rebuild.status = Some(view.rebuild_status(RebuildState::Running, None));
    rebuild.thread = Some(thread);
    Ok(())
}

/// Begins a rebuild because a query met damage. Returns what to say of it.
pub(crate) fn repair(view: &Arc<RunningView>, detail: &str) -> &'static str {
    if !view.may_repair() {
        return "it was rebuilt several times already, check the disk";
    }
    tracing::warn!(
        view = view.name(),
        detail,
        "the store is damaged: the view is rebuilt from the log"
    );
    match begin_rebuild(view) {
        Ok(()) | Err(RebuildError::Running(_)) => "it is being rebuilt",
        Err(_) => "it could not be rebuilt",
    }
}

impl RunningView {
    /// Whether a store that turned out damaged may be built anew without anybody being asked. Counts.
    pub(crate) fn may_repair(&self) -> bool {
        self.repairs.fetch_add(1, Ordering::Relaxed) < SELF_REPAIRS_MAX
    }

    /// Builds a new store and puts it in its place. With `pause`, the worker's lock, it is another thread than the
    /// worker's, and the worker rests while the store takes its place.
    pub(crate) fn build_and_swap(&self, pause: Option<&Mutex<()>>) -> Result<Checkpoint, RebuildError> {
        let result = self.try_build_and_swap(pause);
        let (state, error) = match &result {
            Ok(_) => (RebuildState::Done, None),
            Err(RebuildError::Cancelled(_)) => (RebuildState::Cancelled, None),
            Err(error) => (RebuildState::Failed, Some(error.to_string())),
        };
        match &error {
            None => tracing::info!(view = self.name(), ?state, "rebuild ended"),
            Some(error) => tracing::error!(view = self.name(), error, "rebuild failed"),
        }
        let mut rebuild = locked(&self.rebuild);
        let mut status = rebuild
            .status
            .take()
            .unwrap_or_else(|| self.rebuild_status(state, None));
        (status.state, status.error, status.eta_seconds) = (state, error, None);
        rebuild.status = Some(status);
        result
    }

    fn try_build_and_swap(&self, pause: Option<&Mutex<()>>) -> Result<Checkpoint, RebuildError> {
        let build = Build {
            log: &*self.shared.log,
            catalog: &self.shared.catalog,
            view: &self.definition,
            settings: &self.shared.settings,
            directory: &self.directory,
            space: &self.space,
        };
        let mut watch = Watch { view: self };
        let mut shadow = build.shadow()?;
        shadow.catch_up(None, &mut watch)?;
        let Some(step) = pause else {
            return self.swap(shadow);
        };
        while self.progress.position().since(shadow.position()) > LAST_EVENTS {
            shadow.catch_up(None, &mut watch)?;
        }
        let _step = locked(step);
        shadow.catch_up(Some(self.progress.position()), &mut watch)?;
        self.swap(shadow)
    }

    fn swap(&self, shadow: Shadow<'_>) -> Result<Checkpoint, RebuildError> {
        let kept = shadow.keep()?;
        match (self.serving(), kept.before) {
            // It goes by itself when the last query has finished with it.
            (Some(_), _) | (None, None) => {}
            (None, Some(before)) => self.directory.discard(&before),
        }
        self.serve(kept.store);
        self.progress.advance(kept.checkpoint.position, 0);
        Ok(kept.checkpoint)
    }

    fn rebuild_status(&self, state: RebuildState, progress: Option<RebuildProgress>) -> RebuildStatus {
        RebuildStatus {
            state,
            version: self.definition.version(),
            position: progress.map_or(Position::ZERO, |progress| progress.position),
            total: progress.map_or_else(|| self.shared.log.head(), |progress| progress.total),
            events_per_second: progress.map_or(0.0, |progress| progress.events_per_second.round()),
            eta_seconds: progress.and_then(|progress| progress.eta_seconds),
            error: None,
        }
    }

    /// Waits until there is space again or the server shuts down, then goes back to the state `after`.
    pub(crate) fn wait_for_space(&self, full: NoSpace, after: ProjectionState) {
        let NoSpace { free, reserve } = full;
        let text = format!("the disk has {free} bytes left and {reserve} are kept in reserve: free some space");
        tracing::warn!(view = self.name(), error = text, "view waits for space");
        self.progress.enter(ProjectionState::WaitingForSpace, Some(text));
        while self.space.check().is_err() && !self.shared.stopping() {
            std::thread::sleep(SPACE_WAIT);
        }
        self.progress.enter(after, None);
    }
}

/// Tells a view's status how its build is going, and the build when to stop.
struct Watch<'a> {
    view: &'a RunningView,
}

impl BuildWatch for Watch<'_> {
    fn cancelled(&self) -> bool {
        self.view.shared.stopping()
    }

    fn progress(&mut self, progress: RebuildProgress) {
        let status = self.view.rebuild_status(RebuildState::Running, Some(progress));
        locked(&self.view.rebuild).status = Some(status);
    }

    fn no_space(&mut self, full: NoSpace) -> bool {
        let serves = self.view.serving().is_some();
        let after = if serves {
            ProjectionState::Running
        } else {
            ProjectionState::Rebuilding
        };
        self.view.wait_for_space(full, after);
        true
    }

    fn failed(&mut self, letter: Letter) {
        // A view that serves goes on with the store it has: the rebuild's error says why it failed.
        if self.view.serving().is_none() {
            *locked(&self.view.stopped_at) = Some(letter);
        }
    }
}

//! Builds while the server runs: how they tell of themselves, and how their store takes the place of another.

use super::build::{Build, BuildWatch, Shadow};
use super::compare::{Comparison, compare, unreadable};
use super::directory::{Serving, Stage, Unfinished};
use super::running::{RunningView, Wanted};
use super::throttle::Beside;
use crate::pass::Member;
use crate::progress::locked;
use crate::space::NoSpace;
use crate::store::{Checkpoint, Letter};
use crate::{ProjectionState, RebuildError, RebuildFrom, RebuildOptions, RebuildProgress, RebuildState, RebuildStatus};
use annals_core::Position;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// How often a full disk is looked at.
const SPACE_WAIT: Duration = Duration::from_millis(250);
/// The worker is paused while a rebuild folds its last events: at most about this many.
const LAST_EVENTS: u64 = 2_000;
/// Stores that turn out damaged are built anew this often since the start; then the disk must be looked at.
const SELF_REPAIRS_MAX: u32 = 3;

/// How often a rebuild that rests looks whether to go on.
const LOOK: Duration = Duration::from_millis(20);

/// What a rebuild in a running server is to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    pub(crate) options: RebuildOptions,
    pub(crate) wanted: Wanted,
    /// Whether the rows that serve cannot be trusted, so that they are not kept for a rollback.
    pub(crate) repairs: bool,
}

impl Order {
    pub(crate) fn of(options: RebuildOptions) -> Self {
        Self {
            options,
            wanted: Wanted::GoOn,
            repairs: false,
        }
    }
}

/// Starts a thread that rebuilds the view beside the store that serves. As a member of a pass it reads the log together
/// with others.
pub(crate) fn begin_rebuild(view: &Arc<RunningView>, order: Order, member: Option<Member>) -> Result<(), RebuildError> {
    let name = view.name();
    let mut rebuild = locked(&view.rebuild);
    if rebuild.is_going_on() {
        return Err(RebuildError::Running(name.to_owned()));
    }
    match order.options.from {
        RebuildFrom::Ready if view.directory.shadow(name).is_none() => {
            return Err(RebuildError::NotReady(name.to_owned()));
        }
        RebuildFrom::Previous if view.directory.previous(name).is_none() => {
            return Err(RebuildError::NoPrevious(name.to_owned()));
        }
        _ => {}
    }
    let (worker, options, wanted) = (Arc::clone(view), order.options, order.wanted);
    let thread = std::thread::Builder::new()
        .name(format!("rebuild-{name}"))
        .spawn(move || {
            // The outcome stands in the status.
            let _ = worker.build_and_swap(&order, member, Some(&worker.step));
        })
        .map_err(|error| RebuildError::Store {
            view: name.to_owned(),
            detail: format!("no thread for it: {error}"),
        })?;
    rebuild.status = Some(view.rebuild_status(RebuildState::Running, options));
    rebuild.wanted = wanted;
    rebuild.thread = Some(thread);
    Ok(())
}

/// Goes on with a rebuild that the last shutdown or a kill interrupted.
pub(crate) fn continue_rebuild(view: &Arc<RunningView>) {
    let name = view.name();
    let Some(shadow) = view.directory.shadow(name).filter(|_| view.serving().is_some()) else {
        return;
    };
    let begun = match shadow.stage {
        _ if shadow.store.version != view.definition.version() => view
            .directory
            .drop_shadow(name)
            .map(drop)
            .map_err(|error| error.to_string()),
        Stage::Ready => {
            let mut status = view.rebuild_status(RebuildState::Ready, shadow.options());
            status.position = shadow.position;
            locked(&view.rebuild).status = Some(status);
            Ok(())
        }
        stage => {
            let paused = stage == Stage::Paused;
            let wanted = if paused { Wanted::Rest } else { Wanted::GoOn };
            let options = shadow.options();
            let order = Order {
                wanted,
                ..Order::of(options)
            };
            begin_rebuild(view, order, None).map_err(|error| error.to_string())
        }
    };
    if let Err(error) = begun {
        tracing::warn!(view = name, error, "an interrupted rebuild could not be continued");
    }
}

/// Tells a rebuild that is going on to rest, to go on or to end. Returns at once.
pub(crate) fn direct_rebuild(view: &RunningView, wanted: Wanted) -> Result<(), RebuildError> {
    let name = view.name().to_owned();
    let mut rebuild = locked(&view.rebuild);
    let state = rebuild.status.as_ref().map(|status| status.state);
    let going_on = rebuild.is_going_on();
    if wanted == Wanted::End && view.serving().is_none() {
        return Err(RebuildError::Needed(name));
    }
    if wanted == Wanted::End && state == Some(RebuildState::Ready) {
        view.directory.drop_shadow(&name).map_err(|error| RebuildError::Store {
            view: name,
            detail: error.to_string(),
        })?;
        if let Some(status) = &mut rebuild.status {
            status.state = RebuildState::Cancelled;
        }
        return Ok(());
    }
    if !going_on {
        return Err(RebuildError::NotRunning(name));
    }
    rebuild.wanted = wanted;
    Ok(())
}

/// Drops the rows that served before the last swap, and those that wait to be swapped in.
pub(crate) fn drop_spare(view: &RunningView) -> Result<bool, RebuildError> {
    let name = view.name();
    let mut rebuild = locked(&view.rebuild);
    if rebuild.is_going_on() {
        return Err(RebuildError::Running(name.to_owned()));
    }
    let failed = |error: std::io::Error| RebuildError::Store {
        view: name.to_owned(),
        detail: error.to_string(),
    };
    let previous = view.directory.drop_previous(name).map_err(failed)?;
    let shadow = view.directory.drop_shadow(name).map_err(failed)?;
    if let Some(status) = &mut rebuild.status
        && status.state == RebuildState::Ready
    {
        status.state = RebuildState::Cancelled;
    }
    Ok(previous || shadow)
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
    let order = Order {
        repairs: true,
        ..Order::of(RebuildOptions::default())
    };
    match begin_rebuild(view, order, None) {
        Ok(()) | Err(RebuildError::Running(_)) => "it is being rebuilt",
        Err(_) => "it could not be rebuilt",
    }
}

impl RunningView {
    /// Whether a store that turned out damaged may be built anew without anybody being asked. Counts.
    pub(crate) fn may_repair(&self) -> bool {
        self.repairs.fetch_add(1, Ordering::Relaxed) < SELF_REPAIRS_MAX
    }

    /// Builds the rows of a view that has none to serve: from an unfinished build, from rows that served before if those
    /// in place are of another version, else from the log's beginning.
    pub(crate) fn build_from_what_there_is(&self) -> Result<Option<Checkpoint>, RebuildError> {
        let (name, version) = (self.name(), self.definition.version());
        let other = |store: Option<Serving>| store.is_some_and(|store| store.version != version);
        let mut from = RebuildFrom::Log;
        if self.directory.shadow(name).is_some() {
            from = RebuildFrom::Ready;
        } else if other(self.directory.serving(name)) && !other(self.directory.previous(name)) {
            from = RebuildFrom::Previous;
        }
        let order = |from| Order {
            repairs: true,
            ..Order::of(RebuildOptions {
                from,
                ..RebuildOptions::default()
            })
        };
        match self.build_and_swap(&order(from), None, None) {
            Err(RebuildError::Unusable { .. } | RebuildError::NotReady(_) | RebuildError::NoPrevious(_)) => {
                self.build_and_swap(&order(RebuildFrom::Log), None, None)
            }
            other => other,
        }
    }

    /// Builds a new store and, as a rule, puts it in its place. With `pause`, the worker's lock, it is another thread than
    /// the worker's, and the worker rests while the store takes its place.
    pub(crate) fn build_and_swap(
        &self,
        order: &Order,
        member: Option<Member>,
        pause: Option<&Mutex<()>>,
    ) -> Result<Option<Checkpoint>, RebuildError> {
        if pause.is_none() {
            locked(&self.rebuild).status = Some(self.rebuild_status(RebuildState::Running, order.options));
        }
        let result = self.try_build_and_swap(order, member, pause);
        let (state, error) = match &result {
            Ok(Some(_)) => (RebuildState::Done, None),
            Ok(None) => (RebuildState::Ready, None),
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
            .unwrap_or_else(|| self.rebuild_status(state, order.options));
        (status.state, status.error, status.eta_seconds) = (state, error, None);
        rebuild.status = Some(status);
        rebuild.wanted = Wanted::GoOn;
        result
    }

    fn try_build_and_swap(
        &self,
        order: &Order,
        member: Option<Member>,
        pause: Option<&Mutex<()>>,
    ) -> Result<Option<Checkpoint>, RebuildError> {
        let build = Build {
            log: &*self.shared.log,
            catalog: &self.shared.catalog,
            view: &self.definition,
            settings: &self.shared.settings,
            directory: &self.directory,
            space: &self.space,
        };
        let mut watch = Watch::new(self, order.options);
        let mut shadow = build.begin(order.options)?;
        shadow.in_pass(member);
        shadow.tell_now(&mut watch);
        let filled = match pause {
            Some(step) => self.fill(&mut shadow, order.options, step, &mut watch),
            None => shadow.catch_up(None, &mut watch).map(|()| None),
        };
        match filled {
            Err(error) => {
                shadow.leave_after(&error, self.shared.stopping());
                Err(error)
            }
            Ok(_) if !order.options.swap => shadow.leave_ready(order.options).map(|()| None),
            Ok(_resting) => {
                // Rows of another version were never found wanting.
                let serving = self.directory.serving(self.name());
                let other = serving.is_some_and(|serving| serving.version != self.definition.version());
                let keep_before = other || (pause.is_some() && self.serving().is_some() && !order.repairs);
                self.swap(shadow, keep_before).map(Some)
            }
        }
    }

    /// Folds up to where the rows that serve are, while these are followed; compares on the way. Returns with the worker
    /// at rest, unless nothing is to be swapped.
    fn fill<'a>(
        &self,
        shadow: &mut Shadow<'_>,
        options: RebuildOptions,
        step: &'a Mutex<()>,
        watch: &mut Watch<'_>,
    ) -> Result<Option<MutexGuard<'a, ()>>, RebuildError> {
        self.come_near(shadow, watch)?;
        if options.compare {
            self.compare(shadow, step, watch)?;
            self.come_near(shadow, watch)?;
        }
        if !options.swap {
            return Ok(None);
        }
        let resting = locked(step);
        watch.hurries = true;
        shadow.catch_up(Some(self.progress.position()), watch)?;
        Ok(Some(resting))
    }

    fn come_near(&self, shadow: &mut Shadow<'_>, watch: &mut Watch<'_>) -> Result<(), RebuildError> {
        shadow.catch_up(None, watch)?;
        while self.progress.position().since(shadow.position()) > LAST_EVENTS {
            shadow.catch_up(None, watch)?;
        }
        Ok(())
    }

    /// Compares old and new rows at one position: the worker rests for a moment, then goes on while they are compared.
    fn compare(&self, shadow: &mut Shadow<'_>, step: &Mutex<()>, watch: &mut Watch<'_>) -> Result<(), RebuildError> {
        let failed = |detail: String| RebuildError::Store {
            view: self.name().to_owned(),
            detail,
        };
        let old = self.serving();
        // The new rows may be ahead of a view that is paused or slow.
        let compared = loop {
            let resting = locked(step);
            let at = self.progress.position();
            if shadow.position() <= at {
                watch.hurries = true;
                shadow.catch_up(Some(at), watch)?;
                watch.hurries = false;
            }
            let (Some(old), Some(new)) = (&old, shadow.store()) else {
                break unreadable("the view has no rows yet".into());
            };
            let (before, now) = (old.rows().reader(), new.rows().reader());
            drop(resting);
            if before.position() == now.position() {
                let compared = compare(&before, &now, &mut || !watch.cancelled());
                let compared = compared.map_err(|error| failed(error.to_string()))?;
                break compared.ok_or_else(|| RebuildError::Cancelled(self.name().to_owned()))?;
            }
            if self.progress.state().0 != ProjectionState::Running {
                break unreadable(format!(
                    "the old rows stay at {}, the new ones are at {}",
                    before.position(),
                    now.position()
                ));
            }
            if watch.cancelled() {
                return Err(RebuildError::Cancelled(self.name().to_owned()));
            }
            drop((before, now));
            std::thread::sleep(LOOK);
        };
        if let Some(status) = &mut locked(&self.rebuild).status {
            status.comparison = Some(compared.clone());
        }
        watch.comparison = Some(compared);
        Ok(())
    }

    fn swap(&self, shadow: Shadow<'_>, keep_before: bool) -> Result<Checkpoint, RebuildError> {
        let kept = shadow.keep(keep_before)?;
        let before = self.serve(kept.store);
        self.progress.advance(kept.checkpoint.position, 0);
        if let Some(before) = before {
            if !keep_before {
                // It goes by itself when the last query has finished with it.
                before.retire();
            } else if let Err(error) = before.rows().sync() {
                tracing::warn!(view = self.name(), %error, "the rows kept for a rollback are not at their end");
            }
            let gone = |store: &&Serving| keep_before || store.directory != before.directory();
            kept.dropped
                .iter()
                .filter(gone)
                .for_each(|store| self.directory.discard(store));
        } else {
            kept.dropped.iter().for_each(|store| self.directory.discard(store));
        }
        Ok(kept.checkpoint)
    }

    pub(crate) fn rebuild_status(&self, state: RebuildState, options: RebuildOptions) -> RebuildStatus {
        RebuildStatus {
            state,
            version: self.definition.version(),
            position: Position::ZERO,
            total: self.shared.log.head(),
            events_per_second: 0.0,
            eta_seconds: None,
            swap: options.swap,
            comparison: None,
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

/// Tells a view's status how its build is going, and the build when to rest and when to stop.
struct Watch<'a> {
    view: &'a RunningView,
    options: RebuildOptions,
    comparison: Option<Comparison>,
    beside: Beside<'a>,
    /// The worker waits for the build: no rest now.
    hurries: bool,
}

impl<'a> Watch<'a> {
    fn new(view: &'a RunningView, options: RebuildOptions) -> Self {
        let shared = &view.shared;
        Self {
            view,
            options,
            comparison: None,
            beside: Beside::new(&*shared.log, shared.settings.rebuild_share_percent),
            hurries: false,
        }
    }

    fn wanted(&self) -> Wanted {
        locked(&self.view.rebuild).wanted
    }

    fn enter(&self, state: RebuildState) {
        if let Some(status) = &mut locked(&self.view.rebuild).status {
            status.state = state;
        }
    }

    /// Writes down whether the build rests, so that it does so after a restart, too.
    fn note(&self, stage: Stage) {
        let name = self.view.name();
        if let Some(shadow) = self.view.directory.shadow(name) {
            let noted = self
                .view
                .directory
                .set_shadow(name, Some(Unfinished { stage, ..shadow }));
            if let Err(error) = noted {
                tracing::warn!(view = name, %error, "whether the rebuild rests could not be written down");
            }
        }
    }
}

impl BuildWatch for Watch<'_> {
    fn cancelled(&self) -> bool {
        self.view.shared.stopping() || self.wanted() == Wanted::End
    }

    fn wants_rest(&self) -> bool {
        !self.hurries && self.wanted() == Wanted::Rest
    }

    fn before_step(&mut self, left: u64) -> usize {
        if self.hurries {
            return usize::MAX;
        }
        if self.wanted() == Wanted::Rest {
            self.note(Stage::Paused);
            self.enter(RebuildState::Paused);
            while self.wanted() == Wanted::Rest && !self.view.shared.stopping() {
                std::thread::sleep(LOOK);
            }
            if !self.view.shared.stopping() {
                self.note(Stage::Building);
                self.enter(RebuildState::Running);
            }
        }
        self.beside.events_max(left)
    }

    fn after_step(&mut self, took: Duration) {
        if !self.hurries {
            self.beside.rest(took);
        }
    }

    fn progress(&mut self, progress: RebuildProgress) {
        let status = RebuildStatus {
            position: progress.position,
            total: progress.total,
            events_per_second: progress.events_per_second.round(),
            eta_seconds: progress.eta_seconds,
            comparison: self.comparison.clone(),
            ..self.view.rebuild_status(RebuildState::Running, self.options)
        };
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

//! Builds the rows of a view in a store that nobody reads yet: from the log's beginning, or from where an earlier build
//! or an older store ended. For a view that was never built, one whose store cannot be trusted, rebuilds and rollbacks.

use super::checkpoint::{first_checkpoint, unfit};
use super::directory::{Activated, Serving, Stage, Unfinished, ViewStore, ViewsDir};
use super::fold::{Batch, Gate, Limits, Stop, ViewFold};
use super::follow::middle;
use super::retention::horizon_at;
use super::samples::{Samples, changed_code};
use crate::failures::{Letters, Operations, Verb, letter};
use crate::pass::Member;
use crate::space::{NoSpace, Space};
use crate::store::{Checkpoint, Letter, StoreError, Written, count_rows};
use crate::{
    FoldError, ProjectionSettings, RebuildError, RebuildFrom, RebuildOptions, RebuildProgress, ViewDefinition,
};
use annals_core::{Catalog, EventLog, FailurePolicy, KEY_LEN_MAX, Position};
use std::time::{Duration, Instant};

/// How often progress is told.
const TOLD_EVERY: Duration = Duration::from_millis(100);
/// Most events of a step: between two of them a build can be paused.
const STEP_EVENTS: usize = 32_768;
/// Rows that are written at once while others need the processors.
const CALM_ROWS: usize = 1_000;
/// How often it is looked whether to stop while an event waits to be tried again.
const LOOK: Duration = Duration::from_millis(20);

/// What a build needs.
pub(crate) struct Build<'a> {
    pub(crate) log: &'a dyn EventLog,
    pub(crate) catalog: &'a Catalog,
    pub(crate) view: &'a ViewDefinition,
    pub(crate) settings: &'a ProjectionSettings,
    pub(crate) directory: &'a ViewsDir,
    pub(crate) space: &'a Space,
}

/// What those who wait for a build have to say and want to know.
pub(crate) trait BuildWatch {
    fn cancelled(&self) -> bool;
    /// Before a step, with the events that are left: may wait. Returns the most events that the step may have.
    fn before_step(&mut self, _left: u64) -> usize {
        usize::MAX
    }
    /// Whether to rest before the next step; the store is synced first.
    fn wants_rest(&self) -> bool {
        false
    }
    /// After a step, with how long it took: may wait.
    fn after_step(&mut self, _took: Duration) {}
    fn progress(&mut self, progress: RebuildProgress);
    /// The disk is full: waits a moment and returns whether to try again.
    fn no_space(&mut self, full: NoSpace) -> bool;
    /// The build ends, because this event failed too often.
    fn failed(&mut self, letter: Letter);
}

/// A store that is being built. Thrown away when dropped, unless it was kept or left; one that served before is never
/// thrown away.
pub(crate) struct Shadow<'a> {
    build: &'a Build<'a>,
    fold: ViewFold<'a>,
    store: Option<ViewStore>,
    served_before: bool,
    left: bool,
    checkpoint: Checkpoint,
    operations: Operations,
    letters: Letters,
    /// The next step goes no further, because the event behind it fails.
    until: Option<Position>,
    failing: Option<Letter>,
    /// When rows were written last.
    written: Instant,
    begun: Instant,
    begun_at: Position,
    told: Instant,
}

/// A store that was opened, and how far it is.
type Opened = (ViewStore, Checkpoint, Letters);

impl<'a> Build<'a> {
    /// A store to build in, as asked for. What was skipped is known before anything is folded.
    pub(crate) fn begin(&'a self, options: RebuildOptions) -> Result<Shadow<'a>, RebuildError> {
        let (view, directory) = (self.view, self.directory);
        let name = || view.name().to_owned();
        let mut operations = Operations::new(name().as_str(), Some(view.version()));
        let decided = operations.read(self.log).map_err(FoldError::from)?;
        let skipped: Vec<_> = decided
            .into_iter()
            .filter_map(|decided| match decided.verb {
                Verb::Skip(what) => Some((what.position, what.key, decided.at)),
                _ => None,
            })
            .collect();
        let open = |stored: &Serving| self.open(stored, &operations, &skipped);
        let unusable = |detail| RebuildError::Unusable { view: name(), detail };
        let opened = match options.from {
            RebuildFrom::Log => match directory.shadow(view.name()) {
                Some(shadow) if shadow.stage != Stage::Ready => match open(&shadow.store) {
                    Ok(opened) => Some(opened),
                    Err(reason) => {
                        tracing::info!(view = view.name(), reason, "an unfinished build is begun anew");
                        None
                    }
                },
                _ => None,
            },
            RebuildFrom::Ready => {
                let shadow = directory.shadow(view.name());
                let shadow = shadow.ok_or_else(|| RebuildError::NotReady(name()))?;
                Some(open(&shadow.store).map_err(unusable)?)
            }
            RebuildFrom::Previous => {
                let previous = directory.previous(view.name());
                let previous = previous.ok_or_else(|| RebuildError::NoPrevious(name()))?;
                Some(open(&previous).map_err(unusable)?)
            }
        };
        let served_before = options.from == RebuildFrom::Previous;
        let (store, checkpoint, letters) = match opened {
            Some(opened) => opened,
            None => self.create()?,
        };
        if !served_before {
            let shadow = self.unfinished(&store, options, Stage::Building, checkpoint.position);
            self.name_shadow(Some(shadow))?;
        }
        let samples = Samples::load(store.rows(), checkpoint.position).map_err(|error| self.failed(&error))?;
        Ok(Shadow {
            build: self,
            fold: ViewFold::new(
                self.log,
                self.catalog,
                view,
                self.settings,
                samples,
                directory.threads(),
            ),
            store: Some(store),
            served_before,
            left: false,
            begun_at: checkpoint.position,
            checkpoint,
            operations,
            letters,
            until: None,
            failing: None,
            written: Instant::now(),
            begun: Instant::now(),
            told: Instant::now(),
        })
    }

    /// An empty store at position zero.
    fn create(&self) -> Result<Opened, RebuildError> {
        let (view, directory) = (self.view, self.directory);
        directory
            .drop_shadow(view.name())
            .map_err(|error| self.failed(&StoreError::Failed(error.to_string())))?;
        let store = directory
            .create(view.name(), view.version())
            .map_err(|error| self.failed(&error))?;
        let letters = Letters::new(self.settings.backoff(), self.settings.letter_bounds());
        let mut checkpoint = first_checkpoint(self.log, view.fingerprint(), view.keeps_history());
        if let Some(kept) = self.settings.history_kept(view.name()).filter(|_| view.keeps_history()) {
            // What would be dropped as soon as it serves is not written.
            checkpoint.history = Some(horizon_at(self.log, kept).map_err(FoldError::from)?);
        }
        Ok((store, checkpoint, letters))
    }

    /// A store that is there, if it can be folded on from where it ends; else why not.
    fn open(
        &self,
        stored: &Serving,
        operations: &Operations,
        skipped: &[(Position, Option<String>, Position)],
    ) -> Result<Opened, String> {
        let view = self.view;
        if stored.version != view.version() {
            return Err(format!(
                "its rows are of version {}, this program has version {}: start a program that has it",
                stored.version,
                view.version()
            ));
        }
        let store = self
            .directory
            .open_when_closed(stored)
            .map_err(|error| format!("its store cannot be opened: {error}"))?;
        let checkpoint = store.rows().checkpoint().map_err(|error| error.to_string())?;
        let checkpoint = checkpoint.ok_or("its store has no checkpoint")?;
        if let Some(reason) = unfit(self.log, view, &checkpoint) {
            return Err(reason);
        }
        let changed = changed_code(self.log, self.catalog, view, store.rows());
        if let Some(reason) = changed.map_err(|error| error.to_string())? {
            return Err(reason);
        }
        let (backoff, bounds) = (self.settings.backoff(), self.settings.letter_bounds());
        let letters = Letters::load(store.rows(), backoff, bounds, operations.skips());
        let letters = letters.map_err(|error| error.to_string())?;
        let read = checkpoint.position;
        let folded = skipped.iter().find(|(position, key, at)| {
            *position <= read && *at > read && !key.as_ref().is_some_and(|key| letters.is_parked(key))
        });
        match folded {
            Some((position, ..)) => Err(format!("it has folded event {position}, which was skipped since")),
            None => Ok((store, checkpoint, letters)),
        }
    }

    fn unfinished(&self, store: &ViewStore, options: RebuildOptions, stage: Stage, position: Position) -> Unfinished {
        Unfinished {
            store: Serving {
                version: self.view.version(),
                directory: store.directory(),
            },
            stage,
            swap: options.swap,
            compare: options.compare,
            position,
        }
    }

    fn name_shadow(&self, shadow: Option<Unfinished>) -> Result<(), RebuildError> {
        self.directory
            .set_shadow(self.view.name(), shadow)
            .map(drop)
            .map_err(|error| self.failed(&StoreError::Failed(error.to_string())))
    }

    fn unwritable(&self, error: &StoreError) -> FoldError {
        FoldError::Store {
            projection: self.view.name().to_owned(),
            detail: error.to_string(),
        }
    }

    fn failed(&self, error: &StoreError) -> RebuildError {
        RebuildError::Store {
            view: self.view.name().to_owned(),
            detail: error.to_string(),
        }
    }
}

impl Shadow<'_> {
    /// Folds up to a position, or to the log's head, which may move meanwhile.
    pub(crate) fn catch_up(
        &mut self,
        target: Option<Position>,
        watch: &mut dyn BuildWatch,
    ) -> Result<(), RebuildError> {
        loop {
            let goal = target.unwrap_or_else(|| self.build.log.head());
            if self.checkpoint.position >= goal {
                self.tell(watch, goal);
                return Ok(());
            }
            self.step(goal, watch)?;
            if self.told.elapsed() >= TOLD_EVERY {
                self.told = Instant::now();
                self.tell(watch, goal);
            }
        }
    }

    fn wait_for_space(&self, watch: &mut dyn BuildWatch) -> Result<(), RebuildError> {
        while let Err(full) = self.build.space.check() {
            if !watch.no_space(full) {
                return Err(RebuildError::NoSpace {
                    path: self.build.space.path().to_owned(),
                    free: full.free,
                    reserve: full.reserve,
                });
            }
        }
        Ok(())
    }

    fn step(&mut self, goal: Position, watch: &mut dyn BuildWatch) -> Result<(), RebuildError> {
        self.wait_for_space(watch)?;
        if watch.wants_rest() {
            // A rest may be long: what there is survives a kill.
            self.write()?;
            self.finish()?;
            self.tell_now(watch);
        }
        let folded = self.folded();
        let events = watch.before_step(goal.since(folded)).min(STEP_EVENTS);
        if watch.cancelled() {
            return Err(RebuildError::Cancelled(self.build.view.name().to_owned()));
        }
        let settings = self.build.settings;
        let Some(store) = &self.store else {
            return Ok(());
        };
        // Beside live traffic nothing is done that takes all processors, or long.
        let calm = events < STEP_EVENTS;
        let limits = Limits {
            events,
            rows: if calm { CALM_ROWS } else { usize::MAX }.min(settings.build_rows_max),
            bytes: settings.table_bytes_max.saturating_mul(4),
            alone: calm,
            until: self.until.map_or(goal, |until| until.min(goal)),
        };
        let gate = Gate {
            letters: &self.letters,
            operations: &self.operations,
        };
        let (after, begun) = (self.checkpoint.position, Instant::now());
        let on = match self.fold.go_on(store.rows(), after, limits, gate, &mut |_| {}) {
            Ok(on) if on.position == folded && on.position < limits.until => {
                // A log that is elsewhere may be out of reach for a moment.
                std::thread::sleep(LOOK);
                return Ok(());
            }
            Ok(on) if on.full || on.position >= limits.until || self.written.elapsed() >= settings.spill_every => {
                self.take_and_write()
            }
            Ok(_) => Ok(()),
            Err(stop) => Err(stop),
        };
        match on {
            Ok(()) => {
                watch.after_step(begun.elapsed());
                Ok(())
            }
            Err(Stop::Event { position, key, error }) if position == after.next() => {
                self.until = None;
                self.failed(position, key, error, watch)
            }
            Err(Stop::Row { position, key, error }) if position == after.next() => {
                self.until = None;
                self.failed(position, Some(key), error, watch)
            }
            Err(Stop::Event { position, .. }) => {
                self.until = Some(position.previous());
                Ok(())
            }
            // Which event made the row too large is found by halves.
            Err(Stop::Row { position, .. }) => {
                self.until = Some(middle(after, position));
                Ok(())
            }
            Err(stop) => Err(self.build.stopped(stop)),
        }
    }

    /// Up to where events are folded, be it that they are not written yet.
    fn folded(&self) -> Position {
        self.fold.position().unwrap_or(self.checkpoint.position)
    }

    /// Writes what was folded.
    fn write(&mut self) -> Result<(), RebuildError> {
        if self.fold.position().is_none() {
            return Ok(());
        }
        self.take_and_write().map_err(|stop| self.build.stopped(stop))
    }

    fn take_and_write(&mut self) -> Result<(), Stop> {
        let kept = self.build.settings.table_bytes_max.saturating_mul(2);
        let batch = self.fold.take(self.checkpoint.position, kept)?;
        self.written = Instant::now();
        self.write_batch(batch)
    }

    fn write_batch(&mut self, batch: Batch) -> Result<(), Stop> {
        let Some(store) = &self.store else {
            return Ok(());
        };
        self.letters.wait(batch.waiting);
        let mut next = self.checkpoint.clone();
        next.rows = count_rows(next.rows, &batch.changes);
        next.position = batch.position;
        let written = Written {
            changes: &batch.changes,
            letters: &self.letters.take_changes(),
            samples: &batch.samples,
        };
        store
            .rows()
            .commit_all(written, &next)
            .map_err(|error| Stop::Other(self.build.unwritable(&error)))?;
        self.checkpoint = next;
        self.until = self.until.filter(|until| *until > batch.position);
        if batch.decided {
            self.operations.read(self.build.log)?;
        }
        Ok(())
    }

    /// The next event fails: its key is parked, and tried again once the store serves; or the event is tried again here.
    fn failed(
        &mut self,
        position: Position,
        key: Option<String>,
        error: FoldError,
        watch: &mut dyn BuildWatch,
    ) -> Result<(), RebuildError> {
        let Build {
            log, view, settings, ..
        } = self.build;
        let known = key.as_ref().is_some_and(|key| key.len() <= KEY_LEN_MAX);
        let mut letter = letter(*log, position, key, &error.to_string());
        if known && settings.policy(view) == FailurePolicy::Park && self.letters.room().is_ok() {
            self.letters.park(letter);
            return Ok(());
        }
        if let Some(before) = self.failing.take().filter(|before| before.position == position) {
            letter.attempts = before.attempts + 1;
            letter.first_failed = before.first_failed;
        }
        let Some(pause) = settings.backoff().after(letter.attempts, position.get()) else {
            watch.failed(letter);
            return Err(RebuildError::Fold(error));
        };
        self.failing = Some(letter);
        let begun = Instant::now();
        while begun.elapsed() < pause && !watch.cancelled() {
            std::thread::sleep(LOOK.min(pause));
        }
        Ok(())
    }

    /// Tells how far it is, to the log's end.
    pub(crate) fn tell_now(&self, watch: &mut dyn BuildWatch) {
        self.tell(watch, self.build.log.head());
    }

    fn tell(&self, watch: &mut dyn BuildWatch, total: Position) {
        let seconds = self.begun.elapsed().as_secs_f64();
        let position = self.folded();
        let events_per_second = position.since(self.begun_at) as f64 / seconds.max(1e-6);
        let left = total.since(position) as f64;
        watch.progress(RebuildProgress {
            position,
            total,
            events_per_second,
            eta_seconds: (events_per_second > 0.0).then(|| left / events_per_second),
        });
    }

    /// Reads the log together with others.
    pub(crate) fn in_pass(&mut self, member: Option<Member>) {
        self.fold.in_pass(member);
    }

    pub(crate) fn rows(&self) -> u64 {
        self.checkpoint.rows
    }

    pub(crate) fn position(&self) -> Position {
        self.checkpoint.position
    }

    /// Writes the checkpoint and syncs.
    fn finish(&self) -> Result<(), RebuildError> {
        if let Some(store) = &self.store {
            let rows = store.rows();
            rows.commit(&[], &self.checkpoint)
                .and_then(|()| rows.sync())
                .map_err(|error| self.build.failed(&error))?;
        }
        Ok(())
    }

    pub(crate) fn store(&self) -> Option<&ViewStore> {
        self.store.as_ref()
    }

    /// Leaves the store to be built on later, also after a restart, if the error says nothing against it.
    pub(crate) fn leave_after(&mut self, error: &RebuildError, stopping: bool) {
        let harmless = match error {
            RebuildError::Cancelled(_) => stopping,
            RebuildError::NoSpace { .. } | RebuildError::Fold(FoldError::Log(_)) => true,
            _ => false,
        };
        if harmless {
            self.leave();
        }
    }

    fn leave(&mut self) {
        self.left = true;
        if let Err(error) = self.write() {
            tracing::warn!(view = self.build.view.name(), %error, "the end of an unfinished build is folded again");
        }
        if let Some(store) = &self.store
            && let Err(error) = store.rows().sync()
        {
            tracing::warn!(view = self.build.view.name(), %error, "an unfinished build could not be synced");
        }
    }

    /// Leaves the store as it is, whole, to be put in its place later.
    pub(crate) fn leave_ready(mut self, options: RebuildOptions) -> Result<(), RebuildError> {
        self.finish()?;
        self.left = true;
        match &self.store {
            Some(store) if !self.served_before => {
                let position = self.checkpoint.position;
                let shadow = self.build.unfinished(store, options, Stage::Ready, position);
                self.build.name_shadow(Some(shadow))
            }
            _ => Ok(()),
        }
    }

    /// Puts the store in its place: from now on it serves, also after a restart.
    pub(crate) fn keep(mut self, keep_before: bool) -> Result<Kept, RebuildError> {
        self.finish()?;
        let view = self.build.view;
        let store = self
            .store
            .take()
            .ok_or_else(|| RebuildError::NotBuilt(view.name().to_owned()))?;
        self.letters.put_up(store.board());
        let directory = self.build.directory;
        let Activated { dropped } = directory
            .activate(view.name(), view.version(), &store, keep_before)
            .map_err(|error| self.build.failed(&StoreError::Failed(error.to_string())))?;
        Ok(Kept {
            store,
            checkpoint: self.checkpoint.clone(),
            dropped,
        })
    }
}

/// A store that serves from now on.
pub(crate) struct Kept {
    pub(crate) store: ViewStore,
    pub(crate) checkpoint: Checkpoint,
    /// Stores that are of no use any more.
    pub(crate) dropped: Vec<Serving>,
}

impl Drop for Shadow<'_> {
    fn drop(&mut self) {
        let Some(store) = self.store.as_ref().filter(|_| !self.left && !self.served_before) else {
            return;
        };
        store.retire();
        // What stays named is looked at again before it is used.
        if let Err(error) = self.build.name_shadow(None) {
            tracing::warn!(view = self.build.view.name(), %error, "the manifest of the views could not be written");
        }
    }
}

impl Build<'_> {
    fn stopped(&self, stop: Stop) -> RebuildError {
        match stop {
            Stop::Event { error, .. } | Stop::Row { error, .. } | Stop::Other(error) => RebuildError::Fold(error),
            Stop::Damaged(detail) => RebuildError::Fold(FoldError::Store {
                projection: self.view.name().to_owned(),
                detail,
            }),
        }
    }
}

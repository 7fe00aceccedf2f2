//! Builds the rows of a view from the log's beginning, in a store that nobody reads yet. For a view that was never
//! built, one whose store cannot be trusted, and for rebuilds.

use super::directory::{Serving, ViewStore, ViewsDir};
use super::fold::{Batch, Gate, Limits, Stop, ViewFold};
use crate::failures::{Letters, Operations, letter};
use crate::space::{NoSpace, Space};
use crate::store::{Checkpoint, Letter, STORE_FORMAT, StoreError, count_rows};
use crate::{FoldError, ProjectionSettings, RebuildError, RebuildProgress, ViewDefinition};
use annals_core::{Catalog, EventLog, FailurePolicy, KEY_LEN_MAX, Position};
use std::time::{Duration, Instant};

/// How often progress is told.
const TOLD_EVERY: Duration = Duration::from_millis(100);
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
    fn progress(&mut self, progress: RebuildProgress);
    /// The disk is full: waits a moment and returns whether to try again.
    fn no_space(&mut self, full: NoSpace) -> bool;
    /// The build ends, because this event failed too often.
    fn failed(&mut self, letter: Letter);
}

/// A store that is being built. Thrown away when dropped before it was kept.
pub(crate) struct Shadow<'a> {
    build: &'a Build<'a>,
    fold: ViewFold<'a>,
    store: Option<ViewStore>,
    checkpoint: Checkpoint,
    operations: Operations,
    letters: Letters,
    /// The next step goes no further, because the event behind it fails.
    until: Option<Position>,
    failing: Option<Letter>,
    begun: Instant,
    told: Instant,
}

impl<'a> Build<'a> {
    /// An empty store at position zero. What was skipped is known before anything is folded.
    pub(crate) fn shadow(&'a self) -> Result<Shadow<'a>, RebuildError> {
        let view = self.view;
        let operations = Operations::of(self.log, view.name(), Some(view.version())).map_err(FoldError::from)?;
        let store = self
            .directory
            .create(view.name(), view.version())
            .map_err(|error| self.failed(&error))?;
        Ok(Shadow {
            build: self,
            fold: ViewFold::new(self.log, self.catalog, view, self.settings),
            store: Some(store),
            checkpoint: first_checkpoint(self.log, view.fingerprint()),
            operations,
            letters: Letters::new(self.settings.backoff(), self.settings.letter_bounds()),
            until: None,
            failing: None,
            begun: Instant::now(),
            told: Instant::now(),
        })
    }

    fn failed(&self, error: &StoreError) -> RebuildError {
        RebuildError::Store {
            view: self.view.name().to_owned(),
            detail: error.to_string(),
        }
    }
}

/// The checkpoint of a store that has read nothing yet.
pub(crate) fn first_checkpoint(log: &dyn EventLog, fingerprint: &str) -> Checkpoint {
    Checkpoint {
        format: STORE_FORMAT,
        epoch: log.epoch(),
        position: Position::ZERO,
        fingerprint: fingerprint.to_owned(),
        rows: 0,
        outbox: None,
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

    fn step(&mut self, goal: Position, watch: &mut dyn BuildWatch) -> Result<(), RebuildError> {
        while let Err(full) = self.build.space.check() {
            if !watch.no_space(full) {
                return Err(RebuildError::NoSpace {
                    path: self.build.space.path().to_owned(),
                    free: full.free,
                    reserve: full.reserve,
                });
            }
        }
        if watch.cancelled() {
            return Err(RebuildError::Cancelled(self.build.view.name().to_owned()));
        }
        let settings = self.build.settings;
        let Some(store) = &self.store else {
            return Ok(());
        };
        let limits = Limits {
            events: settings.build_rows_max.saturating_mul(8),
            rows: settings.build_rows_max,
            bytes: settings.table_bytes_max.saturating_mul(4),
            until: self.until.map_or(goal, |until| until.min(goal)),
        };
        let gate = Gate {
            letters: &self.letters,
            operations: &self.operations,
        };
        let after = self.checkpoint.position;
        match self.fold.batch(store.rows(), after, limits, gate, &mut |_| {}) {
            Ok(batch) => self.write(batch),
            Err(Stop::Event { position, key, error }) if position == after.next() => {
                self.until = None;
                self.failed(position, key, error, watch)
            }
            Err(Stop::Event { position, .. }) => {
                self.until = Some(position.previous());
                Ok(())
            }
            Err(stop) => Err(self.build.stopped(stop)),
        }
    }

    fn write(&mut self, batch: Batch) -> Result<(), RebuildError> {
        let Some(store) = &self.store else {
            return Ok(());
        };
        self.letters.wait(batch.waiting);
        let mut next = self.checkpoint.clone();
        next.rows = count_rows(next.rows, &batch.changes);
        next.position = batch.position;
        store
            .rows()
            .commit_with(&batch.changes, &self.letters.take_changes(), &next)
            .map_err(|error| self.build.failed(&error))?;
        self.checkpoint = next;
        self.until = self.until.filter(|until| *until > batch.position);
        if batch.decided {
            self.operations.read(self.build.log).map_err(FoldError::from)?;
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

    fn tell(&self, watch: &mut dyn BuildWatch, total: Position) {
        let seconds = self.begun.elapsed().as_secs_f64();
        let position = self.checkpoint.position;
        let events_per_second = position.get() as f64 / seconds.max(1e-6);
        let left = total.since(position) as f64;
        watch.progress(RebuildProgress {
            position,
            total,
            events_per_second,
            eta_seconds: (events_per_second > 0.0).then(|| left / events_per_second),
        });
    }

    pub(crate) fn rows(&self) -> u64 {
        self.checkpoint.rows
    }

    pub(crate) fn position(&self) -> Position {
        self.checkpoint.position
    }

    /// Writes the checkpoint and syncs, so that the store can be looked at as a whole.
    pub(crate) fn finish(&self) -> Result<Option<&ViewStore>, RebuildError> {
        if let Some(store) = &self.store {
            let rows = store.rows();
            rows.commit(&[], &self.checkpoint)
                .and_then(|()| rows.sync())
                .map_err(|error| self.build.failed(&error))?;
        }
        Ok(self.store.as_ref())
    }

    /// Puts the store in its place: from now on it serves, also after a restart.
    pub(crate) fn keep(mut self) -> Result<Kept, RebuildError> {
        self.finish()?;
        let view = self.build.view;
        let store = self
            .store
            .take()
            .ok_or_else(|| RebuildError::NotBuilt(view.name().to_owned()))?;
        self.letters.put_up(store.board());
        match self.build.directory.activate(view.name(), view.version(), &store) {
            Ok(before) => Ok(Kept {
                store,
                checkpoint: self.checkpoint.clone(),
                before,
            }),
            Err(error) => {
                store.retire();
                Err(self.build.failed(&StoreError::Failed(error.to_string())))
            }
        }
    }
}

/// A store that serves from now on.
pub(crate) struct Kept {
    pub(crate) store: ViewStore,
    pub(crate) checkpoint: Checkpoint,
    /// What served before.
    pub(crate) before: Option<Serving>,
}

impl Drop for Shadow<'_> {
    fn drop(&mut self) {
        if let Some(store) = &self.store {
            store.retire();
        }
    }
}

impl Build<'_> {
    fn stopped(&self, stop: Stop) -> RebuildError {
        match stop {
            Stop::Event { error, .. } | Stop::Other(error) => RebuildError::Fold(error),
            Stop::Damaged(detail) => RebuildError::Fold(FoldError::Store {
                projection: self.view.name().to_owned(),
                detail,
            }),
        }
    }
}

//! Follows the log with one store: folds batches, parks the keys of events that fail, folds them again when their turn
//! comes, and does what people decided.

use super::directory::ViewStore;
use super::fold::{Batch, Gate, Limits, Stop, ViewFold};
use super::retention::{self, Retention};
use super::running::RunningView;
use super::samples::Samples;
use crate::failures::{Decided, Letters, Operations, Verb, letter};
use crate::pace::Pace;
use crate::progress::locked;
use crate::store::{Checkpoint, Letter, StoreError, Written, count_rows};
use crate::{FoldError, ProjectionState};
use annals_core::{FailurePolicy, KEY_LEN_MAX, LogError, Position};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a worker waits for events before it looks whether it should stop.
pub(super) const WAIT: Duration = Duration::from_millis(50);
/// Events of a parked key that are folded in one write.
const REFOLD_EVENTS: usize = 500;

/// How many batches a view has to be behind to catch up in large ones, and how many of them a large one is.
const FAR_BEHIND: u64 = 4;
const CATCH_UP: usize = 8;

/// Why a worker no longer follows with the store it had.
pub(super) enum Ended {
    Shutdown,
    NewStore(Checkpoint),
    Damaged(String),
    /// Log or store failed: only another store or a restart helps.
    Stopped(String),
    /// The log is elsewhere and out of reach: it is tried again.
    OutOfReach,
    /// An event failed too often, or too much is parked: a person may say what to do. With the letter, if it is an event.
    Failed(String, Option<Box<Letter>>),
}

/// An event that holds up the whole view and is tried again.
struct Failing {
    letter: Letter,
    due: Instant,
}

/// See the module.
pub(super) struct Follow<'a> {
    view: &'a RunningView,
    store: Arc<ViewStore>,
    fold: ViewFold<'a>,
    checkpoint: Checkpoint,
    letters: Letters,
    operations: &'a mut Operations,
    pace: &'a mut Pace,
    failing: Option<Failing>,
    retention: Retention,
}

impl<'a> Follow<'a> {
    /// Takes over a store as it is at this checkpoint.
    pub(super) fn new(
        view: &'a RunningView,
        checkpoint: Checkpoint,
        operations: &'a mut Operations,
        pace: &'a mut Pace,
    ) -> Result<Self, Ended> {
        let shared = &view.shared;
        let Some(store) = view.serving() else {
            return Err(Ended::Stopped("it has no store".into()));
        };
        let (backoff, bounds) = (shared.settings.backoff(), shared.settings.letter_bounds());
        let letters = Letters::load(store.rows(), backoff, bounds, operations.skips())
            .map_err(|error| Ended::Damaged(error.to_string()))?;
        letters.put_up(store.board());
        let samples = Samples::load(store.rows(), checkpoint.position);
        let samples = samples.map_err(|error| Ended::Damaged(error.to_string()))?;
        Ok(Self {
            fold: ViewFold::new(
                &*shared.log,
                &shared.catalog,
                &view.definition,
                &shared.settings,
                samples,
                shared.stores.threads(),
            ),
            view,
            store,
            checkpoint,
            letters,
            operations,
            pace,
            failing: None,
            retention: Retention::of(shared.settings.history_kept(view.name())),
        })
    }

    /// Follows until something else has to be done. `decided` are decisions that were read before.
    pub(super) fn run(&mut self, decided: &[Decided]) -> Ended {
        let read = self.checkpoint.position;
        for decided in decided.iter().filter(|decided| decided.at > read) {
            self.heed(decided);
        }
        loop {
            match self.step() {
                Ok(()) => {}
                Err(Ended::OutOfReach) => std::thread::sleep(WAIT),
                Err(ended) => return ended,
            }
        }
    }

    fn step(&mut self) -> Result<(), Ended> {
        let (view, log) = (self.view, &self.view.shared.log);
        if view.shared.stopping() {
            return Err(Ended::Shutdown);
        }
        if view.take_decided() {
            self.read_operations()?;
        }
        if self.operations.paused() {
            return self.rest();
        }
        self.let_go()?;
        let now = Instant::now();
        let due = self.letters.due(now).is_some();
        let unread = log.head() > self.checkpoint.position;
        let held_up = self
            .failing
            .as_ref()
            .map(|failing| failing.due.saturating_duration_since(now));
        let advances = unread && held_up.is_none_or(|pause| pause.is_zero());
        let forgets = self.retention.is_due(now);
        if !due && !advances && !forgets {
            let pauses = [
                self.letters.next_due(now),
                held_up,
                self.retention.pause(now),
                Some(WAIT),
            ];
            let pause = pauses.into_iter().flatten().min().unwrap_or(WAIT);
            if unread {
                std::thread::sleep(pause);
            } else {
                log.wait_beyond(self.checkpoint.position, pause);
            }
            return Ok(());
        }
        if let Err(full) = view.space.check() {
            view.wait_for_space(full, ProjectionState::Running);
            return Ok(());
        }
        self.pace.begin();
        let _step = locked(&view.step);
        self.check_store()?;
        while let Some(key) = self.letters.due(now) {
            self.refold(&key)?;
        }
        if forgets {
            self.forget_past()?;
        }
        if advances { self.advance() } else { Ok(()) }
    }

    /// Lets go of a store that another one has taken the place of, also where there is nothing to fold: it may be kept for
    /// a rollback, and is opened for that only once it is closed.
    fn let_go(&self) -> Result<(), Ended> {
        let serves = self
            .view
            .serving()
            .is_some_and(|serving| Arc::ptr_eq(&serving, &self.store));
        if serves {
            return Ok(());
        }
        let _step = locked(&self.view.step);
        self.check_store()
    }

    fn forget_past(&mut self) -> Result<(), Ended> {
        let log = &*self.view.shared.log;
        let done = self.retention.go_on(log, self.store.rows(), &mut self.checkpoint);
        done.or_else(|ended| match ended {
            // It is tried again later, as is everything about a log that cannot be read for now.
            retention::Ended::Log(LogError::Unreachable(_)) => Ok(()),
            retention::Ended::Log(error) => Err(Ended::Stopped(error.to_string())),
            retention::Ended::Store(StoreError::Damaged(detail)) => Err(Ended::Damaged(detail)),
            retention::Ended::Store(error) => Err(Ended::Stopped(format!("its store failed: {error}"))),
        })
    }

    /// An error if another store has taken the place of this one.
    fn check_store(&self) -> Result<(), Ended> {
        match self.view.serving() {
            Some(serving) if Arc::ptr_eq(&serving, &self.store) => Ok(()),
            Some(serving) => Err(match serving.rows().checkpoint() {
                Ok(Some(checkpoint)) => Ended::NewStore(checkpoint),
                Ok(None) => Ended::Damaged("the rebuilt store has no checkpoint".into()),
                Err(error) => Ended::Damaged(error.to_string()),
            }),
            None => Err(Ended::Shutdown),
        }
    }

    /// Folds and writes one batch. If one of its events fails, those before it are written first.
    fn advance(&mut self) -> Result<(), Ended> {
        if self.letters.is_full() {
            return Err(Ended::Failed(self.too_much(&self.letters.waiting_text()), None));
        }
        let view = self.view;
        let mut limits = self.limits();
        let mut failed = None;
        while limits.until > self.checkpoint.position {
            let gate = Gate {
                letters: &self.letters,
                operations: self.operations,
            };
            let after = self.checkpoint.position;
            let unread = &mut |recorded| view.progress.unread(recorded);
            match self.fold.batch(self.store.rows(), after, limits, gate, unread) {
                // A log that is elsewhere may be out of reach for now: nothing is written for that.
                Ok(batch) if batch.position == after => break,
                Ok(batch) => {
                    self.write(batch)?;
                    break;
                }
                Err(Stop::Event { position, key, error }) => {
                    limits.until = position.previous();
                    failed = Some((position, key, error.to_string()));
                }
                // Which event made the row too large is found by halves.
                Err(Stop::Row { position, key, error }) => {
                    limits.until = if position == after.next() {
                        after
                    } else {
                        middle(after, position)
                    };
                    failed = Some((position, Some(key), error.to_string()));
                }
                Err(other) => return Err(ended(other)),
            }
        }
        match failed {
            Some((position, key, error)) if position == self.checkpoint.position.next() => {
                self.failed(position, key, &error)
            }
            // The batch before the failing event may have ended earlier, by its limits.
            _ => Ok(()),
        }
    }

    /// Near the log's end batches are small, so that rows are served soon. Far from it they are as large as those of a
    /// rebuild, and so is the memory for them.
    fn limits(&self) -> Limits {
        let settings = &self.view.shared.settings;
        let until = self.view.shared.log.head();
        let lag = until.since(self.checkpoint.position);
        if lag > FAR_BEHIND.saturating_mul(settings.batch_events_max as u64) {
            return Limits {
                until,
                events: settings.batch_events_max.saturating_mul(CATCH_UP),
                rows: settings.build_rows_max,
                bytes: settings.table_bytes_max.saturating_mul(4),
                alone: false,
            };
        }
        Limits {
            until,
            events: settings.batch_events_max,
            rows: settings.batch_rows_max,
            bytes: settings.table_bytes_max.saturating_mul(2),
            alone: false,
        }
    }

    fn write(&mut self, batch: Batch) -> Result<(), Ended> {
        let mut next = self.checkpoint.clone();
        next.position = batch.position;
        next.rows = count_rows(next.rows, &batch.changes);
        self.letters.wait(batch.waiting);
        if self
            .failing
            .as_ref()
            .is_none_or(|failing| failing.letter.position <= next.position)
        {
            self.letters.stop_at(None);
        }
        let written = Written {
            changes: &batch.changes,
            samples: &batch.samples,
            ..Written::default()
        };
        self.commit(written, next)?;
        if self
            .failing
            .take_if(|failing| failing.letter.position <= batch.position)
            .is_some()
        {
            self.view.progress.enter(ProjectionState::Running, None);
        }
        if batch.decided {
            // Before the position is told: who waits for it finds the decision heeded.
            match self.read_operations() {
                // Nothing further is folded until it was read.
                Ok(()) | Err(Ended::OutOfReach) => {}
                Err(ended) => return Err(ended),
            }
            while let Some(key) = self.letters.due(Instant::now()) {
                self.refold(&key)?;
            }
        }
        self.view.progress.advance(batch.position, batch.events);
        Ok(())
    }

    fn commit(&mut self, written: Written<'_>, next: Checkpoint) -> Result<(), Ended> {
        let letters = self.letters.take_changes();
        if let Err(error) = self.store.rows().commit_all(
            Written {
                letters: &letters,
                ..written
            },
            &next,
        ) {
            self.fold.forget();
            return Err(Ended::Stopped(format!("its store failed: {error}")));
        }
        self.checkpoint = next;
        self.view.changes.rows(written.changes);
        if !letters.is_empty() {
            self.letters.put_up(self.store.board());
        }
        Ok(())
    }

    /// The first event that is not written yet failed.
    fn failed(&mut self, position: Position, key: Option<String>, error: &str) -> Result<(), Ended> {
        let view = self.view;
        let known = key.as_ref().is_some_and(|key| key.len() <= KEY_LEN_MAX);
        let mut letter = letter(&*view.shared.log, position, key, error);
        if known && view.shared.settings.policy(&view.definition) == FailurePolicy::Park {
            if let Err(bound) = self.letters.room() {
                return Err(Ended::Failed(
                    self.too_much(&format!("{error}; {bound}")),
                    Some(Box::new(letter)),
                ));
            }
            tracing::warn!(view = view.name(), %position, key = letter.key, error, "an event failed: its key is parked");
            self.letters.park(letter);
            return Ok(());
        }
        if let Some(before) = self.failing.take().filter(|before| before.letter.position == position) {
            letter.attempts = before.letter.attempts + 1;
            letter.first_failed = before.letter.first_failed;
        }
        let attempts = letter.attempts;
        match view.shared.settings.backoff().after(attempts, position.get()) {
            Some(pause) => {
                tracing::warn!(view = view.name(), %position, attempts, error, "an event failed: it is tried again");
                let text = format!("{error}; it is tried again, {attempts} times so far");
                view.progress.enter(ProjectionState::Running, Some(text));
                let due = Instant::now() + pause;
                self.failing = Some(Failing { letter, due });
                Ok(())
            }
            None => Err(Ended::Failed(view.helpless(error), Some(Box::new(letter)))),
        }
    }

    fn too_much(&self, bound: &str) -> String {
        let name = self.view.name();
        format!("{bound}: retry or skip some of them, see `annals dead-letters list --view {name}`")
    }

    /// Writes down which event the view stops at.
    pub(super) fn stop_at(&mut self, letter: Letter) {
        self.letters.stop_at(Some(letter));
        let checkpoint = self.checkpoint.clone();
        if let Err(Ended::Stopped(error)) = self.commit(Written::default(), checkpoint) {
            tracing::warn!(
                view = self.view.name(),
                error,
                "the failing event could not be written down"
            );
        }
    }

    /// Folds what waits for a key, as far as it goes.
    fn refold(&mut self, key: &str) -> Result<(), Ended> {
        let log = &*self.view.shared.log;
        let waiting = self.store.rows().waiting(key, REFOLD_EVENTS + 1);
        let mut positions = waiting.map_err(|error| Ended::Damaged(error.to_string()))?;
        let next = positions.get(REFOLD_EVENTS).copied();
        positions.truncate(REFOLD_EVENTS);
        let skips = self.operations.skips();
        let refolded = self
            .fold
            .refold(self.store.rows(), key, &positions, skips)
            .map_err(ended)?;
        let (done, rest) = positions.split_at(refolded.done);
        let failed = match (&refolded.failed, rest.first()) {
            (Some(error), Some(position)) => Some(letter(log, *position, Some(key.to_owned()), &error.to_string())),
            _ => None,
        };
        match &failed {
            Some(letter) => {
                let (position, error) = (letter.position, &letter.error);
                tracing::warn!(view = self.view.name(), %position, key, error, "a parked event failed again");
            }
            None if next.is_none() => tracing::info!(view = self.view.name(), key, "a parked key is live again"),
            None => {}
        }
        self.letters.folded(key, done, failed, next);
        let mut checkpoint = self.checkpoint.clone();
        checkpoint.rows = count_rows(checkpoint.rows, &refolded.changes);
        let written = Written {
            changes: &refolded.changes,
            samples: &refolded.samples,
            ..Written::default()
        };
        self.commit(written, checkpoint)
    }

    fn read_operations(&mut self) -> Result<(), Ended> {
        let news = self
            .operations
            .read(&*self.view.shared.log)
            .map_err(|error| match error {
                LogError::Unreachable(_) => {
                    self.view.decide();
                    Ended::OutOfReach
                }
                error => Ended::Stopped(error.to_string()),
            });
        for decided in news? {
            self.heed(&decided);
        }
        Ok(())
    }

    fn heed(&mut self, decided: &Decided) {
        tracing::info!(view = self.view.name(), verb = ?decided.verb, reason = decided.reason, "a decision is heeded");
        let (Verb::Retry(what) | Verb::Skip(what)) = &decided.verb else {
            return;
        };
        if let Some(key) = &what.key {
            self.letters.again(what.position, key);
        }
        if let Some(failing) = self
            .failing
            .as_mut()
            .filter(|failing| failing.letter.position == what.position)
        {
            failing.letter.attempts = 0;
            failing.due = Instant::now();
        }
    }

    /// Rests until a person says to go on.
    fn rest(&mut self) -> Result<(), Ended> {
        let view = self.view;
        if let Some(Err(error)) = view.serving().map(|store| store.rows().sync()) {
            tracing::warn!(view = view.name(), %error, "a kill would cost a paused view some of its rows");
        }
        view.progress.enter(ProjectionState::Paused, None);
        while self.operations.paused() {
            if view.shared.stopping() {
                return Err(Ended::Shutdown);
            }
            self.let_go()?;
            view.progress.look_ahead();
            std::thread::sleep(WAIT);
            view.take_decided();
            match self.read_operations() {
                Ok(()) | Err(Ended::OutOfReach) => {}
                Err(ended) => return Err(ended),
            }
        }
        view.progress.enter(ProjectionState::Running, None);
        Ok(())
    }
}

fn ended(stop: Stop) -> Ended {
    match stop {
        Stop::Damaged(detail) => Ended::Damaged(detail),
        Stop::Other(FoldError::Log(LogError::Unreachable(_))) => Ended::OutOfReach,
        Stop::Event { error, .. } | Stop::Row { error, .. } | Stop::Other(error) => Ended::Stopped(error.to_string()),
    }
}

/// Between two positions, and beyond the first.
pub(super) fn middle(after: Position, position: Position) -> Position {
    after.plus((position.since(after) / 2).max(1)).min(position)
}

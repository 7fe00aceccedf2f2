//! The thread of a view: opens or builds its store, then follows the log. Whatever fails in here stops this view only.

use super::fold::{Batch, Limits, Stop, ViewFold, panic_text};
use super::running::RunningView;
use crate::pace::Pace;
use crate::progress::locked;
use crate::store::{Checkpoint, RowStore, STORE_FORMAT, StoreError, count_rows};
use crate::{ProjectionState, RebuildError};
use annals_core::Position;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a worker waits for events before it looks whether it should stop.
const WAIT: Duration = Duration::from_millis(50);

/// Starts the thread. `ready` is told once the store is open or begins to be built.
pub(crate) fn spawn(view: Arc<RunningView>, ready: Sender<()>) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(format!("view-{}", view.name()))
        .spawn(move || {
            let worker = Worker {
                view: &view,
                pace: Pace::new(view.shared.settings.batch_rows_max),
            };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| worker.run(ready))) {
                view.stop(&format!("{}; restart the server", panic_text(panic.as_ref())));
            }
        })
}

struct Worker<'a> {
    view: &'a RunningView,
    pace: Pace,
}

/// What there is when a view starts.
enum Found {
    Store(Checkpoint),
    /// Nothing that can be used; with the reason, unless it is simply the first time.
    Nothing(Option<String>),
    /// A store that only a person can decide about.
    Refused(String),
}

impl Worker<'_> {
    fn run(mut self, ready: Sender<()>) {
        let found = self.open();
        match &found {
            Found::Store(_) => {}
            Found::Nothing(_) => self.view.progress.enter(ProjectionState::Rebuilding, None),
            Found::Refused(error) => self.view.stop(error),
        }
        // Nobody may be waiting any more: that is fine.
        let _ = ready.send(());
        drop(ready);
        match found {
            Found::Store(checkpoint) => self.follow(checkpoint),
            Found::Nothing(reason) => {
                if let Some(reason) = reason {
                    tracing::warn!(view = self.view.name(), reason, "the view is built anew from the log");
                }
                self.build_then_follow();
            }
            Found::Refused(_) => self.follow_another_store(),
        }
        if let Some(store) = self.view.serving()
            && let Err(error) = store.rows().sync()
        {
            tracing::warn!(view = self.view.name(), %error, "the view could not be synced");
        }
    }

    fn open(&self) -> Found {
        let view = self.view;
        let Some(serving) = view.directory.serving(view.name()) else {
            return Found::Nothing(None);
        };
        if serving.version != view.definition.version() {
            let reason = format!(
                "its version is {}, its rows are of {}",
                view.definition.version(),
                serving.version
            );
            return Found::Nothing(Some(reason));
        }
        let opened = view
            .directory
            .open_serving(&serving, view.shared.settings.cache_bytes)
            .and_then(|store| {
                let checkpoint = store.rows().checkpoint()?;
                Ok((store, checkpoint))
            });
        let (store, checkpoint) = match opened {
            Ok((store, Some(checkpoint))) => (store, checkpoint),
            Ok((_, None)) => return Found::Nothing(Some("its store has no checkpoint".into())),
            Err(StoreError::InUse(dir)) => return Found::Refused(StoreError::InUse(dir).to_string()),
            Err(error) => return Found::Nothing(Some(format!("its store cannot be opened: {error}"))),
        };
        if let Some(reason) = self.not_to_be_trusted(&checkpoint) {
            return Found::Nothing(Some(reason));
        }
        if checkpoint.fingerprint != view.definition.fingerprint() {
            return Found::Refused(format!(
                "the row or the indexes of view {0} changed, but not its version {1}: raise VERSION to {2}, and the \
                 view is built anew",
                view.name(),
                view.definition.version(),
                view.definition.version() + 1
            ));
        }
        view.serve(store);
        view.progress.advance(checkpoint.position, 0);
        view.progress.enter(ProjectionState::Running, None);
        Found::Store(checkpoint)
    }

    fn not_to_be_trusted(&self, checkpoint: &Checkpoint) -> Option<String> {
        let log = &self.view.shared.log;
        if checkpoint.format != STORE_FORMAT {
            return Some(format!(
                "its store has format {}, not {STORE_FORMAT}",
                checkpoint.format
            ));
        }
        if checkpoint.epoch != log.epoch() {
            return Some(format!(
                "it read the log's epoch {}, the log is in {}",
                checkpoint.epoch,
                log.epoch()
            ));
        }
        (checkpoint.position > log.head()).then(|| {
            format!(
                "it is at {}, ahead of the log's end at {}",
                checkpoint.position,
                log.head()
            )
        })
    }

    fn build_then_follow(&mut self) {
        match self.build() {
            Ok(checkpoint) => self.follow(checkpoint),
            Err(RebuildError::Cancelled(_)) => {}
            Err(error) => {
                self.view.stop(&error.to_string());
                self.follow_another_store();
            }
        }
    }

    fn follow_another_store(&mut self) {
        if let Some(checkpoint) = self.wait_for_another_store() {
            self.follow(checkpoint);
        }
    }

    /// Builds the view in this thread. A store that serves goes on serving until then.
    fn build(&self) -> Result<Checkpoint, RebuildError> {
        let view = self.view;
        if view.serving().is_none() {
            view.progress.advance(Position::ZERO, 0);
        }
        view.progress.enter(ProjectionState::Rebuilding, None);
        view.progress.look_ahead();
        view.build_and_swap(None)
    }

    /// Follows the log until shutdown, over stops and new stores.
    fn follow(&mut self, checkpoint: Checkpoint) {
        let mut next = Some(checkpoint);
        while let Some(checkpoint) = next.take() {
            self.view.progress.enter(ProjectionState::Running, None);
            match self.follow_store(checkpoint) {
                Ended::Shutdown => {}
                Ended::NewStore(checkpoint) => next = Some(checkpoint),
                Ended::Damaged(detail) => match self.repair(&detail) {
                    Ok(checkpoint) => next = Some(checkpoint),
                    Err(RebuildError::Cancelled(_)) => {}
                    Err(error) => {
                        self.view.stop(&error.to_string());
                        next = self.wait_for_another_store();
                    }
                },
                Ended::Stopped(error) => {
                    self.view.stop(&error);
                    next = self.wait_for_another_store();
                }
            }
        }
    }

    fn repair(&self, detail: &str) -> Result<Checkpoint, RebuildError> {
        let view = self.view;
        if !view.may_repair() {
            return Err(RebuildError::Store {
                view: view.name().to_owned(),
                detail: format!("{detail}; it was rebuilt several times already: check the disk"),
            });
        }
        tracing::warn!(
            view = view.name(),
            detail,
            "the store is damaged: the view is built anew from the log"
        );
        self.build()
    }

    /// After a stop: waits until a rebuild has put another store in place. `None` at shutdown.
    fn wait_for_another_store(&self) -> Option<Checkpoint> {
        let before = self.view.serving();
        loop {
            if self.view.shared.stopping() {
                return None;
            }
            let now = self.view.serving();
            let other = match (&before, &now) {
                (Some(before), Some(now)) => !Arc::ptr_eq(before, now),
                (None, Some(_)) => true,
                _ => false,
            };
            if let Some(store) = now.filter(|_| other) {
                return store.rows().checkpoint().ok().flatten();
            }
            self.view.progress.look_ahead();
            std::thread::sleep(WAIT);
        }
    }

    fn follow_store(&mut self, mut checkpoint: Checkpoint) -> Ended {
        let view = self.view;
        let shared = &view.shared;
        let Some(store) = view.serving() else {
            return Ended::Stopped("it has no store".into());
        };
        let mut fold = ViewFold::new(&*shared.log, &shared.catalog, &view.definition, &shared.settings);
        loop {
            if shared.stopping() {
                return Ended::Shutdown;
            }
            if shared.log.head() <= checkpoint.position {
                shared.log.wait_beyond(checkpoint.position, WAIT);
                continue;
            }
            if let Err(full) = view.space.check() {
                view.wait_for_space(full, ProjectionState::Running);
                continue;
            }
            self.pace.begin();
            let _step = locked(&view.step);
            match view.serving() {
                Some(serving) if Arc::ptr_eq(&serving, &store) => {}
                Some(serving) => match serving.rows().checkpoint() {
                    Ok(Some(checkpoint)) => return Ended::NewStore(checkpoint),
                    Ok(None) => return Ended::Damaged("the rebuilt store has no checkpoint".into()),
                    Err(error) => return Ended::Damaged(error.to_string()),
                },
                None => return Ended::Shutdown,
            }
            if let Err(ended) = self.advance(&mut fold, store.rows(), &mut checkpoint) {
                return ended;
            }
        }
    }

    /// Folds and writes one batch. If one of its events fails, those before it are written first.
    fn advance(&mut self, fold: &mut ViewFold<'_>, store: &RowStore, checkpoint: &mut Checkpoint) -> Result<(), Ended> {
        let progress = &self.view.progress;
        let mut limits = Limits {
            events: self.view.shared.settings.batch_events_max,
            rows: self.pace.rows(),
            bytes: self.view.shared.settings.table_bytes_max.saturating_mul(2),
            until: self.view.shared.log.head(),
        };
        let mut failed = None;
        while limits.until > checkpoint.position {
            match fold.batch(store, checkpoint.position, limits, &mut |recorded| {
                progress.unread(recorded)
            }) {
                Ok(batch) => {
                    self.write(fold, store, checkpoint, &batch)?;
                    break;
                }
                Err(Stop::Event { position, error }) => {
                    limits.until = position.previous();
                    failed = Some(error.to_string());
                }
                Err(Stop::Damaged(detail)) => return Err(Ended::Damaged(detail)),
                Err(Stop::Other(error)) => return Err(Ended::Stopped(format!("{error}; restart the server"))),
            }
        }
        match failed {
            // The batch before the failing event may have ended earlier, by its limits.
            Some(_) if checkpoint.position < limits.until => Ok(()),
            Some(error) => Err(Ended::Stopped(format!(
                "{error}; correct the view's code, raise its VERSION and restart the server"
            ))),
            None => Ok(()),
        }
    }

    fn write(
        &mut self,
        fold: &mut ViewFold<'_>,
        store: &RowStore,
        checkpoint: &mut Checkpoint,
        batch: &Batch,
    ) -> Result<(), Ended> {
        let mut next = checkpoint.clone();
        next.position = batch.position;
        next.rows = count_rows(next.rows, &batch.changes);
        let begun = Instant::now();
        if let Err(error) = store.commit(&batch.changes, &next) {
            fold.forget();
            return Err(Ended::Stopped(format!("its store failed: {error}; restart the server")));
        }
        let lag = self.view.shared.log.head().since(batch.position);
        self.pace.wrote(begun.elapsed(), batch.changes.len(), lag);
        *checkpoint = next;
        self.view.progress.advance(batch.position, batch.events);
        Ok(())
    }
}

/// Why a worker no longer follows with the store it had.
enum Ended {
    Shutdown,
    NewStore(Checkpoint),
    Damaged(String),
    Stopped(String),
}

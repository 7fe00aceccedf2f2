//! The thread of a view: opens or builds its store, then follows the log. Whatever fails in here stops this view only.

use super::directory::ViewStore;
use super::follow::{Ended, Follow, WAIT};
use super::running::RunningView;
use super::samples::changed_code;
use crate::definition::panic_text;
use crate::failures::{Decided, Operations, Verb};
use crate::pace::Pace;
use crate::progress::locked;
use crate::store::{Checkpoint, Letter, STORE_FORMAT, StoreError};
use crate::{FoldError, ProjectionState, RebuildError};
use annals_core::{LogError, Position};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

/// Starts the thread. `ready` is told once the store is open or begins to be built.
pub(crate) fn spawn(view: Arc<RunningView>, ready: Sender<()>) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(format!("view-{}", view.name()))
        .spawn(move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| Worker::new(&view).run(ready))) {
                view.stop(&format!("{}; restart the server", panic_text(panic.as_ref())));
            }
        })
}

struct Worker<'a> {
    view: &'a RunningView,
    pace: Pace,
    operations: Operations,
    /// Decisions that were read before there was a store to heed them with.
    decided: Vec<Decided>,
}

/// What a worker does next.
enum Next {
    Build,
    Follow(Checkpoint),
    /// Nothing, until a rebuild or a person helps.
    Wait,
    End,
}

/// What there is when a view starts.
enum Found {
    Store(Checkpoint),
    /// Nothing that can be used; with the reason, unless it is simply the first time.
    Nothing(Option<String>),
    /// A store that only a person can decide about.
    Refused(String),
}

impl<'a> Worker<'a> {
    fn new(view: &'a RunningView) -> Self {
        Self {
            view,
            pace: Pace::default(),
            operations: Operations::new(view.name(), Some(view.definition.version())),
            decided: Vec::new(),
        }
    }

    fn run(mut self, ready: Sender<()>) {
        let mut next = match self.read_operations() {
            Ok(_) => self.begin(),
            // What was folded before is served; nothing is folded until the decisions were read.
            Err(LogError::Unreachable(_)) => self.begin(),
            Err(error) => {
                self.view.stop(&format!("{error}; restart the server"));
                Next::Wait
            }
        };
        // Nobody may be waiting any more: that is fine.
        let _ = ready.send(());
        drop(ready);
        loop {
            next = match next {
                Next::Build => self.build(),
                Next::Follow(checkpoint) => self.follow(checkpoint),
                Next::Wait => self.wait(),
                Next::End => break,
            };
        }
        if let Some(store) = self.view.serving()
            && let Err(error) = store.rows().sync()
        {
            tracing::warn!(view = self.view.name(), %error, "the view could not be synced");
        }
    }

    fn begin(&self) -> Next {
        let view = self.view;
        match self.open() {
            Found::Store(checkpoint) => Next::Follow(checkpoint),
            Found::Nothing(reason) => {
                if let Some(reason) = reason {
                    tracing::warn!(view = view.name(), reason, "the view is built anew from the log");
                }
                view.progress.enter(ProjectionState::Rebuilding, None);
                Next::Build
            }
            Found::Refused(error) => {
                view.stop(&error);
                Next::Wait
            }
        }
    }

    /// Reads decisions and keeps them for the store that is to heed them. Whether there is one to go on.
    fn read_operations(&mut self) -> Result<bool, LogError> {
        self.view.take_decided();
        let news = self
            .operations
            .read(&*self.view.shared.log)
            .inspect_err(|_| self.view.decide())?;
        let goes_on = news.iter().any(|decided| !matches!(decided.verb, Verb::Pause));
        self.decided.extend(news);
        Ok(goes_on)
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
        let opened = view.directory.open_serving(&serving).and_then(|store| {
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
        if let Some(refused) = self.ahead_of_another_node(&checkpoint) {
            return Found::Refused(refused);
        }
        let (log, catalog) = (&*view.shared.log, &view.shared.catalog);
        match changed_code(log, catalog, &view.definition, store.rows()) {
            Ok(None) => {}
            Ok(Some(changed)) => return Found::Refused(changed),
            Err(error) => return Found::Nothing(Some(format!("its store cannot be read: {error}"))),
        }
        drop(view.serve(store));
        view.progress.advance(checkpoint.position, 0);
        view.progress.enter(ProjectionState::Running, None);
        Found::Store(checkpoint)
    }

    /// Events that this view has read and another node's log does not have are gone there, or it is another log: what
    /// is to be done about it, a person decides.
    fn ahead_of_another_node(&self, checkpoint: &Checkpoint) -> Option<String> {
        let (view, head) = (self.view, self.view.shared.log.head());
        let ahead = view.shared.settings.refuse_ahead && checkpoint.position > head;
        ahead.then(|| {
            format!(
                "view {0} has read up to {1}, and the log that this node follows ends at {head} in the same epoch {2}: \
                 the log lost events, or was put back by copying files; restore it with `annals restore`, which gives it \
                 a new epoch, or accept it as it is with POST /v1/projections/{0}/rebuild",
                view.name(),
                checkpoint.position,
                checkpoint.epoch
            )
        })
    }

    fn not_to_be_trusted(&self, checkpoint: &Checkpoint) -> Option<String> {
        let log = &self.view.shared.log;
        if checkpoint.format != STORE_FORMAT {
            return Some(format!(
                "its store has format {}, not {STORE_FORMAT}",
                checkpoint.format
            ));
        }
        if checkpoint.history.is_some() != self.view.definition.keeps_history() {
            let kept = if checkpoint.history.is_some() { "kept" } else { "off" };
            return Some(format!("its history was {kept} and is not now"));
        }
        if checkpoint.epoch != log.epoch() {
            return Some(format!(
                "it read the log's epoch {}, the log is in {}",
                checkpoint.epoch,
                log.epoch()
            ));
        }
        let ahead = checkpoint.position > log.head() && !self.view.shared.settings.refuse_ahead;
        ahead.then(|| {
            format!(
                "it is at {}, ahead of the log's end at {}",
                checkpoint.position,
                log.head()
            )
        })
    }

    /// Builds the view in this thread. A store that serves goes on serving until then.
    fn build(&mut self) -> Next {
        let view = self.view;
        if view.serving().is_none() {
            view.progress.advance(Position::ZERO, 0);
        }
        if self.operations.paused() {
            view.progress.enter(ProjectionState::Paused, None);
            return Next::Wait;
        }
        view.progress.enter(ProjectionState::Rebuilding, None);
        view.progress.look_ahead();
        self.stopped_at(None);
        match view.build_from_what_there_is() {
            Ok(Some(checkpoint)) => Next::Follow(checkpoint),
            Ok(None) => Next::Wait,
            Err(RebuildError::Cancelled(_)) => Next::End,
            Err(RebuildError::Fold(FoldError::Log(LogError::Unreachable(_)))) if !view.shared.stopping() => {
                std::thread::sleep(WAIT);
                Next::Build
            }
            Err(error) => {
                let failing = locked(&view.stopped_at).is_some();
                view.stop(&if failing {
                    view.helpless(&error.to_string())
                } else {
                    error.to_string()
                });
                Next::Wait
            }
        }
    }

    /// Follows the log until shutdown, or until something else has to be done.
    fn follow(&mut self, checkpoint: Checkpoint) -> Next {
        let view = self.view;
        view.progress.enter(ProjectionState::Running, None);
        let decided = std::mem::take(&mut self.decided);
        let ended = match Follow::new(view, checkpoint, &mut self.operations, &mut self.pace) {
            Ok(mut follow) => {
                *locked(&view.stopped_at) = None;
                match follow.run(&decided) {
                    Ended::Failed(error, Some(letter)) => {
                        follow.stop_at((*letter).clone());
                        Ended::Failed(error, Some(letter))
                    }
                    other => other,
                }
            }
            Err(ended) => ended,
        };
        match ended {
            Ended::Shutdown => Next::End,
            Ended::NewStore(checkpoint) => Next::Follow(checkpoint),
            Ended::Damaged(detail) => self.repair(&detail),
            Ended::Stopped(error) => {
                view.stop(&format!("{error}; restart the server"));
                Next::Wait
            }
            // Whoever follows waits for the log by himself.
            Ended::OutOfReach => {
                view.stop("the log is out of reach; restart the server");
                Next::Wait
            }
            Ended::Failed(error, letter) => {
                self.stopped_at(letter.map(|letter| *letter));
                view.stop(&error);
                Next::Wait
            }
        }
    }

    fn stopped_at(&self, letter: Option<Letter>) {
        *locked(&self.view.stopped_at) = letter;
    }

    fn repair(&mut self, detail: &str) -> Next {
        let view = self.view;
        if !view.may_repair() {
            view.stop(&format!(
                "the store of view {} failed: {detail}; it was rebuilt several times already: check the disk",
                view.name()
            ));
            return Next::Wait;
        }
        tracing::warn!(
            view = view.name(),
            detail,
            "the store is damaged: the view is built anew from the log"
        );
        Next::Build
    }

    /// After a stop: waits until a rebuild has put another store in place, or a person says what to do.
    fn wait(&mut self) -> Next {
        let view = self.view;
        let before = view.serving();
        let same = |now: &Arc<ViewStore>| before.as_ref().is_some_and(|before| Arc::ptr_eq(before, now));
        while !view.shared.stopping() {
            if let Some(store) = view.serving().filter(|now| !same(now)) {
                return match store.rows().checkpoint() {
                    Ok(Some(checkpoint)) => Next::Follow(checkpoint),
                    _ => Next::Wait,
                };
            }
            // A log that cannot be read is no worse than it was.
            if self.read_operations().unwrap_or(false) && !self.operations.paused() {
                return match view.serving().map(|store| store.rows().checkpoint()) {
                    Some(Ok(Some(checkpoint))) => Next::Follow(checkpoint),
                    Some(_) => Next::Wait,
                    None => self.begin(),
                };
            }
            view.progress.look_ahead();
            std::thread::sleep(WAIT);
        }
        Next::End
    }
}

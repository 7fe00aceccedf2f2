//! A running reactor as its worker and its operators share it.

use super::directory::{ReactorsDir, resume};
use super::dispatch::Dispatcher;
use crate::failures::DeadLetter;
use crate::progress::{Progress, locked};
use crate::space::Space;
use crate::views::Shared;
use crate::{OutboxStatus, ProjectionKind, ProjectionState, ProjectionStatus, ReactorDefinition, ResumeError};
use annals_core::Position;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// One running reactor.
pub(crate) struct RunningReactor {
    pub(crate) shared: Arc<Shared>,
    pub(crate) definition: ReactorDefinition,
    pub(crate) directory: Arc<ReactorsDir>,
    pub(crate) dispatcher: Arc<dyn Dispatcher>,
    pub(crate) space: Space,
    pub(crate) progress: Progress,
    pub(crate) outbox: Mutex<OutboxStatus>,
    /// Whether the worker waits to be told from where to go on. Its files are closed then.
    pub(crate) waits_for_resume: Mutex<bool>,
    /// Its dead letters, told by the worker.
    pub(crate) letters: Mutex<Vec<DeadLetter>>,
    /// Set when a decision about it was appended, so that the worker looks at once.
    decided: AtomicBool,
}

impl RunningReactor {
    pub(crate) fn new(
        shared: Arc<Shared>,
        definition: ReactorDefinition,
        directory: Arc<ReactorsDir>,
        dispatcher: Arc<dyn Dispatcher>,
    ) -> Self {
        let log = Arc::clone(&shared.log);
        Self {
            progress: Progress::new(definition.name(), ProjectionKind::Reactor, None, log),
            space: Space::new(directory.path(), shared.settings.reserve_bytes),
            shared,
            definition,
            directory,
            dispatcher,
            outbox: Mutex::new(OutboxStatus::default()),
            waits_for_resume: Mutex::new(false),
            letters: Mutex::new(Vec::new()),
            decided: AtomicBool::new(false),
        }
    }

    /// A decision about the reactor may stand in the log.
    pub(crate) fn decide(&self) {
        self.decided.store(true, Ordering::Release);
    }

    /// Whether there may be one that the worker does not know.
    pub(crate) fn take_decided(&self) -> bool {
        self.decided.swap(false, Ordering::Acquire)
    }

    pub(crate) fn dead_letters(&self) -> Vec<DeadLetter> {
        locked(&self.letters).clone()
    }

    pub(crate) fn name(&self) -> &'static str {
        self.definition.name()
    }

    pub(crate) fn status(&self) -> ProjectionStatus {
        // The worker tells them in the opposite order, so a position at the head never hides waiting commands.
        let mut status = self.progress.status();
        status.dead_letters = locked(&self.letters).len() as u64;
        status.outbox = Some(locked(&self.outbox).clone());
        status
    }

    pub(crate) fn stop(&self, error: &str) {
        tracing::error!(reactor = self.name(), position = %self.progress.position(), error, "reactor stopped");
        self.progress.enter(ProjectionState::Stopped, Some(error.to_owned()));
    }

    /// Whether it waits to be told from where to go on.
    pub(crate) fn waits(&self) -> bool {
        *locked(&self.waits_for_resume)
    }

    /// Tells the reactor from where to go on, if that is what it waits for.
    pub(crate) fn resume(&self, from: Position) -> Result<(), ResumeError> {
        let mut waits = locked(&self.waits_for_resume);
        if !*waits {
            return Err(ResumeError::Running(self.name().to_owned()));
        }
        resume(&*self.shared.log, &self.shared.settings, self.name(), from)?;
        *waits = false;
        Ok(())
    }
}

//! The thread of a reactor: folds events, writes what is to be done into the outbox, then does it. Whatever fails in here
//! stops this reactor only, and what is in the outbox is dispatched all the same.

use super::fold::{Batch, Limits, ReactorFold};
use super::journal::JournalError;
use super::open::{Opened, fresh_state, open};
use super::pending::Pending;
use super::running::RunningReactor;
use super::send::{send, what};
use crate::ProjectionState;
use crate::pace::Pace;
use crate::progress::locked;
use crate::store::{OutboxMark, count_rows};
use crate::views::{Stop, panic_text};
use annals_core::Position;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a worker waits for events before it looks whether it should stop.
const WAIT: Duration = Duration::from_millis(50);
/// How often a full disk is looked at.
const SPACE_WAIT: Duration = Duration::from_millis(250);
/// Events without a command after which the outbox is told how far the reactor is.
const NOTED_EVERY_EVENTS: u64 = 10_000;
/// States that turn out damaged are folded anew this often.
const SELF_REPAIRS_MAX: u32 = 3;

/// Starts the thread.
pub(crate) fn spawn(reactor: Arc<RunningReactor>) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(format!("reactor-{}", reactor.name()))
        .spawn(move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(&reactor))) {
                reactor.stop(&format!("{}; restart the server", panic_text(panic.as_ref())));
            }
        })
}

fn run(reactor: &RunningReactor) {
    let shared = &reactor.shared;
    let mut repairs = 0;
    while !shared.stopping() {
        let opened = open(
            &*shared.log,
            &shared.settings,
            &shared.stores,
            &reactor.directory,
            &reactor.definition,
        );
        let error = match opened.map(|opened| Worker::new(reactor, opened).run()) {
            Ok(Halt::Shutdown) => return,
            Ok(Halt::Stopped(error)) => return reactor.stop(&format!("{error}; restart the server")),
            Ok(Halt::Damaged(detail)) if repairs < SELF_REPAIRS_MAX => {
                tracing::warn!(
                    reactor = reactor.name(),
                    detail,
                    "its state is damaged and folded anew from the log"
                );
                repairs += 1;
                match fresh_state(&reactor.directory.state(reactor.name()), &shared.stores) {
                    Ok(_) => continue,
                    Err(error) => return reactor.stop(&error),
                }
            }
            Ok(Halt::Damaged(detail)) => {
                return reactor.stop(&format!(
                    "its state is damaged again and again ({detail}): check the disk"
                ));
            }
            Err(error) => error,
        };
        reactor.stop(&error);
        *locked(&reactor.waits_for_resume) = true;
        while *locked(&reactor.waits_for_resume) && !shared.stopping() {
            reactor.progress.look_ahead();
            std::thread::sleep(WAIT);
        }
    }
}

/// Why a worker came to its end.
enum Halt {
    Shutdown,
    Stopped(String),
    /// The state, which can be folded anew.
    Damaged(String),
}

impl From<JournalError> for Halt {
    fn from(error: JournalError) -> Self {
        Self::Stopped(format!("its outbox cannot be written: {error}"))
    }
}

struct Worker<'a> {
    reactor: &'a RunningReactor,
    files: Opened,
    fold: ReactorFold<'a>,
    pending: Pending,
    pace: Pace,
    /// Up to where the outbox was told that everything is reacted to.
    noted: Position,
    /// It reads no further, but still dispatches.
    stopped: bool,
}

impl<'a> Worker<'a> {
    fn new(reactor: &'a RunningReactor, files: Opened) -> Self {
        let shared = &reactor.shared;
        let mut pending = Pending::default();
        pending.add(files.journal.state().pending.clone());
        Self {
            reactor,
            fold: ReactorFold::new(&*shared.log, &shared.catalog, &reactor.definition, &shared.settings),
            pending,
            pace: Pace::default(),
            noted: files.journal.state().position,
            files,
            stopped: false,
        }
    }

    fn run(mut self) -> Halt {
        let behind = self.files.checkpoint.position < self.files.journal.state().position;
        let state = if behind {
            ProjectionState::Rebuilding
        } else {
            ProjectionState::Running
        };
        self.reactor.progress.enter(state, None);
        self.tell();
        self.reactor.progress.advance(self.position(), 0);
        while self.wait_for_space() {
            match self.work() {
                Ok(true) => {}
                Ok(false) => self.wait(),
                Err(halt) => {
                    self.finish();
                    return halt;
                }
            }
        }
        self.finish();
        Halt::Shutdown
    }

    /// Up to where it has reacted. The state may be ahead of the outbox: what lies between called for no command.
    fn position(&self) -> Position {
        self.files.checkpoint.position.max(self.files.journal.state().position)
    }

    /// One batch of events and one round of commands, where there are any.
    fn work(&mut self) -> Result<bool, Halt> {
        let mut worked = false;
        let room = self.pending.count() < self.reactor.shared.settings.outbox_pending_max;
        if !self.stopped && room && self.files.checkpoint.position < self.reactor.shared.log.head() {
            self.pace.begin();
            self.advance()?;
            worked = true;
        }
        Ok(self.dispatch()? || worked)
    }

    /// Folds and writes one batch. If one of its events fails, those before it are written first.
    fn advance(&mut self) -> Result<(), Halt> {
        let shared = &self.reactor.shared;
        let reacted = self.files.journal.state().position;
        let react = self.files.checkpoint.position >= reacted;
        let mut limits = Limits {
            events: shared.settings.batch_events_max,
            states: shared.settings.batch_rows_max,
            until: if react { shared.log.head() } else { reacted },
            react,
        };
        let mut failed = None;
        while limits.until > self.files.checkpoint.position {
            let progress = &self.reactor.progress;
            let after = self.files.checkpoint.position;
            match self.fold.batch(&self.files.store, after, limits, &mut |recorded| {
                progress.unread(recorded)
            }) {
                Ok(batch) => {
                    self.write(batch)?;
                    break;
                }
                Err(Stop::Event { position, error, .. }) => {
                    limits.until = position.previous();
                    failed = Some(error.to_string());
                }
                Err(Stop::Damaged(detail)) => return Err(Halt::Damaged(detail)),
                Err(Stop::Other(error)) => return Err(Halt::Stopped(error.to_string())),
            }
        }
        if let Some(error) = failed.filter(|_| self.files.checkpoint.position >= limits.until) {
            self.stopped = true;
            self.reactor
                .stop(&format!("{error}; correct the reactor's code and restart the server"));
        }
        Ok(())
    }

    /// Outbox first: a state that is ahead of it would have forgotten commands.
    fn write(&mut self, batch: Batch) -> Result<(), Halt> {
        let journal = &mut self.files.journal;
        let reacted = batch.position > journal.state().position;
        let due = batch.position.since(self.noted) >= NOTED_EVERY_EVENTS;
        if reacted && (due || !batch.commands.is_empty()) {
            journal.reacted(batch.position, batch.commands.clone())?;
            self.noted = batch.position;
        }
        let mut next = self.files.checkpoint.clone();
        next.position = batch.position;
        next.rows = count_rows(next.rows, &batch.changes);
        next.outbox = Some(OutboxMark {
            id: journal.state().id.clone(),
            sequence: journal.state().sequence,
        });
        if let Err(error) = self.files.store.commit(&batch.changes, &next) {
            self.fold.forget();
            return Err(Halt::Stopped(format!("its state cannot be written: {error}")));
        }
        self.files.checkpoint = next;
        self.pending.add(batch.commands);
        if self.files.checkpoint.position >= self.files.journal.state().position {
            self.reactor.progress.enter(ProjectionState::Running, None);
        }
        // First what waits, then the position: who sees the position at the head and nothing waiting may believe it.
        self.tell();
        self.reactor.progress.advance(self.position(), batch.events);
        Ok(())
    }

    fn dispatch(&mut self) -> Result<bool, Halt> {
        let due = self.pending.due(Instant::now());
        if due.is_empty() {
            return Ok(false);
        }
        let reactor = self.reactor;
        let in_flight = reactor.shared.settings.dispatch_in_flight_max.max(1);
        let stopping = || reactor.shared.stopping();
        let outcomes = send(reactor.name(), &*reactor.dispatcher, &due, in_flight, &stopping);
        let (mut accepted, mut rejected) = (Vec::new(), Vec::new());
        for outcome in outcomes {
            for rejection in &outcome.rejected {
                tracing::warn!(
                    reactor = reactor.name(),
                    command = rejection.what,
                    code = rejection.code,
                    "command rejected"
                );
            }
            self.pending.done(&outcome.key, outcome.done);
            if let Some(error) = outcome.failed {
                tracing::warn!(
                    reactor = reactor.name(),
                    key = outcome.key,
                    error,
                    "command failed, it is tried again"
                );
                self.pending.failed(&outcome.key, error, Instant::now());
            }
            accepted.extend(outcome.accepted);
            rejected.extend(outcome.rejected);
        }
        if !accepted.is_empty() || !rejected.is_empty() {
            self.files.journal.settled(accepted, rejected)?;
        }
        self.tell();
        Ok(true)
    }

    fn tell(&self) {
        let mut status = locked(&self.reactor.outbox);
        status.dispatched = self.files.journal.state().dispatched;
        status.rejected = self.files.journal.state().rejected;
        self.pending.describe(&mut status, what);
    }

    fn wait(&self) {
        let pause = self.pending.next_due(Instant::now()).map_or(WAIT, |due| due.min(WAIT));
        let full = self.pending.count() >= self.reactor.shared.settings.outbox_pending_max;
        if self.stopped || full {
            self.reactor.progress.look_ahead();
            std::thread::sleep(pause);
        } else {
            self.reactor
                .shared
                .log
                .wait_beyond(self.files.checkpoint.position, pause);
        }
    }

    /// Returns when there is space; false at shutdown.
    fn wait_for_space(&self) -> bool {
        let Err(full) = self.reactor.space.check() else {
            return !self.reactor.shared.stopping();
        };
        let before = self.reactor.progress.state();
        let text = format!(
            "the disk has {} bytes left and {} are kept in reserve: free some space",
            full.free, full.reserve
        );
        tracing::warn!(reactor = self.reactor.name(), error = text, "reactor waits for space");
        self.reactor
            .progress
            .enter(ProjectionState::WaitingForSpace, Some(text));
        while self.reactor.space.check().is_err() && !self.reactor.shared.stopping() {
            std::thread::sleep(SPACE_WAIT);
        }
        self.reactor.progress.enter(before.0, before.1);
        !self.reactor.shared.stopping()
    }

    /// What is left to be written down. Without it more would be folded and dispatched again.
    fn finish(&mut self) {
        let position = self.position();
        let journal = &mut self.files.journal;
        let noted = if position > journal.state().position {
            journal.reacted(position, Vec::new())
        } else {
            Ok(())
        };
        if let Err(error) = noted.and_then(|()| journal.sync()) {
            tracing::warn!(reactor = self.reactor.name(), %error, "the outbox could not be synced");
        }
        if let Err(error) = self.files.store.sync() {
            tracing::warn!(reactor = self.reactor.name(), %error, "the state could not be synced");
        }
    }
}

//! The thread of a reactor: folds events, writes what is to be done into the outbox, then does it. Whatever fails in here
//! stops this reactor only, and what is in the outbox is dispatched all the same.

use super::decide::Decisions;
use super::fold::{Batch, Limits, ReactorFold};
use super::journal::{EventName, JournalError, Outgoing, Rejected};
use super::open::{Opened, fresh_state, open};
use super::pending::Pending;
use super::running::RunningReactor;
use super::send::{send, what};
use super::timers::{self, Fired};
use crate::ProjectionState;
use crate::definition::panic_text;
use crate::definition::{Change, SetTimer};
use crate::failures::{Verb, What};
use crate::pace::Pace;
use crate::progress::locked;
use crate::store::{OutboxMark, StoreError, count_rows};
use crate::views::Stop;
use annals_core::{EventLog, Position};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a worker waits for events before it looks whether it should stop.
const WAIT: Duration = Duration::from_millis(50);
/// How often a full disk is looked at.
const SPACE_WAIT: Duration = Duration::from_millis(250);
/// Least time between two looks for decisions.
const LOOK: Duration = Duration::from_millis(5);
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
        let ran = opened.map(|opened| match Worker::new(reactor, opened) {
            Ok(worker) => worker.run(),
            Err(halt) => halt,
        });
        let error = match ran {
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

/// A store that failed; its contents can be folded anew if they are what is wrong.
fn halt(error: StoreError) -> Halt {
    match error {
        StoreError::Damaged(detail) => Halt::Damaged(detail),
        other => Halt::Stopped(other.to_string()),
    }
}

fn stopped(stop: Stop) -> Halt {
    match stop {
        Stop::Damaged(detail) => Halt::Damaged(detail),
        Stop::Event { error, .. } | Stop::Row { error, .. } | Stop::Other(error) => Halt::Stopped(error.to_string()),
    }
}

/// Type and stream of the event at a position; empty if it cannot be read, which its next reader tells.
fn event_name(log: &dyn EventLog, position: Position) -> EventName {
    let record = log.read_one(position).ok().flatten();
    let name = record.and_then(|record| {
        let record = record.view().ok()?;
        Some((record.header.event_type.to_owned(), record.header.stream.to_owned()))
    });
    name.unwrap_or_default()
}

/// The command of a timer that goes off. It occurs when it is recorded.
fn from_timer(key: String, timer: SetTimer) -> Outgoing {
    Outgoing {
        position: timer.position,
        number: timer.number,
        key,
        call: timer.call,
        occurred: None,
        causation: timer.causation,
        correlation: timer.correlation,
    }
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
    decisions: Decisions,
    /// Up to where decisions are heeded.
    heeded: Position,
    /// When the next timer is due.
    next_timer: Option<i64>,
}

impl<'a> Worker<'a> {
    fn new(reactor: &'a RunningReactor, files: Opened) -> Result<Self, Halt> {
        let shared = &reactor.shared;
        let mut pending = Pending::default();
        pending.add(files.journal.state().pending.clone());
        pending.park(&files.journal.state().parked);
        let mut worker = Self {
            reactor,
            fold: ReactorFold::new(&*shared.log, &shared.catalog, &reactor.definition, &shared.settings),
            pending,
            pace: Pace::default(),
            noted: files.journal.state().position,
            next_timer: timers::next(&files.store).map_err(halt)?,
            files,
            heeded: Position::ZERO,
            decisions: Decisions::new(reactor.name()),
        };
        worker.heed()?;
        Ok(worker)
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
        let log = &self.reactor.shared.log;
        if self.reactor.take_decided() {
            self.heed()?;
        }
        if self.decisions.rests(self.reactor) {
            return Ok(false);
        }
        let mut worked = false;
        if self.decisions.advances() && self.room() {
            if self.files.checkpoint.position < log.head() {
                self.pace.begin();
                self.advance()?;
                worked = true;
            } else {
                worked = self.fire()?;
            }
        }
        Ok(self.dispatch()? || worked)
    }

    /// Whether more commands may wait.
    fn room(&self) -> bool {
        let settings = &self.reactor.shared.settings;
        self.pending.count() < settings.outbox_pending_max && self.pending.dead() < settings.dead_letters_max
    }

    /// Reads what people decided and does it.
    fn heed(&mut self) -> Result<(), Halt> {
        let log = &*self.reactor.shared.log;
        let news = self
            .decisions
            .read(log)
            .map_err(|error| Halt::Stopped(error.to_string()))?;
        for decided in news {
            self.heeded = self.heeded.max(decided.at);
            match &decided.verb {
                Verb::Skip(What {
                    position,
                    number: Some(number),
                    ..
                }) => {
                    if let Some(command) = self.pending.take((*position, *number)) {
                        let skipped = Rejected {
                            id: command.id(),
                            what: what(&command),
                            code: "skipped".into(),
                            message: decided.reason,
                        };
                        self.files.journal.settled(Vec::new(), vec![skipped])?;
                    }
                }
                Verb::Retry(What {
                    position,
                    number: Some(number),
                    ..
                }) => {
                    let id = (*position, *number);
                    if self.pending.again(id, decided.at) {
                        self.files.journal.parked(Vec::new(), vec![id])?;
                    }
                }
                _ => self.decisions.heed(self.reactor, &decided.verb),
            }
        }
        self.tell();
        Ok(())
    }

    /// Lets timers go off that are due. Only once everything is read: an event may cancel one that was due before.
    fn fire(&mut self) -> Result<bool, Halt> {
        let shared = &self.reactor.shared;
        let Some(now) = shared.log.now().map(|now| now.timestamp_micros()) else {
            return Ok(false);
        };
        let at = self.files.checkpoint.position;
        if self.next_timer.is_none_or(|due| due > now) || at < self.files.journal.state().position {
            return Ok(false);
        }
        let due = timers::due(&self.files.store, now).map_err(halt)?;
        let Some((last, key)) = due.last().cloned() else {
            self.next_timer = None;
            return Ok(false);
        };
        let fired = self.fold.fire(&self.files.store, &due, at, now).map_err(stopped)?;
        let before = self.files.journal.state().fired.clone();
        let new = |key: &str, timer: &SetTimer| {
            let gone_off = |fired: &Fired| fired.covers(timer.due, key, timer.position);
            !before.as_ref().is_some_and(gone_off)
        };
        let commands: Vec<Outgoing> = fired
            .timers
            .into_iter()
            .filter(|(key, timer)| new(key, timer))
            .map(|(key, timer)| from_timer(key, timer))
            .collect();
        if !commands.is_empty() {
            self.files
                .journal
                .fired(Fired::up_to(last, &key, at), commands.clone())?;
        }
        self.commit(&fired.changes, at)?;
        self.pending.add(commands);
        self.tell();
        Ok(true)
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
            let (store, operations) = (&self.files.store, self.decisions.operations());
            match self.fold.batch(store, after, limits, operations, &mut |recorded| {
                progress.unread(recorded)
            }) {
                Ok(batch) => {
                    self.write(batch)?;
                    break;
                }
                Err(Stop::Event { position, key, error }) => {
                    limits.until = position.previous();
                    failed = Some((position, key, error.to_string()));
                }
                Err(other) => return Err(stopped(other)),
            }
        }
        let next = self.files.checkpoint.position.next();
        if let Some((position, key, error)) = failed.filter(|(position, ..)| *position == next) {
            self.decisions.failed(self.reactor, position, key, &error);
            self.tell();
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
        self.commit(&batch.changes, batch.position)?;
        self.pending.add(batch.commands);
        self.decisions.passed(batch.position);
        if batch.decided {
            self.heed()?;
        }
        if self.files.checkpoint.position >= self.files.journal.state().position {
            self.reactor.progress.enter(ProjectionState::Running, None);
        }
        // First what waits, then the position: who sees the position at the head and nothing waiting may believe it.
        self.tell();
        self.reactor.progress.advance(self.position(), batch.events);
        Ok(())
    }

    fn commit(&mut self, changes: &[Change], position: Position) -> Result<(), Halt> {
        let outbox = self.files.journal.state();
        let mut next = self.files.checkpoint.clone();
        next.position = position;
        next.rows = count_rows(next.rows, changes);
        next.outbox = Some(OutboxMark {
            id: outbox.id.clone(),
            sequence: outbox.sequence,
        });
        if let Err(error) = self.files.store.commit(changes, &next) {
            self.fold.forget();
            return Err(Halt::Stopped(format!("its state cannot be written: {error}")));
        }
        self.files.checkpoint = next;
        let timers = changes
            .iter()
            .any(|change| !(change.index_added.is_empty() && change.index_removed.is_empty()));
        if timers {
            self.next_timer = timers::next(&self.files.store).map_err(halt)?;
        }
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
        let (mut accepted, mut rejected, mut parked) = (Vec::new(), Vec::new(), Vec::new());
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
            if let Some(failure) = outcome.failed {
                let (key, error) = (&outcome.key, failure.error.clone());
                let event = outcome.failed_at.map(|at| event_name(&*reactor.shared.log, at));
                let backoff = reactor.shared.settings.backoff();
                let dead = self.pending.failed(key, failure, event.unwrap_or_default(), backoff);
                tracing::warn!(reactor = reactor.name(), key, error, parked = dead, "command failed");
                parked.extend(self.pending.parked(key, self.heeded));
            }
            accepted.extend(outcome.accepted);
            rejected.extend(outcome.rejected);
        }
        if !accepted.is_empty() || !rejected.is_empty() {
            self.files.journal.settled(accepted, rejected)?;
        }
        if !parked.is_empty() {
            self.files.journal.parked(parked, Vec::new())?;
        }
        self.tell();
        Ok(true)
    }

    fn tell(&self) {
        let mut status = locked(&self.reactor.outbox);
        status.dispatched = self.files.journal.state().dispatched;
        status.rejected = self.files.journal.state().rejected;
        status.next_timer_at = self.next_timer.map(annals_core::time);
        self.pending.describe(&mut status, what);
        drop(status);
        let mut letters = self.decisions.letters(self.reactor.name());
        letters.extend(self.pending.letters(self.reactor.name()));
        *locked(&self.reactor.letters) = letters;
    }

    fn wait(&mut self) {
        let pause = self.pending.next_due(Instant::now()).map_or(WAIT, |due| due.min(WAIT));
        if self.decisions.advances() && self.room() && !self.decisions.rests(self.reactor) {
            self.reactor
                .shared
                .log
                .wait_beyond(self.files.checkpoint.position, pause);
        } else {
            // Nothing is read meanwhile, so what people decide is looked for.
            self.reactor.decide();
            self.reactor.progress.look_ahead();
            std::thread::sleep(pause.max(LOOK));
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

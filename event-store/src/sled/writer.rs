//! The writer: takes all appends that wait, decides them in order, writes them to the journal as one group, syncs once,
//! moves the durable head, then answers. While one group syncs the next gathers, and the one before is stored in the
//! volumes by another thread. A thread of its own does that, or an append's own runtime, see [`super::turn`].

use super::answers::Answers;
use super::group::Group;
use super::indexer::Indexer;
use super::journal::Journal;
use super::matching::Checked;
use super::names::{appended_name, command_name};
use super::queue::Queued;
use super::shared::Shared;
use super::turn::Desk;
use super::watchdog::{LOOK, Place};
use super::window::Window;
use crate::admission::{Admission, Known, Matched, Stamp, admit, encode};
use crate::clock::LogClock;
use crate::event_ids::EventIds;
use annals_core::{AppendError, Appended, EventId, EventQuery, LogError, Position, Record, StreamHead, StreamId};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

/// About how many bytes one group takes.
pub(super) const GROUP_BYTES_MAX: usize = 256 * 1024;
/// How far the tail may grow beyond its setting while a generation is being indexed, before appends wait for it.
const TAIL_GROWTH_MAX: usize = 4;

pub(super) struct Writer {
    shared: Arc<Shared>,
    indexer: Indexer,
    journal: Journal,
    storer: Option<JoinHandle<()>>,
    clock: LogClock,
    ids: EventIds,
    boot: u64,
    window: Window,
    answers: Answers,
    /// Whether the storage failed here: what was being written may be there or not.
    failed: bool,
    /// Ends the watchdog when it is dropped.
    _watched: SyncSender<()>,
}

/// What the writer sees: everything, also what is not durable yet.
struct Pending<'a> {
    shared: &'a Shared,
    window: &'a Window,
    queued: &'a Queued,
}

impl Known for Pending<'_> {
    fn stream_head(&self, stream: &StreamId) -> Result<Option<StreamHead>, LogError> {
        self.shared.head_up_to(stream, Position::new(u64::MAX))
    }

    fn find_command(&self, stream: &StreamId, key: &str) -> Result<Option<Position>, LogError> {
        let name = self.queued.command;
        let name = name.unwrap_or_else(|| command_name(stream.as_str(), key));
        self.shared.find_named_command(&name, stream, key)
    }

    fn find_appended(&self, stream: &StreamId, source: &str, id: &EventId) -> Result<Option<Position>, LogError> {
        self.shared.find_appended(stream, source, id)
    }

    fn record(&self, position: Position) -> Result<Option<Record>, LogError> {
        self.shared.record(position)
    }
    fn first_match(&self, query: &EventQuery, after: Position) -> Result<Matched, LogError> {
        Ok(match self.queued.checked {
            Checked::Failed(position) => Matched::At(position),
            Checked::UpTo(position) => self.window.first_match(query, position.max(after)),
        })
    }
}

/// Starts the writer; it ends when the queue is closed and empty.
pub(super) fn start(
    shared: Arc<Shared>,
    indexer: Indexer,
    storer: JoinHandle<()>,
    journal: Journal,
    last_recorded: i64,
) -> std::io::Result<(Arc<Desk>, JoinHandle<()>)> {
    let boot = shared.volumes.boot();
    let clock = LogClock::new(last_recorded);
    let (watched, stop) = sync_channel(0);
    // It must not keep the volumes open when the log is closed.
    let (log, syncs, max) = (
        Arc::downgrade(&shared),
        Arc::clone(&shared.syncs),
        shared.settings.sync_time_max,
    );
    std::thread::Builder::new()
        .name("annals-watchdog".into())
        .spawn(move || {
            syncs.watch(max, LOOK, &stop, |why| {
                if let Some(log) = log.upgrade() {
                    log.fail(why);
                }
            });
        })?;
    let writer = Writer {
        shared: Arc::clone(&shared),
        indexer,
        journal,
        storer: Some(storer),
        clock,
        ids: EventIds::new(),
        boot,
        window: Window::new(),
        answers: Answers::default(),
        failed: false,
        _watched: watched,
    };
    let desk = Arc::new(Desk::new(shared, writer));
    let thread = std::thread::Builder::new().name("annals-writer".into()).spawn({
        let desk = Arc::clone(&desk);
        move || desk.run()
    })?;
    Ok((desk, thread))
}

impl Writer {
    /// Stores a group and answers it. A storage that fails has closed the queue then.
    pub(super) fn store(&mut self, group: Vec<Queued>) {
        let committed = catch_unwind(AssertUnwindSafe(|| self.commit(group)));
        let outcome = committed.unwrap_or_else(|_| Err(LogError::Storage("the storage engine panicked".into())));
        match outcome {
            Ok(()) => {
                self.answers.give();
                self.feed_index(false);
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Whether the next group would wait for the storer or hand over to the indexer.
    pub(super) fn would_wait(&self) -> bool {
        self.shared.tail.len() >= self.shared.settings.index_tail_max
            || self.journal.needs_stored(GROUP_BYTES_MAX) > self.shared.recent.stored()
    }

    /// The storage failed: what was being written may or may not be there, and nothing more is accepted.
    fn fail(&mut self, error: &LogError) {
        self.failed = true;
        let why = error.to_string();
        tracing::error!(
            error = why,
            "the log failed; the outcome of appends in flight is unknown, appends stop"
        );
        self.answers.unknown(&why);
        self.shared.fail(&why);
    }

    /// The queue is closed and empty, so nothing more will come.
    pub(super) fn end(&mut self) {
        if self.failed {
            self.indexer.finish();
            self.join_storer();
        } else {
            self.finish();
        }
    }

    /// Waits until the storer has ended.
    fn join_storer(&mut self) {
        if let Some(storer) = self.storer.take() {
            // A storer that failed has said so in the log's fatal state.
            let _ = storer.join();
        }
    }

    /// Everything is written: completes the index and says so.
    fn finish(&mut self) {
        self.shared.tail.wait_thawed();
        self.feed_index(true);
        self.indexer.finish();
        self.shared.recent.close();
        self.join_storer();
        if self.shared.fatal.get().is_some() {
            return;
        }
        if let Err(error) = self.shared.volumes.mark_clean() {
            tracing::warn!(%error, "the log is whole, but could not be marked as closed in order");
        }
    }

    /// Hands the tail to the indexer when it is long enough; waits when it is far too long.
    fn feed_index(&self, all: bool) {
        let (shared, max) = (&self.shared, self.shared.settings.index_tail_max);
        let len = shared.tail.len();
        if len == 0 || (len < max && !all) {
            return;
        }
        if len >= max.saturating_mul(TAIL_GROWTH_MAX) {
            shared.tail.wait_thawed();
        }
        if let Some(generation) = shared.tail.freeze() {
            self.indexer.hand_over(generation, shared.head.get());
        }
    }

    /// Decides and stores a group. Answers wait in `answers` until everything is synced.
    fn commit(&mut self, group: Vec<Queued>) -> Result<(), LogError> {
        let recorded = match self
            .clock
            .now()
            .and_then(|recorded| self.shared.check_space().map(|()| recorded))
        {
            Ok(recorded) => recorded,
            Err(error) => {
                for queued in group {
                    self.shared.counters.refused(&error);
                    self.answers.add(queued.answer, Err(error.clone()));
                }
                return Ok(());
            }
        };
        let durable = self.shared.head.get();
        let mut records = Group::new(durable.next(), group.len());
        let mut group = group.into_iter();
        while let Some(queued) = group.next() {
            if !records.is_empty() && self.repeats_pending(&queued, durable) {
                // Its answer must be read from the log: decide it in the next group, when it is there.
                self.shared
                    .queue
                    .put_back(std::iter::once(queued).chain(group).collect());
                break;
            }
            let result = self.decide(&queued, recorded, &mut records);
            self.shared.counters.decided(&result);
            self.answers.on(queued.runtime.as_ref());
            self.answers.add(queued.answer, result);
        }
        self.write(records)
    }

    /// Whether the append repeats something of this group, which is not readable yet.
    fn repeats_pending(&self, queued: &Queued, durable: Position) -> bool {
        // What is not durable yet is in the tail, nowhere else.
        let (tail, append) = (&self.shared.tail, &queued.append);
        let pending = |found: Option<Position>| found.is_some_and(|position| position > durable);
        let command = queued.command.as_ref();
        command.is_some_and(|name| pending(tail.command(name)))
            || append.events.iter().any(|event| {
                let source = event.source.as_deref().unwrap_or(&self.shared.own_source);
                let name = event
                    .id
                    .as_ref()
                    .map(|id| appended_name(id, append.stream.as_str(), source));
                name.is_some_and(|name| pending(tail.appended(&name)))
            })
    }

    fn decide(&mut self, queued: &Queued, recorded: i64, records: &mut Group) -> Result<Appended, AppendError> {
        let append = &queued.append;
        if append.condition.is_some() {
            self.window.begin(records.next().previous());
        }
        let pending = Pending {
            shared: &self.shared,
            window: &self.window,
            queued,
        };
        let (after, known) = match admit(append, &pending, &self.shared.own_source)? {
            Admission::Known(appended) => return Ok(appended),
            Admission::New { after, known } => (after, known),
            // Sent back: whoever waits for the answer checks it again.
            Admission::Outrun => return Err(AppendError::ConditionOutrun { attempts: 1 }),
        };
        let (first, own_source) = (records.next(), self.shared.own_source.as_str());
        let stamp = Stamp {
            first,
            after,
            known: &known,
            recorded,
            own_source,
        };
        let (ids, window) = (&mut self.ids, &mut self.window);
        let mut tail = self.shared.tail.adding();
        Ok(encode(
            append,
            &stamp,
            || ids.next(recorded),
            |header, bytes, payload| {
                tail.add(records.next(), header, queued.command);
                window.add(records.next(), header);
                records.push(bytes, payload);
            },
        ))
    }

    /// Makes a group durable and shows it to the readers.
    fn write(&mut self, records: Group) -> Result<(), LogError> {
        if records.is_empty() {
            return Ok(());
        }
        let (frame, block) = records.seal(self.shared.epoch, self.boot);
        let last = block.last();
        // Waits only when the volumes are behind by more than the journal holds.
        let storage = |error: String| LogError::Storage(format!("the journal: {error}"));
        if !self.shared.recent.wait_stored(self.journal.needs_stored(frame.len())) {
            return Err(storage("what it holds cannot be stored in the volumes".into()));
        }
        let begin = Instant::now();
        let (journal, answers) = (&mut self.journal, &mut self.answers);
        let written = self
            .shared
            .syncs
            .run(Place::Journal, Some(answers), || journal.append(&frame, last));
        written.map_err(|error| storage(error.to_string()))?;
        self.shared.counters.synced(frame.len(), begin.elapsed());
        self.shared.recent.push(block);
        self.shared.head.advance(last);
        Ok(())
    }
}

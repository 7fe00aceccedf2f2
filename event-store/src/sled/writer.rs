//! The writer: one thread that takes all appends that wait, decides them in order, stores them in blocks, syncs once,
//! moves the durable head, then answers. While one group syncs the next gathers.

use super::blocks::GroupBlocks;
use super::indexer::Indexer;
use super::queue::Queued;
use super::shared::Shared;
use crate::admission::{Admission, Known, Stamp, admit, encode};
use crate::clock::LogClock;
use crate::event_ids::EventIds;
use annals_core::{AppendError, Appended, Block, EventId, LogError, Position, Record, StreamHead, StreamId};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// About how many bytes are written between two syncs: as much as one group takes.
const GROUP_BYTES_MAX: usize = 256 * 1024;
/// How far the tail may grow beyond its setting while a generation is being indexed, before appends wait for it.
const TAIL_GROWTH_MAX: usize = 4;

type Answer = (
    oneshot::Sender<Result<Appended, AppendError>>,
    Result<Appended, AppendError>,
);

pub(super) struct Writer {
    shared: Arc<Shared>,
    indexer: Indexer,
    clock: LogClock,
    ids: EventIds,
    boot: u64,
    answers: Vec<Answer>,
}

/// What the writer sees: everything, also what is not durable yet.
struct Pending<'a>(&'a Shared);

impl Known for Pending<'_> {
    fn stream_head(&self, stream: &StreamId) -> Result<Option<StreamHead>, LogError> {
        self.0.head_up_to(stream, Position::new(u64::MAX))
    }

    fn find_command(&self, stream: &StreamId, key: &str) -> Result<Option<Position>, LogError> {
        self.0.find_command(stream, key)
    }

    fn find_appended(&self, stream: &StreamId, source: &str, id: &EventId) -> Result<Option<Position>, LogError> {
        self.0.find_appended(stream, source, id)
    }

    fn record(&self, position: Position) -> Result<Option<Record>, LogError> {
        self.0.record(position)
    }
}

/// Starts the writer; it ends when the queue is closed and empty.
pub(super) fn start(shared: Arc<Shared>, indexer: Indexer, last_recorded: i64) -> std::io::Result<JoinHandle<()>> {
    let boot = shared.volumes.boot();
    let clock = LogClock::new(last_recorded);
    let mut writer = Writer {
        shared,
        indexer,
        clock,
        ids: EventIds::new(),
        boot,
        answers: Vec::new(),
    };
    std::thread::Builder::new()
        .name("annals-writer".into())
        .spawn(move || writer.run())
}

impl Writer {
    fn run(&mut self) {
        while let Some(group) = self.shared.queue.take(GROUP_BYTES_MAX) {
            let committed = catch_unwind(AssertUnwindSafe(|| self.commit(group)));
            let outcome = committed.unwrap_or_else(|_| Err(LogError::Storage("the storage engine panicked".into())));
            match outcome {
                Ok(()) => self.answers.drain(..).for_each(|(answer, result)| {
                    // A caller that went away needs no answer.
                    let _ = answer.send(result);
                }),
                Err(error) => return self.stop(&error),
            }
            self.feed_index(false);
        }
        self.finish();
    }

    /// The storage failed: what was being written may or may not be there, and nothing more is accepted.
    fn stop(&mut self, error: &LogError) {
        let why = error.to_string();
        tracing::error!(
            error = why,
            "the log failed; the outcome of appends in flight is unknown, appends stop"
        );
        for (answer, result) in self.answers.drain(..) {
            let _ = answer.send(result.and(Err(AppendError::OutcomeUnknown(why.clone()))));
        }
        self.shared.fail(&why);
        self.indexer.finish();
    }

    /// Everything is written: completes the index and says so.
    fn finish(&mut self) {
        self.shared.tail.wait_thawed();
        self.feed_index(true);
        self.indexer.finish();
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
            .and_then(|recorded| self.check_space().map(|()| recorded))
        {
            Ok(recorded) => recorded,
            Err(error) => {
                self.answers
                    .extend(group.into_iter().map(|queued| (queued.answer, Err(error.clone()))));
                return Ok(());
            }
        };
        let durable = self.shared.head.get();
        let mut blocks = GroupBlocks::new(self.shared.epoch, self.boot, durable.next());
        let mut group = group.into_iter();
        while let Some(queued) = group.next() {
            if self.repeats_pending(&queued, durable) {
                // Its answer must be read from the log: decide it in the next group, when it is there.
                self.shared
                    .queue
                    .put_back(std::iter::once(queued).chain(group).collect());
                break;
            }
            let result = self.decide(&queued, recorded, &mut blocks);
            self.answers.push((queued.answer, result));
        }
        self.store(blocks)
    }

    fn check_space(&self) -> Result<(), AppendError> {
        let (path, reserve) = (&self.shared.log_path, self.shared.settings.reserve_bytes);
        match rustix::fs::statvfs(path) {
            Ok(stat) if stat.f_bavail.saturating_mul(stat.f_frsize) < reserve => Err(AppendError::StorageFull {
                free: stat.f_bavail * stat.f_frsize,
                reserve,
            }),
            // A file system that does not say how full it is cannot be watched.
            _ => Ok(()),
        }
    }

    /// Whether the append repeats something of this group, which is not readable yet.
    fn repeats_pending(&self, queued: &Queued, durable: Position) -> bool {
        let (shared, append) = (&self.shared, &queued.append);
        let pending = |found: Result<Option<Position>, LogError>| {
            found.is_ok_and(|position| position.is_some_and(|position| position > durable))
        };
        let command = append.command.as_ref();
        command.is_some_and(|command| pending(shared.find_command(&append.stream, &command.key)))
            || append.events.iter().any(|event| {
                let source = event.source.as_deref().unwrap_or(&shared.own_source);
                event
                    .id
                    .as_ref()
                    .is_some_and(|id| pending(shared.find_appended(&append.stream, source, id)))
            })
    }

    fn decide(&mut self, queued: &Queued, recorded: i64, blocks: &mut GroupBlocks) -> Result<Appended, AppendError> {
        let append = &queued.append;
        let (after, known) = match admit(append, &Pending(&self.shared), &self.shared.own_source)? {
            Admission::Known(appended) => return Ok(appended),
            Admission::New { after, known } => (after, known),
        };
        blocks.begin_append(queued.bytes);
        let (first, own_source) = (blocks.next(), self.shared.own_source.as_str());
        let stamp = Stamp {
            first,
            after,
            known: &known,
            recorded,
            own_source,
        };
        let (ids, tail) = (&mut self.ids, &self.shared.tail);
        Ok(encode(
            append,
            &stamp,
            || ids.next(recorded),
            |header, bytes, payload| {
                tail.add(blocks.next(), header);
                blocks.push(bytes, payload);
            },
        ))
    }

    fn store(&self, blocks: GroupBlocks) -> Result<(), LogError> {
        let (epoch, boot) = blocks.epoch_and_boot();
        let blocks = blocks.finish();
        let Some(last) = blocks.last().map(Block::last) else {
            return Ok(());
        };
        let volume = self.shared.volumes.current();
        let mut unsynced = 0;
        for (key, frame) in blocks.iter().flat_map(|block| GroupBlocks::frames(block, epoch, boot)) {
            if unsynced > GROUP_BYTES_MAX {
                volume.sync()?;
                unsynced = 0;
            }
            unsynced += frame.len();
            volume.insert(&key, frame)?;
        }
        volume.sync()?;
        blocks.iter().for_each(|block| self.shared.remember_block(block));
        self.shared.head.advance(last);
        if volume.file_len() >= self.shared.settings.volume_bytes_max {
            self.shared.volumes.roll(last.next())?;
        }
        Ok(())
    }
}

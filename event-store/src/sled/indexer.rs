//! Writes frozen generations of the tail to the index, and merges its runs, each on a thread of its own: appends do not
//! wait for generations, and generations do not wait for merges.

use super::background::{Pieces, yield_to_requests};
use super::generation::Generation;
use super::shared::{HEADS_MAX, Shared};
use super::watchdog::Place;
use annals_core::{LogError, Position};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;

/// After how many heads the indexer looks for work.
const LOOK_EVERY: usize = 1_024;

/// A generation with the position up to which it completes the index.
type Work = (Arc<Generation>, Position);

pub(super) struct Indexer {
    work: Option<SyncSender<Work>>,
    thread: Option<JoinHandle<()>>,
    merger: Option<JoinHandle<()>>,
    stop_merging: Arc<AtomicBool>,
}

impl Indexer {
    pub(super) fn start(shared: Arc<Shared>) -> std::io::Result<Self> {
        let (work, queue) = sync_channel(1);
        let (written, wake) = sync_channel(1);
        let stop_merging = Arc::new(AtomicBool::new(false));
        let merger = std::thread::Builder::new().name("annals-merger".into()).spawn({
            let (shared, stop) = (shared.clone(), stop_merging.clone());
            move || {
                yield_to_requests();
                merge(&shared, &wake, &stop);
            }
        })?;
        let thread = std::thread::Builder::new()
            .name("annals-indexer".into())
            .spawn(move || run(&shared, &queue, &written))?;
        Ok(Self {
            work: Some(work),
            thread: Some(thread),
            merger: Some(merger),
            stop_merging,
        })
    }

    /// Hands over a frozen generation.
    pub(super) fn hand_over(&self, generation: Arc<Generation>, position: Position) {
        if let Some(work) = &self.work {
            // The indexer ends only after this sender is gone.
            let _ = work.send((generation, position));
        }
    }

    /// Waits until everything handed over is written. Merges that are not done are done another time.
    pub(super) fn finish(&mut self) {
        self.work = None;
        self.stop_merging.store(true, Ordering::Relaxed);
        for thread in [self.thread.take(), self.merger.take()].into_iter().flatten() {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, queue: &Receiver<Work>, written: &SyncSender<()>) {
    let mut came = remember_heads(shared, queue);
    while let Some((generation, position)) = came.take().or_else(|| queue.recv().ok()) {
        let pieces = Pieces::begin();
        // Appends wait when the tail is several times as long as its setting, and so does whoever closes the log.
        let waited_for = || shared.tail.len() > shared.settings.index_tail_max / 2 || shared.queue.closed().is_some();
        let rest = || pieces.done(waited_for());
        if let Err(error) = write(shared, &generation, position, &rest) {
            // The log is whole; only the index cannot be kept. Appends stop, because the tail would grow without bound.
            tracing::error!(%error, "the index cannot be written, appends stop");
            shared.fail(&error.to_string());
            return shared.tail.abandon();
        }
        shared.tail.thaw();
        // A merger that is at work looks again by itself.
        let _ = written.try_send(());
    }
}

/// Puts the heads of streams into memory that were written to last, as many as are kept there: looked up one by one they would
/// make the first appends after an opening cost twice as much. Ends when there is work, and gives it.
///
/// On this thread, because it alone writes heads: none that is newer can stand there already.
fn remember_heads(shared: &Shared, queue: &Receiver<Work>) -> Option<Work> {
    let (mut seen, mut known, mut came) = (0_usize, 0_usize, None);
    let told = shared.index.each_head(|stream, head| {
        seen += 1;
        if shared.heads.peek(stream).is_none() {
            shared.heads.insert(stream.into(), head);
            known += 1;
        }
        if seen.is_multiple_of(LOOK_EVERY) {
            match queue.try_recv() {
                Ok(work) => came = Some(work),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return ControlFlow::Break(()),
            }
        }
        if known >= HEADS_MAX || came.is_some() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    if let Err(error) = told {
        tracing::warn!(%error, "heads of streams cannot be read beforehand");
    }
    came
}

/// Merges what is due after each generation, beginning with what an earlier process left.
fn merge(shared: &Shared, wake: &Receiver<()>, stop: &AtomicBool) {
    loop {
        match shared.index.merge_once(stop) {
            Ok(true) => continue,
            Ok(false) => (),
            // Look-ups ask more runs meanwhile; the index says so when there are too many.
            Err(error) => tracing::warn!(%error, "runs of the index cannot be merged now; tried again later"),
        }
        if wake.recv().is_err() {
            return;
        }
    }
}

/// Writes a generation to the index; `rest` is called every now and then.
pub(super) fn write(
    shared: &Shared,
    generation: &Generation,
    position: Position,
    rest: &dyn Fn(),
) -> Result<(), LogError> {
    let moved_on = || {
        rest();
        shared.syncs.moved_on(Place::Index);
    };
    let write = || shared.index.write(generation, shared.epoch, position, &moved_on);
    shared.syncs.run(Place::Index, None, write)?;
    for (number, (stream, head)) in generation.heads().enumerate() {
        shared.heads.insert(stream.into(), head);
        if number % LOOK_EVERY == 0 {
            rest();
        }
    }
    Ok(())
}

//! Writes frozen generations of the tail to the index, on a thread of its own so that appends do not wait for it.

use super::index::Index;
use super::shared::Shared;
use super::tail::Generation;
use annals_core::{LogError, Position};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// A generation with the position up to which it completes the index.
type Work = (Arc<Generation>, Position);

pub(super) struct Indexer {
    work: Option<SyncSender<Work>>,
    thread: Option<JoinHandle<()>>,
}

impl Indexer {
    pub(super) fn start(shared: Arc<Shared>) -> std::io::Result<Self> {
        let (work, queue) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("annals-indexer".into())
            .spawn(move || run(&shared, &queue))?;
        Ok(Self {
            work: Some(work),
            thread: Some(thread),
        })
    }

    /// Hands over a frozen generation.
    pub(super) fn hand_over(&self, generation: Arc<Generation>, position: Position) {
        if let Some(work) = &self.work {
            // The indexer ends only after this sender is gone.
            let _ = work.send((generation, position));
        }
    }

    /// Waits until everything handed over is written.
    pub(super) fn finish(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, queue: &Receiver<Work>) {
    while let Ok((generation, position)) = queue.recv() {
        if let Err(error) = write(&shared.index, shared, &generation, position) {
            // The log is whole; only the index cannot be kept. Appends stop, because the tail would grow without bound.
            tracing::error!(%error, "the stream index cannot be written, appends stop");
            shared.fail(&error.to_string());
        }
        shared.tail.thaw();
    }
}

pub(super) fn write(
    index: &Index,
    shared: &Shared,
    generation: &Generation,
    position: Position,
) -> Result<(), LogError> {
    index.write(generation, shared.epoch, position)?;
    for (stream, run) in &generation.streams {
        if let Some(position) = run.positions.last() {
            let version = run.first.plus(run.positions.len() as u64 - 1);
            shared.heads.insert(
                stream.clone(),
                annals_core::StreamHead {
                    version,
                    position: *position,
                },
            );
        }
    }
    Ok(())
}

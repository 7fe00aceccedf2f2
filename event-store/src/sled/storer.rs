//! The storer: one thread that puts what is durable in the journal into full blocks, and these into the volumes. The
//! log's sled databases are written and flushed by it alone.

use super::background::Pieces;
use super::blocks::GroupBlocks;
use super::shared::Shared;
use super::volumes::Volumes;
use super::watchdog::Place;
use annals_core::{Block, LogError, Position};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

/// About how many bytes are written to sled between two syncs.
const UNSYNCED_BYTES_MAX: usize = 256 * 1024;

/// Starts the storer of a log that is stored up to `stored`; it ends when `recent` is closed and all is stored.
pub(super) fn start(shared: Arc<Shared>, stored: Position) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("annals-storer".into())
        .spawn(move || {
            let run = catch_unwind(AssertUnwindSafe(|| run(&shared, stored)));
            let ended = run.unwrap_or_else(|_| Err(LogError::Storage("the storage engine panicked".into())));
            if let Err(error) = ended {
                tracing::error!(%error, "a volume cannot be written; what was acknowledged is in the journal, appends stop");
                shared.fail(&error.to_string());
            }
        })
}

fn run(shared: &Shared, stored: Position) -> Result<(), LogError> {
    let mut blocks = GroupBlocks::new(shared.epoch, shared.volumes.boot(), stored.next());
    let mut taken = stored;
    let each = shared.settings.store_bytes == 0;
    while let Some(task) = shared.recent.take(taken) {
        let mut full = Vec::new();
        for block in &task.blocks {
            blocks.add(&block.clip(taken, block.last())?)?;
            taken = block.last();
            full.append(&mut blocks.take(each));
        }
        full.append(&mut blocks.take(task.all));
        if let Some(last) = full.last().map(Block::last) {
            let volume_bytes_max = shared.settings.volume_bytes_max;
            shared.syncs.run(Place::Volume, None, || {
                let pieces = Pieces::begin();
                let moved_on = || {
                    pieces.done(task.all || shared.recent.waiting() >= shared.settings.store_bytes);
                    shared.syncs.moved_on(Place::Volume);
                };
                store(&shared.volumes, &blocks, &full, volume_bytes_max, &moved_on)
            })?;
            shared.recent.advance(last);
        }
    }
    Ok(())
}

/// Puts blocks into the current volume, syncs them, and rolls on to the next volume when it is full. `moved_on` is told
/// before each block: what takes long between two of them is the disk.
pub(super) fn store(
    volumes: &Volumes,
    group: &GroupBlocks,
    blocks: &[Block],
    volume_bytes_max: u64,
    moved_on: &dyn Fn(),
) -> Result<(), LogError> {
    let (epoch, boot) = group.epoch_and_boot();
    // The length of a volume's file counts what was synced: a small volume must be synced before it can be seen as full.
    let unsynced_max = UNSYNCED_BYTES_MAX.min(usize::try_from(volume_bytes_max).unwrap_or(usize::MAX));
    let mut unsynced = 0;
    for block in blocks {
        moved_on();
        let volume = volumes.current();
        for (key, frame) in GroupBlocks::frames(block, epoch, boot) {
            unsynced += frame.len();
            volume.insert(&key, frame)?;
            if unsynced > unsynced_max {
                volume.sync()?;
                unsynced = 0;
            }
        }
        if volume.file_len() >= volume_bytes_max {
            volume.sync()?;
            unsynced = 0;
            volumes.roll(block.last().next())?;
        }
    }
    if unsynced > 0 {
        volumes.current().sync()?;
    }
    Ok(())
}

//! Opening a log: find the durable head, drop what a crash left of an unfinished append, bring the index up to date.

use super::blocks::GroupBlocks;
use super::counters::Counters;
use super::index::Index;
use super::indexer::{self, Indexer};
use super::journal::{self, Journal};
use super::manifest::Manifest;
use super::present;
use super::queue::Queue;
use super::recent::Recent;
use super::recover;
use super::settings::{LogSettings, OpenError};
use super::shared::{BlockWeight, HEADS_MAX, Shared};
use super::storer;
use super::tail::Tail;
use super::turn::Desk;
use super::volume::{Volume, key};
use super::volumes::Volumes;
use super::watchdog::Syncs;
use super::writer;
use crate::data_dir::DataDir;
use crate::head::DurableHead;
use annals_core::{Block, Epoch, LogError, Position};
use quick_cache::sync::Cache;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

/// How many bytes of records are read at a time while the index catches up.
const CATCH_UP_BYTES: usize = 4 << 20;

/// A log that is open: what readers share, the writer, and its thread.
type Opened = (Arc<Shared>, Arc<Desk>, JoinHandle<()>);

pub(super) fn open(dir: &DataDir, settings: LogSettings) -> Result<Opened, OpenError> {
    let log_path = dir.log_path();
    let (mut manifest, secret) = Manifest::open(&log_path)?;
    present::check(&log_path, &mut manifest)?;
    let (epoch, starts, was_clean) = (manifest.epoch, manifest.volumes.clone(), manifest.clean);
    let left = if was_clean {
        journal::Left::default()
    } else {
        journal::recover(&log_path, epoch)?
    };
    let groups = &left.groups;
    let examined = recover::before_open(
        &log_path,
        &manifest,
        groups.first().map(Block::first),
        settings.probe.as_ref(),
    )?;
    left.check(examined.as_ref().map_or(Position::ZERO, |examined| examined.proven))?;
    let volumes = Volumes::open(&log_path, manifest, settings.volume_cache_bytes)?;
    if let Some(examined) = &examined {
        recover::insert_rescued(&log_path, examined, &volumes.current())?;
    }
    let stored = find_head(&volumes, epoch)?;
    let (head, last_recorded) = store_groups(&volumes, groups, epoch, stored, &settings)?;
    if let Some(examined) = &examined {
        examined.check_head(head)?;
    }
    if !was_clean && head > Position::ZERO {
        tracing::info!(
            head = head.get(),
            volumes = starts.len(),
            "the log was not closed in order; its end was checked"
        );
    }
    let index = open_index(&dir.index_path(), epoch, head, settings.index_cache_bytes)?;
    let name = dir.name().to_owned();
    let shared = Arc::new(Shared {
        own_source: format!("annals/{name}"),
        name,
        log_path,
        epoch,
        secret,
        head: DurableHead::at(head),
        volumes,
        tail: Tail::default(),
        index,
        heads: Cache::new(HEADS_MAX),
        blocks: Cache::with_weighter(4096, settings.block_cache_bytes, BlockWeight),
        recent: Recent::new(head, settings.store_bytes),
        queue: Queue::new(settings.queue_appends_max, settings.queue_bytes_max),
        counters: Counters::default(),
        syncs: Arc::new(Syncs::default()),
        fatal: OnceLock::new(),
        damage: OnceLock::new(),
        unindexed: OnceLock::new(),
        settings,
    });
    complete_index(&shared)?;
    let thread_failed = |error: std::io::Error| OpenError::storage(&shared.log_path, error);
    let indexer = Indexer::start(shared.clone()).map_err(thread_failed)?;
    let journal = Journal::open(&shared.log_path, shared.settings.journal_bytes).map_err(thread_failed)?;
    let storer = storer::start(shared.clone(), head).map_err(thread_failed)?;
    let writer = writer::start(shared.clone(), indexer, storer, journal, last_recorded);
    let (desk, thread) = writer.map_err(thread_failed)?;
    Ok((shared, desk, thread))
}

/// The last complete append's last position, and its recorded time. Incomplete appends at the end are removed: they
/// were never acknowledged.
fn find_head(volumes: &Volumes, epoch: Epoch) -> Result<(Position, i64), OpenError> {
    let current = volumes.current();
    let mut dropped = false;
    while let Some(key_bytes) = current.last_key()? {
        let first = Position::new(key_bytes.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes)));
        let incomplete_parts = key_bytes.len() > 8 || current.block_at(first).is_err();
        if incomplete_parts && current.is_torn(first)? {
            // One part at a time, until the block before it is the last.
            current.remove(&key_bytes)?;
            dropped = true;
            continue;
        }
        let missing = || LogError::Damaged {
            position: first,
            detail: "the last block cannot be read".into(),
        };
        let block = current.block_at(first)?.ok_or_else(missing)?;
        let (whole, recorded) = whole_appends(&block)?;
        if whole == block.last() {
            if dropped {
                current.sync()?;
            }
            return Ok((whole, recorded));
        }
        dropped = true;
        cut_block(&current, &block, whole, epoch, volumes.boot())?;
    }
    if dropped {
        current.sync()?;
    }
    // The volume is empty: the log ends where the one before it does.
    let before = current.first.previous();
    if before == Position::ZERO {
        return Ok((Position::ZERO, 0));
    }
    let (volume, _) = volumes.containing(before)?;
    let missing = || LogError::Damaged {
        position: before,
        detail: "the block that should hold it is missing".into(),
    };
    let block = volume.block_at(before)?.ok_or_else(missing)?;
    let (_, recorded) = whole_appends(&block)?;
    Ok((before, recorded))
}

/// Stores the groups of the journal that the volumes do not have; where the log ends then, and its last recorded time.
fn store_groups(
    volumes: &Volumes,
    groups: &[Block],
    epoch: Epoch,
    (head, recorded): (Position, i64),
    settings: &LogSettings,
) -> Result<(Position, i64), OpenError> {
    let missing: Vec<&Block> = groups.iter().filter(|group| group.last() > head).collect();
    let Some(last) = missing.last() else {
        return Ok((head, recorded));
    };
    let mut blocks = GroupBlocks::new(epoch, volumes.boot(), head.next());
    let mut next = head.next();
    for group in &missing {
        if group.first() > next {
            let detail = format!(
                "the volumes end before it, and the journal goes on at {}",
                group.first()
            );
            return Err(OpenError::Damaged { position: next, detail });
        }
        let group = group.clip(next.previous(), group.last()).map_err(LogError::from)?;
        blocks.add(&group).map_err(LogError::from)?;
        next = group.last().next();
    }
    let stored = blocks.take(true);
    storer::store(volumes, &blocks, &stored, settings.volume_bytes_max, &|| ())?;
    let (whole, recorded) = whole_appends(last)?;
    tracing::info!(
        from = head.next().get(),
        to = whole.get(),
        "stored what the journal held"
    );
    Ok((whole, recorded))
}

/// The last position of a block at which an append ends (the one before the block if none does), with its time.
fn whole_appends(block: &Block) -> Result<(Position, i64), OpenError> {
    let (mut whole, mut recorded) = (block.first().previous(), 0);
    for record in block.iter() {
        let record = record.map_err(LogError::from)?;
        if record.header.place.is_last() {
            (whole, recorded) = (record.position, record.header.recorded);
        }
    }
    Ok((whole, recorded))
}

fn cut_block(volume: &Volume, block: &Block, whole: Position, epoch: Epoch, boot: u64) -> Result<(), OpenError> {
    tracing::warn!(
        from = whole.next().get(),
        to = block.last().get(),
        "dropped what a crash left of an append that was never acknowledged"
    );
    volume.remove(&key(block.first()))?;
    if whole < block.first() {
        return Ok(());
    }
    let mut kept = GroupBlocks::new(epoch, boot, block.first());
    for record in block.iter().take(whole.since(block.first()) as usize + 1) {
        let record = record.map_err(LogError::from)?;
        kept.push(record.header_bytes, record.payload);
    }
    for (key, frame) in kept
        .take(true)
        .iter()
        .flat_map(|block| GroupBlocks::frames(block, epoch, boot))
    {
        volume.insert(&key, frame)?;
    }
    Ok(())
}

/// Opens the index; one that cannot be used is derived state and is built anew.
fn open_index(path: &Path, epoch: Epoch, head: Position, cache_bytes: u64) -> Result<Index, OpenError> {
    let usable = Index::open(path, cache_bytes).and_then(|index| Ok((index.checkpoint()?, index)));
    match usable {
        Ok((Some((found, position)), index)) if found == epoch => {
            // Only durable events are indexed: an index that knows more says that acknowledged events are gone.
            if position > head {
                let detail = format!("the log ends at {head}, but its index has read up to {position}");
                return Err(OpenError::Damaged {
                    position: head.next(),
                    detail,
                });
            }
            return Ok(index);
        }
        Ok((None, index)) if head == Position::ZERO => return Ok(index),
        Ok((None, _)) => tracing::warn!("there is no index; it is built anew"),
        Ok((checkpoint, _)) => tracing::warn!(?checkpoint, "the index is of another log; it is built anew"),
        Err(error) => tracing::warn!(%error, "the index cannot be used; it is built anew"),
    }
    if path.exists() {
        std::fs::remove_dir_all(path).map_err(|error| OpenError::storage(path, error))?;
    }
    Ok(Index::open(path, cache_bytes)?)
}

/// Has the index, with the tail, know all of the log. Of a damaged log only who reads does without.
fn complete_index(shared: &Shared) -> Result<(), OpenError> {
    match catch_up(shared) {
        // Who writes must know all streams and keys; who only reads is told what cannot be known.
        Err(OpenError::Damaged { position, detail }) if shared.settings.only_read => {
            let _ = shared.unindexed.set(LogError::Damaged { position, detail });
            // What was read of it must not be taken for all there is.
            drop(shared.tail.freeze());
            shared.tail.thaw();
            Ok(())
        }
        caught_up => caught_up,
    }
}

/// Reads into the tail what the index has not read yet, writing the index in batches when that is much.
fn catch_up(shared: &Shared) -> Result<(), OpenError> {
    let indexed = shared
        .index
        .checkpoint()?
        .map_or(Position::ZERO, |(_, position)| position);
    let head = shared.head.get();
    let mut after = indexed;
    while after < head {
        for block in shared.read(after, CATCH_UP_BYTES)? {
            for record in block.iter() {
                let record = record.map_err(LogError::from)?;
                shared.tail.adding().add(record.position, &record.header, None);
            }
            after = block.last();
        }
        let long = shared.tail.len() >= shared.settings.index_tail_max;
        if let Some(generation) = long.then(|| shared.tail.freeze()).flatten() {
            indexer::write(shared, &generation, after, &|| ())?;
            shared.tail.thaw();
            // A run that cannot be read is no reason not to open: whoever needs it is told, the rest is there.
            while shared.index.merge_once(&AtomicBool::new(false)).unwrap_or(false) {}
        }
    }
    Ok(())
}

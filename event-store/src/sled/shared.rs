//! What the writer, the indexer and the readers share, and how the log is read.

use super::counters::Counters;
use super::index::Index;
use super::queue::Queue;
use super::recent::Recent;
use super::settings::LogSettings;
use super::tail::{Run, Tail};
use super::volumes::Volumes;
use super::watchdog::Syncs;
use crate::event_ids::millis_of;
use crate::head::DurableHead;
use crate::secret::LogSecret;
use annals_core::{
    AppendError, Block, Direction, Epoch, EventId, LogError, Position, Record, StreamHead, StreamId, Version,
};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// How many streams' heads are kept in memory beyond the tail.
pub(super) const HEADS_MAX: usize = 100_000;

#[derive(Clone)]
pub(super) struct BlockWeight;

impl Weighter<u64, Block> for BlockWeight {
    fn weight(&self, _: &u64, block: &Block) -> u64 {
        block.bytes().len() as u64 + 64
    }
}

pub(super) struct Shared {
    pub(super) name: String,
    pub(super) own_source: String,
    pub(super) log_path: PathBuf,
    pub(super) epoch: Epoch,
    pub(super) secret: LogSecret,
    pub(super) settings: LogSettings,
    pub(super) head: DurableHead,
    pub(super) volumes: Volumes,
    pub(super) tail: Tail,
    pub(super) index: Index,
    /// Written by the indexer alone, so that no reader can put an older head over a newer one.
    pub(super) heads: Cache<Box<str>, StreamHead>,
    pub(super) blocks: Cache<u64, Block, BlockWeight>,
    /// The newest blocks, also those that no volume has yet.
    pub(super) recent: Recent,
    pub(super) queue: Queue,
    pub(super) counters: Counters,
    pub(super) syncs: Arc<Syncs>,
    pub(super) fatal: OnceLock<String>,
    /// What a read first found damaged.
    pub(super) damage: OnceLock<String>,
    /// Why there is no index of all of the log, if it is only read: what streams, keys and tags there are is not known.
    pub(super) unindexed: OnceLock<LogError>,
}

impl Shared {
    /// Makes the log refuse appends for good.
    pub(super) fn fail(&self, why: &str) {
        let why = self.fatal.get_or_init(|| why.to_owned());
        self.queue.abort(why);
        self.recent.fail();
    }

    /// An error while the disk has less space than is kept in reserve.
    pub(super) fn check_space(&self) -> Result<(), AppendError> {
        let (path, reserve) = (&self.log_path, self.settings.reserve_bytes);
        match rustix::fs::statvfs(path) {
            Ok(stat) if stat.f_bavail.saturating_mul(stat.f_frsize) < reserve => Err(AppendError::StorageFull {
                free: stat.f_bavail * stat.f_frsize,
                reserve,
            }),
            // A file system that does not say how full it is cannot be watched.
            _ => Ok(()),
        }
    }

    pub(super) fn read(&self, after: Position, bytes_max: usize) -> Result<Vec<Block>, LogError> {
        let head = self.head.get();
        let (mut blocks, mut bytes, mut last) = (Vec::new(), 0, after);
        while last < head && (bytes < bytes_max || blocks.is_empty()) {
            let mut recent = self.recent.read(last, head, bytes_max - bytes.min(bytes_max))?;
            if let Some(block) = recent.last() {
                last = block.last();
                bytes += recent.iter().map(|block| block.bytes().len()).sum::<usize>();
                blocks.append(&mut recent);
            } else {
                last = self.read_volume(last, bytes_max, &mut blocks, &mut bytes)?;
            }
        }
        Ok(blocks)
    }

    /// Reads what follows `after` from the volume that holds it; returns the last position read.
    fn read_volume(
        &self,
        after: Position,
        bytes_max: usize,
        blocks: &mut Vec<Block>,
        bytes: &mut usize,
    ) -> Result<Position, LogError> {
        // Asked after memory had nothing: what is not there any more is stored.
        let stored = self.recent.stored();
        let (volume, next) = self.volumes.containing(after.next())?;
        let end = next.map_or(stored, |next| stored.min(next.previous()));
        let mut last = after;
        for block in volume.scan(after.next())? {
            let block = block?.clip(last, end)?;
            if block.first() != last.next() || block.count() == 0 {
                break;
            }
            *bytes += block.bytes().len();
            last = block.last();
            blocks.push(block);
            if *bytes >= bytes_max || last >= end {
                return Ok(last);
            }
        }
        let detail = "the block that should hold it is missing".into();
        Err(LogError::Damaged {
            position: last.next(),
            detail,
        })
    }

    /// An error if the index is not of all of the log.
    pub(super) fn check_indexed(&self) -> Result<(), LogError> {
        self.unindexed.get().cloned().map_or(Ok(()), Err)
    }

    /// Waits until everything that is durable now is in the volumes, however little it is; the position up to which.
    pub(super) fn settle(&self) -> Result<Position, LogError> {
        let head = self.head.get();
        if self.recent.wait_stored(head) {
            return Ok(head);
        }
        let why = self.fatal.get().map_or("the storage failed", String::as_str);
        Err(LogError::Storage(why.to_owned()))
    }

    /// The block that holds a position, from the cache if it is there.
    fn block_holding(&self, position: Position) -> Result<Block, LogError> {
        if let Some(block) = self.recent.holding(position) {
            return Ok(block);
        }
        let (volume, _) = self.volumes.containing(position)?;
        let missing = || LogError::Damaged {
            position,
            detail: "the block that should hold it is missing".into(),
        };
        let start = volume.block_start(position)?.ok_or_else(missing)?;
        if let Some(block) = self.blocks.get(&start.get()).filter(|block| block.last() >= position) {
            return Ok(block);
        }
        let block = volume.block_at(position)?.ok_or_else(missing)?;
        self.blocks.insert(start.get(), block.clone());
        Ok(block)
    }

    pub(super) fn record(&self, position: Position) -> Result<Option<Record>, LogError> {
        if position == Position::ZERO || position > self.head.get() {
            return Ok(None);
        }
        self.records(&[position]).map(|records| records.into_iter().next())
    }

    /// The records at these positions, ascending.
    pub(super) fn records(&self, positions: &[Position]) -> Result<Vec<Record>, LogError> {
        let mut records = Vec::with_capacity(positions.len());
        let mut rest = positions;
        while let Some(&position) = rest.first() {
            let block = self.block_holding(position)?;
            let here = rest.partition_point(|position| *position <= block.last());
            let mut wanted = rest[..here].iter().copied().peekable();
            for record in block.records() {
                let record = record?;
                if wanted.next_if_eq(&record.position()).is_some() {
                    records.push(record);
                }
                if wanted.peek().is_none() {
                    break;
                }
            }
            rest = &rest[here..];
        }
        Ok(records)
    }

    /// Positions of a stream from version `from` on, at most `limit`, up to the durable head.
    fn stream_positions(&self, stream: &StreamId, from: Version, limit: usize) -> Result<Vec<Position>, LogError> {
        self.check_indexed()?;
        // The tail is looked at before the index: entries move from there to here, never back.
        let from = from.max(Version::new(1));
        let runs = self.tail.runs(stream, from);
        let indexed = match runs.first() {
            Some(run) if run.first <= from => Run {
                first: from,
                positions: Vec::new(),
            },
            _ => self.index.positions(stream, from, limit)?,
        };
        let (mut next, mut positions) = (from, Vec::new());
        let head = self.head.get();
        for run in std::iter::once(&indexed).chain(&runs) {
            if positions.len() >= limit {
                break;
            }
            if run.first > next {
                self.index.distrust();
                let detail = format!("the index of stream {stream} lacks version {next}");
                return Err(LogError::Storage(detail));
            }
            let new = run.positions.iter().skip(next.since(run.first) as usize);
            let before = positions.len();
            positions.extend(new.copied().take_while(|position| *position <= head));
            next = next.plus((positions.len() - before) as u64);
        }
        positions.truncate(limit);
        Ok(positions)
    }

    pub(super) fn read_stream(
        &self,
        stream: &StreamId,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Record>, LogError> {
        let (from, limit) = match direction {
            Direction::Forward => (from, limit),
            Direction::Backward => {
                let Some(head) = self.stream_head(stream)? else {
                    return Ok(Vec::new());
                };
                let end = from.min(head.version).get();
                let first = end.saturating_sub(limit as u64) + 1;
                (Version::new(first), (end + 1).saturating_sub(first) as usize)
            }
        };
        let mut records = self.records(&self.stream_positions(stream, from, limit)?)?;
        check_stream(&records, stream, from)?;
        if direction == Direction::Backward {
            records.reverse();
        }
        Ok(records)
    }

    pub(super) fn stream_head(&self, stream: &StreamId) -> Result<Option<StreamHead>, LogError> {
        self.head_up_to(stream, self.head.get())
    }

    /// The stream's head up to `limit`; the writer counts what is not durable yet.
    pub(super) fn head_up_to(&self, stream: &StreamId, limit: Position) -> Result<Option<StreamHead>, LogError> {
        self.check_indexed()?;
        if let Some(head) = self.tail.stream_head(stream, limit) {
            return Ok(Some(head));
        }
        match self.heads.get(stream.as_str()) {
            Some(head) => Ok(Some(head)),
            None => self.index.stream_head(stream),
        }
    }

    /// Finds an event with an id of ours by the millisecond in it: such ids need no index.
    pub(super) fn find_own(&self, id: &EventId) -> Result<Option<Position>, LogError> {
        let Some(millis) = millis_of(id) else { return Ok(None) };
        let mut after = self.position_at(millis * 1000 - 1)?;
        loop {
            let blocks = self.read(after, 1)?;
            let Some(block) = blocks.first() else { return Ok(None) };
            for record in block.iter() {
                let record = record?;
                if record.header.recorded >= (millis + 1) * 1000 {
                    return Ok(None);
                }
                if record.header.id.to_owned() == *id {
                    return Ok(Some(record.position));
                }
            }
            after = block.last();
        }
    }

    /// The last position recorded at or before a time in microseconds; recorded times never run backwards.
    pub(super) fn position_at(&self, micros: i64) -> Result<Position, LogError> {
        let (mut low, mut high) = (0, self.head.get().get());
        while low < high {
            let middle = low.midpoint(high) + 1;
            let position = Position::new(middle.min(high));
            let missing = || LogError::Damaged {
                position,
                detail: "the record is missing".into(),
            };
            let record = self.record(position)?.ok_or_else(missing)?;
            if record.view()?.header.recorded <= micros {
                low = position.get();
            } else {
                high = position.get() - 1;
            }
        }
        Ok(Position::new(low))
    }
}

/// The index says where a stream's events are; the records say whether that is true.
fn check_stream(records: &[Record], stream: &StreamId, from: Version) -> Result<(), LogError> {
    let mut expected = from.max(Version::new(1));
    for record in records {
        let view = record.view()?;
        if view.header.stream != stream.as_str() || view.header.version != expected.get() {
            let detail = format!("the index says {stream} version {expected} is here, the record is another one");
            return Err(LogError::Damaged {
                position: record.position(),
                detail,
            });
        }
        expected = expected.next();
    }
    Ok(())
}

//! A backup as a log to read. Streams, keys and ids are found by reading all of it: a backup has no index.

use super::{BackupError, BackupFile};
use annals_core::{
    Block, Direction, Epoch, EventId, EventLog, LogError, Position, Record, RecordRef, StreamHead, StreamId, Version,
};
use chrono::{DateTime, Utc};
use std::path::Path;
use std::time::Duration;

/// The log in a backup. It does not change any more.
#[derive(Debug)]
pub struct BackupLog {
    backup: BackupFile,
}

impl BackupLog {
    /// Opens a backup to be read as a log.
    pub fn open(path: &Path) -> Result<Self, BackupError> {
        BackupFile::open(path).map(|backup| Self { backup })
    }

    /// The backup.
    pub fn backup(&self) -> &BackupFile {
        &self.backup
    }

    /// Records for which `wanted` holds, in order, at most `limit`.
    fn find(&self, limit: usize, mut wanted: impl FnMut(&RecordRef<'_>) -> bool) -> Result<Vec<Record>, LogError> {
        let mut found = Vec::new();
        for number in 0..self.backup.file.blocks() {
            let Some(block) = self.backup.file.block(number)? else {
                break;
            };
            for record in block.records() {
                let record = record?;
                if found.len() < limit && wanted(&record.view()?) {
                    found.push(record);
                }
            }
            if found.len() >= limit {
                break;
            }
        }
        Ok(found)
    }

    fn first_position(&self, wanted: impl FnMut(&RecordRef<'_>) -> bool) -> Result<Option<Position>, LogError> {
        Ok(self.find(1, wanted)?.first().map(Record::position))
    }
}

impl EventLog for BackupLog {
    fn name(&self) -> &str {
        self.backup.name()
    }

    fn engine(&self) -> &'static str {
        "backup"
    }

    fn epoch(&self) -> Epoch {
        self.backup.about.epoch
    }

    fn head(&self) -> Position {
        self.backup.head()
    }

    fn wait_beyond(&self, _position: Position, _timeout: Duration) -> Position {
        // Waiting changes nothing: a backup does not grow.
        self.head()
    }

    fn read(&self, after: Position, bytes_max: usize) -> Result<Vec<Block>, LogError> {
        let file = &self.backup.file;
        let (mut blocks, mut bytes, mut last) = (Vec::new(), 0, after);
        let mut number = file.block_before(after.next()).unwrap_or(0);
        while last < self.head() && (bytes < bytes_max || blocks.is_empty()) {
            let block = file
                .block(number)?
                .map(|block| block.clip(last, self.head()))
                .transpose()?;
            let Some(block) = block.filter(|block| block.first() == last.next() && block.count() > 0) else {
                let detail = "the block that should hold it is missing".into();
                let position = last.next();
                return Err(LogError::Damaged { position, detail });
            };
            bytes += block.bytes().len();
            last = block.last();
            blocks.push(block);
            number += 1;
        }
        Ok(blocks)
    }

    fn read_stream(
        &self,
        stream: &StreamId,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Record>, LogError> {
        let of_stream = |record: &RecordRef<'_>| record.header.stream == stream.as_str();
        match direction {
            Direction::Forward => self.find(limit, |record| of_stream(record) && record.header.version >= from.get()),
            Direction::Backward => {
                let head = self.stream_head(stream)?.map_or(Version::ZERO, |head| head.version);
                let end = from.min(head).get();
                let begin = end.saturating_sub(limit as u64) + 1;
                let mut records = self.find(limit, |record| {
                    of_stream(record) && (begin..=end).contains(&record.header.version)
                })?;
                records.reverse();
                Ok(records)
            }
        }
    }

    fn stream_head(&self, stream: &StreamId) -> Result<Option<StreamHead>, LogError> {
        let mut head = None;
        self.find(1, |record| {
            if record.header.stream == stream.as_str() {
                head = Some(StreamHead {
                    version: Version::new(record.header.version),
                    position: record.position,
                });
            }
            false
        })?;
        Ok(head)
    }

    fn find_command(&self, stream: &StreamId, key: &str) -> Result<Option<Position>, LogError> {
        self.first_position(|record| record.header.stream == stream.as_str() && record.header.key == Some(key))
    }

    fn find_event(&self, id: &EventId) -> Result<Option<Position>, LogError> {
        self.first_position(|record| record.header.id.to_owned() == *id)
    }

    fn position_at(&self, time: DateTime<Utc>) -> Result<Position, LogError> {
        let (mut low, mut high) = (0, self.head().get());
        while low < high {
            let position = Position::new(low.midpoint(high) + 1);
            let missing = || LogError::Damaged {
                position,
                detail: "the record is missing".into(),
            };
            let record = self.read_one(position)?.ok_or_else(missing)?;
            if record.view()?.header.recorded <= time.timestamp_micros() {
                low = position.get();
            } else {
                high = position.get() - 1;
            }
        }
        Ok(Position::new(low))
    }
}

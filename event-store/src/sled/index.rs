//! The index on disk: derived from the log, in a sled database of its own, written in sorted batches with a checkpoint.
//!
//! Keys: `s` stream 0 version(BE) -> positions as varint differences, at most 64 in a chunk; `k` hash -> first position
//! of a command's events; `e` hashes -> position of an appended event; `i` hash -> first event with an id; `c` -> how
//! far the index has read. Lost or damaged, it is built anew from the log.

use super::tail::{AppendedHash, CommandHash, Generation, IdHash, Run};
use annals_core::{Epoch, LogError, Position, StreamHead, StreamId, Version};
use std::collections::BTreeMap;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Most positions in one chunk.
const CHUNK_MAX: usize = 64;
const CHECKPOINT: &[u8] = b"c";
/// Layout of the keys and chunks; another one means that the index is built anew.
const LAYOUT: u8 = 1;

pub(super) struct Index {
    db: sled::Db,
    file: File,
}

/// Kinds of entries that point from a hash to a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Command,
    Appended,
    Id,
}

impl Entry {
    const ALL: [Self; 3] = [Self::Command, Self::Appended, Self::Id];

    pub(super) const fn prefix(self) -> u8 {
        match self {
            Self::Command => b'k',
            Self::Appended => b'e',
            Self::Id => b'i',
        }
    }
}

fn storage(error: impl std::fmt::Display) -> LogError {
    LogError::Storage(format!(
        "the index: {error}; stop the server and delete the index directory to rebuild it"
    ))
}

fn prefix(stream: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(stream.len() + 10);
    key.push(b's');
    key.extend_from_slice(stream.as_bytes());
    key.push(0);
    key
}

fn chunk_key(stream: &str, first: Version) -> Vec<u8> {
    let mut key = prefix(stream);
    key.extend_from_slice(&first.get().to_be_bytes());
    key
}

fn entry_key(kind: Entry, hash: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(hash.len() + 1);
    key.push(kind.prefix());
    key.extend_from_slice(hash);
    key
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn encode_chunk(positions: &[Position]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + positions.len() * 2);
    let mut last = 0;
    for position in positions {
        put_varint(&mut out, position.get().wrapping_sub(last));
        last = position.get();
    }
    out
}

/// Positions of a chunk; bytes that are no varints end it.
pub(super) fn decode_chunk(bytes: &[u8]) -> Vec<Position> {
    let (mut out, mut last, mut number, mut shift) = (Vec::new(), 0u64, 0u64, 0u32);
    for byte in bytes {
        number |= u64::from(byte & 0x7f) << shift.min(63);
        shift += 7;
        if byte & 0x80 == 0 {
            last = last.wrapping_add(number);
            out.push(Position::new(last));
            (number, shift) = (0, 0);
        }
    }
    out
}

fn position_of(value: &[u8]) -> Position {
    Position::new(value.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes)))
}

impl Index {
    /// Opens the index. The error says that it cannot be used as it is, not that anything is lost.
    pub(super) fn open(path: &Path, cache_bytes: u64) -> Result<Self, LogError> {
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(cache_bytes)
            .flush_every_ms(None)
            .segment_size(2 << 20);
        let db = catch_unwind(AssertUnwindSafe(|| config.open())).map_err(|_| storage("its files are damaged"))?;
        let db = db.map_err(storage)?;
        let file = File::open(path.join("db")).map_err(storage)?;
        Ok(Self { db, file })
    }

    /// How far it has read; `None` if it was never written or with another layout.
    pub(super) fn checkpoint(&self) -> Result<Option<(Epoch, Position)>, LogError> {
        let value = self.db.get(CHECKPOINT).map_err(storage)?;
        Ok(value.and_then(|value| {
            let (layout, rest) = value.split_first()?;
            let (epoch, position) = rest.split_first_chunk::<16>()?;
            (*layout == LAYOUT).then(|| (Epoch::from_bytes(*epoch), position_of(position)))
        }))
    }

    /// Adds a generation; everything up to `position` is then indexed. The checkpoint counts only when the rest is
    /// synced.
    pub(super) fn write(&self, generation: &Generation, epoch: Epoch, position: Position) -> Result<(), LogError> {
        let mut streams: Vec<_> = generation.streams.iter().collect();
        streams.sort_unstable_by_key(|(stream, _)| *stream);
        for (stream, run) in streams {
            self.add_run(stream, run)?;
        }
        self.add_entries(
            Entry::Command,
            generation.commands.iter().map(|(k, v)| (k.as_slice(), *v)).collect(),
        )?;
        self.add_entries(
            Entry::Appended,
            generation.appended.iter().map(|(k, v)| (k.as_slice(), *v)).collect(),
        )?;
        self.add_ids(generation)?;
        self.sync()?;
        let mut checkpoint = vec![LAYOUT];
        checkpoint.extend_from_slice(epoch.as_bytes());
        checkpoint.extend_from_slice(&position.get().to_be_bytes());
        self.db.insert(CHECKPOINT, checkpoint).map_err(storage)?;
        self.sync()
    }

    fn sync(&self) -> Result<(), LogError> {
        self.db.flush().map_err(storage)?;
        self.file.sync_data().map_err(storage)
    }

    fn add_run(&self, stream: &str, run: &Run) -> Result<(), LogError> {
        let (mut first, mut positions) = (run.first, run.positions.as_slice());
        // After a crash between data and checkpoint some chunks of this run may stand there, and others not.
        while let Some((later, _)) = self.last_chunk(stream)?.filter(|(later, _)| *later >= first) {
            self.db.remove(chunk_key(stream, later)).map_err(storage)?;
        }
        // Fills the last chunk first; it may hold the beginning of this run already.
        if let Some((chunk_first, mut chunk)) = self.last_chunk(stream)? {
            chunk.truncate(first.since(chunk_first) as usize);
            let room = CHUNK_MAX.saturating_sub(chunk.len()).min(positions.len());
            if room > 0 && chunk_first.plus(chunk.len() as u64) == first {
                chunk.extend_from_slice(&positions[..room]);
                self.db
                    .insert(chunk_key(stream, chunk_first), encode_chunk(&chunk))
                    .map_err(storage)?;
                first = first.plus(room as u64);
                positions = &positions[room..];
            }
        }
        for chunk in positions.chunks(CHUNK_MAX) {
            self.db
                .insert(chunk_key(stream, first), encode_chunk(chunk))
                .map_err(storage)?;
            first = first.plus(chunk.len() as u64);
        }
        Ok(())
    }

    fn add_entries(&self, kind: Entry, mut entries: Vec<(&[u8], Position)>) -> Result<(), LogError> {
        entries.sort_unstable();
        for (hash, position) in entries {
            self.db
                .insert(entry_key(kind, hash), &position.get().to_be_bytes())
                .map_err(storage)?;
        }
        Ok(())
    }

    fn add_ids(&self, generation: &Generation) -> Result<(), LogError> {
        let ids: BTreeMap<_, _> = generation.ids.iter().collect();
        for (hash, position) in ids {
            // Of several events with one id the first in the log is the one to be found.
            if self.entry(Entry::Id, hash)?.is_none() {
                self.db
                    .insert(entry_key(Entry::Id, hash), &position.get().to_be_bytes())
                    .map_err(storage)?;
            }
        }
        Ok(())
    }

    fn last_chunk(&self, stream: &str) -> Result<Option<(Version, Vec<Position>)>, LogError> {
        self.chunk_before(stream, Version::new(u64::MAX))
    }

    /// The last chunk of a stream that begins before `version`.
    fn chunk_before(&self, stream: &str, version: Version) -> Result<Option<(Version, Vec<Position>)>, LogError> {
        let prefix = prefix(stream);
        let found = self.db.get_lt(chunk_key(stream, version)).map_err(storage)?;
        Ok(found.and_then(|(key, value)| {
            let first = key.strip_prefix(prefix.as_slice())?.first_chunk()?;
            Some((Version::new(u64::from_be_bytes(*first)), decode_chunk(&value)))
        }))
    }

    /// Where a stream ends, as far as the index knows.
    pub(super) fn stream_head(&self, stream: &StreamId) -> Result<Option<StreamHead>, LogError> {
        let chunk = self.last_chunk(stream.as_str())?;
        Ok(chunk.and_then(|(first, positions)| {
            let position = *positions.last()?;
            Some(StreamHead {
                version: first.plus(positions.len() as u64 - 1),
                position,
            })
        }))
    }

    /// Positions of a stream from version `from` on, at most about `limit`; the run begins at `from` or is empty.
    pub(super) fn positions(&self, stream: &StreamId, from: Version, limit: usize) -> Result<Run, LogError> {
        let from = from.max(Version::new(1));
        let mut run = Run {
            first: from,
            positions: Vec::new(),
        };
        let Some((mut first, mut chunk)) = self.chunk_before(stream.as_str(), from.next())? else {
            return Ok(run);
        };
        let prefix = prefix(stream.as_str());
        let mut later = self.db.range(chunk_key(stream.as_str(), first.next())..);
        loop {
            let skip = from.since(first) as usize;
            run.positions.extend(chunk.into_iter().skip(skip));
            if run.positions.len() >= limit {
                break;
            }
            let Some(entry) = later.next() else { break };
            let (key, value) = entry.map_err(storage)?;
            let Some(next) = key.strip_prefix(prefix.as_slice()).and_then(|rest| rest.first_chunk()) else {
                break;
            };
            first = Version::new(u64::from_be_bytes(*next));
            chunk = decode_chunk(&value);
        }
        Ok(run)
    }

    fn entry(&self, kind: Entry, hash: &[u8]) -> Result<Option<Position>, LogError> {
        let value = self.db.get(entry_key(kind, hash)).map_err(storage)?;
        Ok(value.map(|value| position_of(&value)))
    }

    pub(super) fn command(&self, hash: &CommandHash) -> Result<Option<Position>, LogError> {
        self.entry(Entry::Command, hash)
    }

    pub(super) fn appended(&self, hash: &AppendedHash) -> Result<Option<Position>, LogError> {
        self.entry(Entry::Appended, hash)
    }

    pub(super) fn id(&self, hash: &IdHash) -> Result<Option<Position>, LogError> {
        self.entry(Entry::Id, hash)
    }

    /// All chunks in order: stream, version of the first, positions. For verification.
    pub(super) fn chunks(&self) -> impl Iterator<Item = Result<(String, Version, Vec<Position>), LogError>> {
        self.db.scan_prefix(b"s").map(|entry| {
            let (key, value) = entry.map_err(storage)?;
            let parts = key.get(1..).and_then(|rest| rest.split_last_chunk::<8>());
            let (stream, first) = parts.ok_or_else(|| storage("a key without a version"))?;
            let stream = String::from_utf8_lossy(stream.strip_suffix(&[0]).unwrap_or(stream)).into_owned();
            Ok((stream, Version::new(u64::from_be_bytes(*first)), decode_chunk(&value)))
        })
    }

    /// All entries of every kind: kind, hash, position. For verification.
    pub(super) fn entries(&self) -> impl Iterator<Item = Result<(Entry, Vec<u8>, Position), LogError>> {
        Entry::ALL.into_iter().flat_map(|kind| {
            self.db.scan_prefix([kind.prefix()]).map(move |entry| {
                let (key, value) = entry.map_err(storage)?;
                Ok((kind, key.get(1..).unwrap_or_default().to_vec(), position_of(&value)))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_comes_back_as_it_was_written() {
        let positions: Vec<_> = [1, 2, 300, 70_000, 1 << 40].map(Position::new).to_vec();
        assert_eq!(decode_chunk(&encode_chunk(&positions)), positions);
        assert!(decode_chunk(&[0xff, 0xff]).is_empty());
    }

    #[test]
    fn runs_written_twice_or_in_pieces_read_as_one() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(dir.path(), 1 << 20).unwrap();
        let stream = StreamId::new("a", "b").unwrap();
        let run = |first: u64, count: u64| Run {
            first: Version::new(first),
            positions: (first..first + count)
                .map(|version| Position::new(version * 10))
                .collect(),
        };
        for (first, count) in [(1, 3), (4, 200), (204, 1), (203, 2), (205, 100)] {
            index.add_run("a/b", &run(first, count)).unwrap();
        }
        index.add_run("a/bc", &run(1, 7)).unwrap();
        assert_eq!(
            index.positions(&stream, Version::new(1), usize::MAX).unwrap(),
            run(1, 304)
        );
        assert_eq!(
            index.positions(&stream, Version::new(100), 5).unwrap().positions[..5],
            run(100, 5).positions[..]
        );
        assert_eq!(index.stream_head(&stream).unwrap().unwrap().version.get(), 304);
        assert!(
            index
                .positions(&stream, Version::new(305), 5)
                .unwrap()
                .positions
                .is_empty()
        );
    }
}

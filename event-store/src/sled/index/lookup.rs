//! Look-ups: which runs may have a key is asked of their filters, so that a key that is nowhere costs no block.

use super::block::{Entries, STREAM};
use super::filter::key_hash;
use super::run::{BlockCache, Run, storage};
use super::{Entry, Index, key};
use crate::sled::tail;
use annals_core::{LogError, Position, StreamHead, StreamId, Version};

impl Index {
    /// Where a stream ends, as far as the index knows.
    pub(in crate::sled) fn stream_head(&self, stream: &StreamId) -> Result<Option<StreamHead>, LogError> {
        let key = key(STREAM, stream.as_str().as_bytes());
        let hash = key_hash(&key);
        for run in self.runs().iter().rev() {
            let mut head = None;
            self.noticed(run.each(&key, hash, u64::MAX, &self.cache, |entry| {
                head = entry.positions.last().map(|position| StreamHead {
                    version: Version::new(entry.order).plus(entry.positions.len() as u64 - 1),
                    position: Position::new(*position),
                });
                true
            }))?;
            if head.is_some() {
                return Ok(head);
            }
        }
        Ok(None)
    }

    /// Positions of a stream from version `from` on, at most about `limit`; the run begins at `from` or is empty.
    pub(in crate::sled) fn positions(
        &self,
        stream: &StreamId,
        from: Version,
        limit: usize,
    ) -> Result<tail::Run, LogError> {
        let from = from.max(Version::new(1));
        let key = key(STREAM, stream.as_str().as_bytes());
        let hash = key_hash(&key);
        let mut found = tail::Run {
            first: from,
            positions: Vec::new(),
        };
        let mut lacking = None;
        for run in self.runs().iter() {
            let read = run.each(&key, hash, from.get(), &self.cache, |entry| {
                let next = found.first.get() + found.positions.len() as u64;
                if entry.order > next {
                    lacking = Some(next);
                    return false;
                }
                let skip = usize::try_from(next - entry.order).unwrap_or(usize::MAX);
                let new = entry.positions.iter().skip(skip).copied().map(Position::new);
                found.positions.extend(new);
                found.positions.len() < limit
            });
            self.noticed(read)?;
            if let Some(version) = lacking {
                return self.noticed(Err(storage(format!("stream {stream} lacks version {version}"))));
            }
            if found.positions.len() >= limit {
                break;
            }
        }
        Ok(found)
    }

    /// Positions of a key after a position, ascending, at most `limit`.
    pub(in crate::sled) fn postings(
        &self,
        kind: u8,
        name: &[u8],
        after: Position,
        limit: usize,
    ) -> Result<Vec<Position>, LogError> {
        let key = key(kind, name);
        let hash = key_hash(&key);
        let mut found = Vec::new();
        for run in self.runs().iter().filter(|run| run.footer.last > after) {
            let read = run.each(&key, hash, after.get(), &self.cache, |entry| {
                let start = entry.positions.partition_point(|position| *position <= after.get());
                let new = entry.positions[start..].iter().take(limit - found.len());
                found.extend(new.copied().map(Position::new));
                found.len() < limit
            });
            self.noticed(read)?;
            if found.len() >= limit {
                break;
            }
        }
        Ok(found)
    }

    /// Positions that may have this hash, after a position, ascending, at most `limit`: hashes are short, the records say
    /// which of them is meant.
    pub(in crate::sled) fn candidates(
        &self,
        kind: Entry,
        hash: &[u8],
        after: Position,
        limit: usize,
    ) -> Result<Vec<Position>, LogError> {
        self.postings(kind.prefix(), hash, after, limit)
    }
}

impl Run {
    /// Goes through the entries of a key, from the last one at or before `order` on, until told to stop.
    fn each(
        &self,
        key: &[u8],
        hash: u64,
        order: u64,
        cache: &BlockCache,
        mut each: impl FnMut(&Entries) -> bool,
    ) -> Result<(), LogError> {
        if !self.may_have(hash, cache)? {
            return Ok(());
        }
        for block in self.find(key, order)..self.block_count() {
            let mut entries = self.block(block, Some(cache))?;
            while entries.next_key()? {
                match entries.key.as_slice().cmp(key) {
                    std::cmp::Ordering::Less => continue,
                    std::cmp::Ordering::Equal => entries.read_rest()?,
                    std::cmp::Ordering::Greater => return Ok(()),
                }
                if !each(&entries) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

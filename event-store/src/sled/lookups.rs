//! Finding events by what they are called: commands by their keys, events by their ids and tags. First in the un-indexed
//! tail, then in the index, whose hashes are short: the record decides.

use super::index::Entry;
use super::names::{Name, appended_name, command_name, id_name, short};
use super::shared::Shared;
use annals_core::{EventId, LogError, Position, RecordRef, StreamId};

/// How many records a short hash is checked against at a time; more than one is a rare accident.
const CANDIDATES: usize = 16;

impl Shared {
    pub(super) fn find_command(&self, stream: &StreamId, key: &str) -> Result<Option<Position>, LogError> {
        self.find_named_command(&command_name(stream.as_str(), key), stream, key)
    }

    /// As [`Shared::find_command`], for who has the command's name already.
    pub(super) fn find_named_command(
        &self,
        name: &Name,
        stream: &StreamId,
        key: &str,
    ) -> Result<Option<Position>, LogError> {
        self.check_indexed()?;
        if let Some(position) = self.tail.command(name) {
            return Ok(Some(position));
        }
        self.confirmed(Entry::Command, &short(name), |record| {
            record.header.stream == stream.as_str() && record.header.key == Some(key)
        })
    }

    pub(super) fn find_appended(
        &self,
        stream: &StreamId,
        source: &str,
        id: &EventId,
    ) -> Result<Option<Position>, LogError> {
        self.check_indexed()?;
        let name = appended_name(id, stream.as_str(), source);
        if let Some(position) = self.tail.appended(&name) {
            return Ok(Some(position));
        }
        self.confirmed(Entry::Appended, &short(&name), |record| {
            let header = &record.header;
            header.stream == stream.as_str() && header.source == Some(source) && header.id.to_owned() == *id
        })
    }

    pub(super) fn find_event(&self, id: &EventId) -> Result<Option<Position>, LogError> {
        self.check_indexed()?;
        let name = id_name(id);
        let in_tail = self.tail.id(&name);
        let indexed = self.confirmed(Entry::Id, &short(&name), |record| record.header.id.to_owned() == *id)?;
        let came_with = indexed.or(in_tail).filter(|position| *position <= self.head.get());
        let ours = self.find_own(id)?;
        Ok(match (came_with, ours) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        })
    }

    /// The first of the positions that the index has for a hash whose record is the one that is meant.
    fn confirmed(
        &self,
        kind: Entry,
        hash: &[u8],
        is_meant: impl Fn(&RecordRef<'_>) -> bool,
    ) -> Result<Option<Position>, LogError> {
        let mut after = Position::ZERO;
        loop {
            let candidates = self.index.candidates(kind, hash, after, CANDIDATES)?;
            for position in &candidates {
                let record = self.record(*position)?;
                let meant = record.as_ref().map(|record| record.view().map(|view| is_meant(&view)));
                if meant.transpose()? == Some(true) {
                    return Ok(Some(*position));
                }
            }
            match candidates.last() {
                Some(last) if candidates.len() == CANDIDATES => after = *last,
                _ => return Ok(None),
            }
        }
    }

    /// Positions of the events with a tag after a position, ascending, at most `limit`, up to `head`.
    pub(super) fn tag_positions(
        &self,
        tag: &str,
        after: Position,
        limit: usize,
        head: Position,
    ) -> Result<Vec<Position>, LogError> {
        self.check_indexed()?;
        // The tail is looked at before the index: entries move from there to here, never back.
        let tail = self.tail.tagged(tag, after);
        let mut positions = self.index.postings(b't', tag.as_bytes(), after, limit)?;
        for position in tail {
            if positions.last().is_none_or(|last| *last < position) {
                positions.push(position);
            }
        }
        positions.truncate(limit);
        positions.retain(|position| *position <= head);
        Ok(positions)
    }
}

//! Checks records as they pass by: no gap, versions of every stream from 1, times that never run backwards, whole appends.

use annals_core::{LogError, PlaceInAppend, Position, RecordRef};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// Takes records from position 1 on, in order; the first that does not fit is the error.
#[derive(Default)]
pub(crate) struct Checker {
    last: Position,
    recorded: i64,
    place: Option<PlaceInAppend>,
    /// Last version of each stream, under two hashes of its name: names would take several times the memory.
    versions: HashMap<(u64, u64), u64>,
    hashers: [RandomState; 2],
}

impl Checker {
    /// Position of the last record that was checked.
    pub(crate) fn last(&self) -> Position {
        self.last
    }

    /// Checks the next record.
    pub(crate) fn record(&mut self, record: &RecordRef<'_>) -> Result<(), LogError> {
        let (position, header) = (record.position, &record.header);
        let damaged = |position, detail: String| Err(LogError::Damaged { position, detail });
        if position != self.last.next() {
            return damaged(self.last.next(), "the event is missing".into());
        }
        let [one, other] = &self.hashers;
        let stream = (one.hash_one(header.stream), other.hash_one(header.stream));
        let version = self.versions.entry(stream).or_default();
        if header.version != *version + 1 {
            let detail = format!(
                "stream {} goes from version {version} to {}",
                header.stream, header.version
            );
            return damaged(position, detail);
        }
        *version = header.version;
        if header.recorded < self.recorded {
            return damaged(
                position,
                "its recorded time is before that of the event before it".into(),
            );
        }
        let place = header.place;
        let follows = match self.place {
            Some(before) if !before.is_last() => place.index == before.index + 1 && place.count == before.count,
            _ => place.index == 1,
        };
        if !follows {
            let detail = format!("event {} of {} of its append is out of place", place.index, place.count);
            return damaged(position, detail);
        }
        (self.last, self.recorded, self.place) = (position, header.recorded, Some(place));
        Ok(())
    }

    /// An error unless everything up to `head` was seen, and the last append is whole.
    pub(crate) fn finish(&self, head: Position) -> Result<(), LogError> {
        let whole = self.place.is_none_or(|place| place.is_last());
        if self.last == head && whole {
            return Ok(());
        }
        let (position, detail) = if whole {
            (self.last.next(), format!("the events up to {head} are missing"))
        } else {
            (self.last, "its append is not whole".to_owned())
        };
        Err(LogError::Damaged { position, detail })
    }
}

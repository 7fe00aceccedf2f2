//! Rows and lists as of a position, and the versions of a row: what stands now, and what was replaced, put together.

use super::layout::{
    PAST_INDEX, PAST_ROW, index_key, past_of_index, past_of_rows, past_row_key, past_rows_prefix, position,
    read_index_key, read_past_index_key, read_past_row_key, read_row_key, row_key,
};
use super::lsm::Entries;
use super::rows::{Checkpoint, RowReader, RowStore, StoredRow, stored_row};
use super::{Batch, Bytes, KeyRange, Scan, StoreError};
use annals_core::Position;
use std::cmp::Ordering;
use std::ops::Bound;

/// Entries that a page looks at, of which most may not have held at its position; it then ends early.
const LOOKED_AT_MAX: usize = 20_000;

/// The stretches of keys in which entries stand that have ended.
const PAST: [u8; 2] = [PAST_ROW, PAST_INDEX];

impl RowStore {
    /// Drops what ended at the horizon in the checkpoint or before, of so many entries behind `after`. Returns where to
    /// go on, or none at the end.
    pub(crate) fn forget_past(
        &self,
        checkpoint: &Checkpoint,
        after: Option<&Bytes>,
        most: usize,
    ) -> Result<Option<Bytes>, StoreError> {
        let horizon = checkpoint.history.unwrap_or(Position::ZERO);
        let begin = after.and_then(|key| key.first()).copied().unwrap_or(PAST[0]);
        let (mut batch, mut looked_at, mut last) = (Batch::default(), 0, None);
        let reader = self.reader();
        for kind in PAST.into_iter().filter(|kind| *kind >= begin) {
            let low = match after {
                Some(after) if after.first() == Some(&kind) => Bound::Excluded(after.clone()),
                _ => Bound::Included(vec![kind]),
            };
            let range = (low, Bound::Excluded(vec![kind + 1]));
            reader.scan(range, &mut |key, value| {
                let to = value.first_chunk().map(|to| Position::new(u64::from_be_bytes(*to)));
                let to = to.ok_or_else(|| StoreError::Damaged("an end of a version is missing".into()))?;
                if to <= horizon {
                    batch.remove(key.to_vec());
                }
                looked_at += 1;
                if looked_at < most {
                    return Ok(Scan::Go);
                }
                last = Some(key.to_vec());
                Ok(Scan::Stop)
            })?;
            if last.is_some() {
                break;
            }
        }
        drop(reader);
        if !batch.changes.is_empty() {
            self.commit_stored(&[], checkpoint, batch)?;
        }
        Ok(last)
    }
}

/// What became of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scanned {
    /// It went to the end, or was stopped by who is handed the entries.
    Whole,
    /// It looked at too much: it can be gone on with behind this row or entry.
    Cut(Bytes),
}

/// A version of a row, or a stretch in which there was none.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Version {
    /// The event that made it.
    pub(crate) from: Position,
    /// The event that ended it; `None` if it still holds.
    pub(crate) to: Option<Position>,
    /// `None`: deleted.
    pub(crate) row: Option<Bytes>,
}

/// Is handed the row's key and the row.
pub(crate) type VisitPast<'a> = dyn FnMut(&str, StoredRow) -> Result<Scan, StoreError> + 'a;
/// Is handed the value in the index and the row's key.
pub(crate) type VisitPastEntry<'a> = dyn FnMut(&[u8], &str) -> Result<Scan, StoreError> + 'a;

impl RowReader<'_> {
    /// The row as it was after the event at `at`.
    pub(crate) fn row_as_of(&self, key: &str, at: Position) -> Result<Option<StoredRow>, StoreError> {
        match self.row(key)? {
            Some(row) if row.from <= at => Ok(Some(row)),
            _ => self.past_row(key, at),
        }
    }

    /// A replaced version that held at a position.
    fn past_row(&self, key: &str, at: Position) -> Result<Option<StoredRow>, StoreError> {
        let range = (
            Bound::Included(past_rows_prefix(key)),
            Bound::Included(past_row_key(key, at)),
        );
        let Some((version_key, value)) = self.entries(range, true)?.next()? else {
            return Ok(None);
        };
        let (_, from) = past_key(&version_key)?;
        let StoredRow { from: to, row } = stored_row(&value)?;
        Ok((to > at).then_some(StoredRow { from, row }))
    }

    fn entries(&self, range: KeyRange, backwards: bool) -> Result<Entries, StoreError> {
        self.store.entries(range, self.moment.end(), backwards)
    }

    /// Hands rows as they were at a position to `visit`, in the order of their keys or backwards.
    pub(crate) fn scan_rows_as_of(
        &self,
        range: KeyRange,
        backwards: bool,
        at: Position,
        visit: &mut VisitPast<'_>,
    ) -> Result<Scanned, StoreError> {
        let mut past_range = past_of_rows(&range);
        let mut rows = self.entries(range, backwards)?;
        let (mut row, mut past) = (next_row(&mut rows)?, self.next_past_key(&past_range, backwards)?);
        for looked_at in 1.. {
            let order = match (&row, &past) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((key, _)), Some(past)) if backwards => past.cmp(key),
                (Some((key, _)), Some(past)) => key.cmp(past),
            };
            let current = if order.is_le() { row.take() } else { None };
            let replaced = if order.is_ge() { past.take() } else { None };
            let key = replaced
                .clone()
                .or_else(|| current.as_ref().map(|(key, _)| key.clone()));
            let Some(key) = key else { break };
            let held = match current {
                Some((_, row)) if row.from <= at => Some(row),
                _ if replaced.is_some() => self.past_row(&key, at)?,
                _ => None,
            };
            if let Some(held) = held
                && visit(&key, held)? == Scan::Stop
            {
                break;
            }
            if looked_at >= LOOKED_AT_MAX {
                return Ok(Scanned::Cut(row_key(&key)));
            }
            if order.is_le() {
                row = next_row(&mut rows)?;
            }
            if order.is_ge() {
                if backwards {
                    past_range.1 = Bound::Excluded(past_rows_prefix(&key));
                } else {
                    past_range.0 = Bound::Excluded(past_row_key(&key, Position::new(u64::MAX)));
                }
                past = self.next_past_key(&past_range, backwards)?;
            }
        }
        Ok(Scanned::Whole)
    }

    /// The first key in a stretch that has replaced versions.
    fn next_past_key(&self, range: &KeyRange, backwards: bool) -> Result<Option<String>, StoreError> {
        match self.entries(range.clone(), backwards)?.next()? {
            Some((key, _)) => Ok(Some(past_key(&key)?.0)),
            None => Ok(None),
        }
    }

    /// Hands index entries as they were at a position to `visit`, in the order of the index or backwards.
    pub(crate) fn scan_index_as_of(
        &self,
        index: u16,
        range: KeyRange,
        backwards: bool,
        at: Position,
        visit: &mut VisitPastEntry<'_>,
    ) -> Result<Scanned, StoreError> {
        let mut past_entries = self.entries(past_of_index(&range), backwards)?;
        let mut entries = self.entries(range, backwards)?;
        let mut now = next_entry(&mut entries)?;
        let mut past = next_past_entry(&mut past_entries)?;
        let mut last: Option<Entry> = None;
        for looked_at in 1.. {
            let first_is_now = match (&now, &past) {
                (None, None) => break,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some(now), Some(past)) if backwards => now.place() >= past.place(),
                (Some(now), Some(past)) => now.place() <= past.place(),
            };
            let next = if first_is_now {
                std::mem::replace(&mut now, next_entry(&mut entries)?)
            } else {
                std::mem::replace(&mut past, next_past_entry(&mut past_entries)?)
            };
            let Some(entry) = next else { break };
            // Entries of one value and key are not parted, because a page goes on behind a value and key.
            if let Some(last) = last.filter(|last| looked_at > LOOKED_AT_MAX && last.place() != entry.place()) {
                return Ok(Scanned::Cut(index_key(index, &last.value, &last.key)));
            }
            let held = entry.from <= at && entry.to.is_none_or(|to| to > at);
            if held && visit(&entry.value, &entry.key)? == Scan::Stop {
                break;
            }
            last = Some(entry);
        }
        Ok(Scanned::Whole)
    }

    /// Hands the versions of a row, and the times in between when there was none, to `visit`, the newest first or the
    /// oldest; with `beyond` only those that come behind what began there, in that order.
    pub(crate) fn versions(
        &self,
        key: &str,
        newest_first: bool,
        beyond: Option<Position>,
        visit: &mut dyn FnMut(Version) -> Scan,
    ) -> Result<(), StoreError> {
        if newest_first {
            self.versions_down(key, beyond, visit)
        } else {
            self.versions_up(key, beyond, visit)
        }
    }

    fn versions_down(
        &self,
        key: &str,
        beyond: Option<Position>,
        visit: &mut dyn FnMut(Version) -> Scan,
    ) -> Result<(), StoreError> {
        let high = match beyond {
            Some(beyond) => Bound::Excluded(past_row_key(key, beyond)),
            None => Bound::Included(past_row_key(key, Position::new(u64::MAX))),
        };
        let mut past = self.entries((Bound::Included(past_rows_prefix(key)), high), true)?;
        let mut newer = beyond;
        if let Some(row) = self
            .row(key)?
            .filter(|row| beyond.is_none_or(|beyond| row.from < beyond))
        {
            newer = Some(row.from);
            if visit(current(row)) == Scan::Stop {
                return Ok(());
            }
        }
        while let Some(entry) = past.next()? {
            let version = replaced(&entry)?;
            let gap = version.to.filter(|to| newer != Some(*to)).map(|to| no_row(to, newer));
            newer = Some(version.from);
            for version in gap.into_iter().chain([version]) {
                if visit(version) == Scan::Stop {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn versions_up(
        &self,
        key: &str,
        beyond: Option<Position>,
        visit: &mut dyn FnMut(Version) -> Scan,
    ) -> Result<(), StoreError> {
        let low = past_row_key(key, beyond.unwrap_or(Position::ZERO));
        let high = past_row_key(key, Position::new(u64::MAX));
        let mut past = self.entries((Bound::Included(low), Bound::Included(high)), false)?;
        let mut row = self.row(key)?;
        let mut ended: Option<Position> = None;
        loop {
            let next = match past.next()? {
                Some(entry) => Some(replaced(&entry)?),
                None => row.take().map(current),
            };
            let began = next.as_ref().map(|next| next.from);
            let gap = ended
                .filter(|ended| began != Some(*ended))
                .map(|ended| no_row(ended, began));
            let last = next.is_none();
            ended = next.as_ref().and_then(|next| next.to);
            for version in gap.into_iter().chain(next) {
                let wanted = beyond.is_none_or(|beyond| version.from > beyond);
                if wanted && visit(version) == Scan::Stop {
                    return Ok(());
                }
            }
            if last {
                return Ok(());
            }
        }
    }
}

fn current(row: StoredRow) -> Version {
    Version {
        from: row.from,
        to: None,
        row: Some(row.row),
    }
}

fn no_row(from: Position, to: Option<Position>) -> Version {
    Version { from, to, row: None }
}

fn replaced((key, value): &(Bytes, Bytes)) -> Result<Version, StoreError> {
    let (_, from) = past_key(key)?;
    let StoredRow { from: to, row } = stored_row(value)?;
    Ok(Version {
        from,
        to: Some(to),
        row: Some(row),
    })
}

fn past_key(key: &[u8]) -> Result<(String, Position), StoreError> {
    read_past_row_key(key).ok_or_else(|| StoreError::Damaged("a key that is no row version's".into()))
}

fn next_row(rows: &mut Entries) -> Result<Option<(String, StoredRow)>, StoreError> {
    let Some((key, value)) = rows.next()? else {
        return Ok(None);
    };
    let key = read_row_key(&key).ok_or_else(|| StoreError::Damaged("a key that is no row's".into()))?;
    Ok(Some((key, stored_row(&value)?)))
}

/// An index entry, current or replaced.
struct Entry {
    value: Bytes,
    key: String,
    from: Position,
    to: Option<Position>,
}

impl Entry {
    fn place(&self) -> (&[u8], &str) {
        (&self.value, &self.key)
    }
}

fn next_entry(entries: &mut Entries) -> Result<Option<Entry>, StoreError> {
    let Some((entry, from)) = entries.next()? else {
        return Ok(None);
    };
    let read = || {
        let (value, key) = read_index_key(&entry)?;
        Some(Entry {
            value: value.to_vec(),
            key: key.to_owned(),
            from: position(&from)?,
            to: None,
        })
    };
    read().map(Some).ok_or_else(no_entry)
}

fn next_past_entry(entries: &mut Entries) -> Result<Option<Entry>, StoreError> {
    let Some((entry, to)) = entries.next()? else {
        return Ok(None);
    };
    let read = || {
        let (value, key, from) = read_past_index_key(&entry)?;
        Some(Entry {
            value: value.to_vec(),
            key,
            from,
            to: Some(position(&to)?),
        })
    };
    read().map(Some).ok_or_else(no_entry)
}

fn no_entry() -> StoreError {
    StoreError::Damaged("a key that is no index entry's".into())
}

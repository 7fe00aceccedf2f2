//! Dead letters in a store, written in one batch with the rows and the checkpoint that they belong to.
//!
//! | key | value |
//! | --- | --- |
//! | `d`, `l`, key of the row | the letter |
//! | `d`, `s` | the letter of the event that the view stopped at |
//! | `d`, `w`, length of the key (u16 BE), key of the row, position (u64 BE) | nothing: the event waits for its key |
//!
//! Letters are MessagePack.

use super::rows::RowStore;
use super::{Batch, Bytes, KeyRange, Scan, StoreError};
use annals_core::Position;
use serde::{Deserialize, Serialize};
use std::ops::Bound;

const LETTER: &[u8] = b"dl";
const STOPPED: &[u8] = b"ds";
const WAITING: &[u8] = b"dw";

/// An event that failed, with the key that waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Letter {
    /// Key of the row; none if the event's keys are not known.
    pub(crate) key: Option<String>,
    pub(crate) position: Position,
    pub(crate) event_id: String,
    pub(crate) event_type: String,
    pub(crate) stream: String,
    pub(crate) error: String,
    pub(crate) attempts: u32,
    /// Microseconds since 1970.
    pub(crate) first_failed: i64,
    pub(crate) last_failed: i64,
    /// Events of the key that wait, this one among them.
    pub(crate) waiting: u64,
}

/// What changes about the letters of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LetterChange {
    /// A parked key, new or tried again.
    Put(Letter),
    /// The key is live again.
    Remove(String),
    /// An event of a parked key waits.
    Wait(String, Position),
    /// It waits no longer.
    Waited(String, Position),
    /// The event that the view stopped at; none once it goes on.
    Stopped(Option<Letter>),
}

impl RowStore {
    /// The letters of parked keys, and that of the event the view stopped at.
    pub(crate) fn letters(&self) -> Result<(Vec<Letter>, Option<Letter>), StoreError> {
        let mut letters = Vec::new();
        let reader = self.reader();
        reader.scan(all(LETTER), &mut |_, value| {
            letters.push(read(value)?);
            Ok(Scan::Go)
        })?;
        let stopped = reader.get(STOPPED)?;
        let stopped = stopped.map(|value| read(&value)).transpose()?;
        Ok((letters, stopped))
    }

    /// The first events that wait for a key, at most `limit`, in the order of the log.
    pub(crate) fn waiting(&self, key: &str, limit: usize) -> Result<Vec<Position>, StoreError> {
        let prefix = waiting_prefix(key);
        let mut positions = Vec::new();
        self.reader().scan(all(&prefix), &mut |entry, _| {
            let position = entry
                .strip_prefix(prefix.as_slice())
                .and_then(|rest| rest.first_chunk());
            let position = position.ok_or_else(|| StoreError::Damaged("a key that is no waiting event's".into()))?;
            positions.push(Position::new(u64::from_be_bytes(*position)));
            Ok(if positions.len() < limit { Scan::Go } else { Scan::Stop })
        })?;
        Ok(positions)
    }
}

pub(super) fn batch(letters: &[LetterChange]) -> Result<Batch, StoreError> {
    let mut batch = Batch::default();
    for change in letters {
        match change {
            LetterChange::Put(letter) => {
                let key = letter_key(letter.key.as_deref().unwrap_or_default());
                batch.put(key, written(letter)?);
            }
            LetterChange::Remove(key) => batch.remove(letter_key(key)),
            LetterChange::Wait(key, position) => batch.put(waiting_key(key, *position), Vec::new()),
            LetterChange::Waited(key, position) => batch.remove(waiting_key(key, *position)),
            LetterChange::Stopped(Some(letter)) => batch.put(STOPPED.to_vec(), written(letter)?),
            LetterChange::Stopped(None) => batch.remove(STOPPED.to_vec()),
        }
    }
    Ok(batch)
}

fn written(letter: &Letter) -> Result<Bytes, StoreError> {
    rmp_serde::to_vec_named(letter)
        .map_err(|error| StoreError::Failed(format!("a dead letter cannot be encoded: {error}")))
}

fn read(value: &[u8]) -> Result<Letter, StoreError> {
    rmp_serde::from_slice(value).map_err(|error| StoreError::Damaged(format!("a dead letter cannot be read: {error}")))
}

fn letter_key(key: &str) -> Bytes {
    [LETTER, key.as_bytes()].concat()
}

fn waiting_prefix(key: &str) -> Bytes {
    // Keys have at most 1,024 bytes.
    let len = (key.len() as u16).to_be_bytes();
    [WAITING, &len, key.as_bytes()].concat()
}

fn waiting_key(key: &str, position: Position) -> Bytes {
    let mut bytes = waiting_prefix(key);
    bytes.extend_from_slice(&position.get().to_be_bytes());
    bytes
}

/// Everything that begins with a prefix whose last byte is not the highest there is.
fn all(prefix: &[u8]) -> KeyRange {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    (Bound::Included(prefix.to_vec()), Bound::Excluded(end))
}

#[cfg(test)]
mod tests {
    use super::super::{Checkpoint, STORE_FORMAT, Stores, Written};
    use super::*;
    use crate::ProjectionSettings;
    use annals_core::Epoch;

    fn letter(key: &str) -> Letter {
        Letter {
            key: Some(key.into()),
            position: Position::new(3),
            event_id: "e".into(),
            event_type: "T".into(),
            stream: "s/1".into(),
            error: "no".into(),
            attempts: 1,
            first_failed: 1,
            last_failed: 2,
            waiting: 1,
        }
    }

    #[test]
    fn what_waits_for_a_key_is_not_mixed_up_with_what_waits_for_a_longer_one() {
        let dir = tempfile::tempdir().unwrap();
        let rows = Stores::new(&ProjectionSettings::new("", ""))
            .create(dir.path())
            .unwrap();
        let checkpoint = Checkpoint {
            format: STORE_FORMAT,
            epoch: Epoch::from_bytes([1; 16]),
            position: Position::new(900),
            fingerprint: "f".into(),
            rows: 0,
            history: None,
            outbox: None,
        };
        let wait = |key: &str, position| LetterChange::Wait(key.into(), Position::new(position));
        let written = [
            LetterChange::Put(letter("a")),
            LetterChange::Put(letter("ab")),
            wait("a", 900),
            wait("ab", 4),
            wait("a", 7),
            wait("\u{10FFFF}", 5),
            LetterChange::Stopped(Some(letter("z"))),
        ];
        let letters = |letters| Written {
            letters,
            ..Written::default()
        };
        rows.commit_all(letters(&written), &checkpoint).unwrap();
        let positions = |key, limit| -> Vec<u64> {
            let waiting = rows.waiting(key, limit).unwrap();
            waiting.into_iter().map(Position::get).collect()
        };
        assert_eq!(positions("a", 9), [7, 900]);
        assert_eq!(positions("a", 1), [7]);
        assert_eq!(positions("ab", 9), [4]);
        assert_eq!(positions("\u{10FFFF}", 9), [5]);
        assert_eq!(
            rows.letters().unwrap(),
            (vec![letter("a"), letter("ab")], Some(letter("z")))
        );
        let removed = [
            LetterChange::Remove("a".into()),
            LetterChange::Waited("a".into(), Position::new(7)),
            LetterChange::Stopped(None),
        ];
        rows.commit_all(letters(&removed), &checkpoint).unwrap();
        assert_eq!(positions("a", 9), [900]);
        assert_eq!(rows.letters().unwrap(), (vec![letter("ab")], None));
    }
}

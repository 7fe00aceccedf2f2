//! Which keys and values a view or reactor keeps in its store, byte by byte.
//!
//! | key | value |
//! | --- | --- |
//! | `c` | the checkpoint |
//! | `r`, key escaped | the row's `from` position (u64 BE), the row |
//! | `i`, number of the index (u16 BE), index value, key | with history: the entry's `from` (u64 BE) |
//! | `h`, key escaped, `from` of the version (u64 BE) | its `to` (u64 BE), the row as it was |
//! | `j`, number of the index (u16 BE), index value, key escaped, `from` of the entry (u64 BE) | its `to` (u64 BE) |
//!
//! A version or entry holds from the position `from` on, that one included, and up to `to`, which is not. The versions of
//! a row lie beside each other. The engine keeps a checksum over each block of keys and values, so they have none of
//! their own.
//!
//! Escaped: byte 00 becomes 00 FF, and 00 01 ends it, so that escaped texts are ordered as the texts are.

use super::{Bytes, KeyRange, StoreError};
use annals_core::{INDEX_TEXT_LEN_MAX, IndexValue, Position};
use std::ops::Bound;

const CHECKPOINT: u8 = b'c';
const ROW: u8 = b'r';
const INDEX: u8 = b'i';
pub(super) const PAST_ROW: u8 = b'h';
pub(super) const PAST_INDEX: u8 = b'j';

/// Key of the checkpoint.
pub(crate) fn checkpoint_key() -> Bytes {
    vec![CHECKPOINT]
}

/// Key of a row.
pub(crate) fn row_key(key: &str) -> Bytes {
    let mut bytes = Vec::with_capacity(key.len() + 3);
    bytes.push(ROW);
    escape(key.as_bytes(), &mut bytes);
    bytes
}

/// The row's key in a key that [`row_key`] made.
pub(crate) fn read_row_key(bytes: &[u8]) -> Option<String> {
    let (key, rest) = unescape(bytes.strip_prefix(&[ROW])?)?;
    rest.is_empty().then_some(())?;
    String::from_utf8(key).ok()
}

/// Key of an index entry.
pub(crate) fn index_key(index: u16, value: &[u8], key: &str) -> Bytes {
    let mut bytes = Vec::with_capacity(3 + value.len() + key.len());
    bytes.push(INDEX);
    bytes.extend_from_slice(&index.to_be_bytes());
    bytes.extend_from_slice(value);
    bytes.extend_from_slice(key.as_bytes());
    bytes
}

/// The value and the row's key in a key that [`index_key`] made.
pub(crate) fn read_index_key(bytes: &[u8]) -> Option<(&[u8], &str)> {
    let rest = bytes.strip_prefix(&[INDEX])?.get(2..)?;
    let (value, key) = rest.split_at_checked(value_len(rest)?)?;
    Some((value, std::str::from_utf8(key).ok()?))
}

/// How many bytes the index value has that these begin with.
fn value_len(bytes: &[u8]) -> Option<usize> {
    match *bytes.first()? {
        BOOL => Some(2),
        NUMBER => Some(17),
        TEXT => Some(bytes.len() - unescape(&bytes[1..])?.1.len()),
        _ => None,
    }
}

/// Key of a version of a row that was replaced.
pub(crate) fn past_row_key(key: &str, from: Position) -> Bytes {
    let mut bytes = past_rows_prefix(key);
    bytes.extend_from_slice(&from.get().to_be_bytes());
    bytes
}

/// What the keys of all replaced versions of a row begin with.
pub(crate) fn past_rows_prefix(key: &str) -> Bytes {
    let mut bytes = Vec::with_capacity(key.len() + 11);
    bytes.push(PAST_ROW);
    escape(key.as_bytes(), &mut bytes);
    bytes
}

/// The row's key and the `from` in a key that [`past_row_key`] made.
pub(crate) fn read_past_row_key(bytes: &[u8]) -> Option<(String, Position)> {
    let (key, from) = unescape(bytes.strip_prefix(&[PAST_ROW])?)?;
    Some((String::from_utf8(key).ok()?, position(from)?))
}

/// Key of an index entry that was replaced.
pub(crate) fn past_index_key(index: u16, value: &[u8], key: &str, from: Position) -> Bytes {
    let mut bytes = past_index_prefix(index, value, key);
    bytes.extend_from_slice(&from.get().to_be_bytes());
    bytes
}

fn past_index_prefix(index: u16, value: &[u8], key: &str) -> Bytes {
    let mut bytes = index_key(index, value, "");
    bytes[0] = PAST_INDEX;
    escape(key.as_bytes(), &mut bytes);
    bytes
}

/// The value, the row's key and the `from` in a key that [`past_index_key`] made.
pub(crate) fn read_past_index_key(bytes: &[u8]) -> Option<(&[u8], String, Position)> {
    let rest = bytes.strip_prefix(&[PAST_INDEX])?.get(2..)?;
    let (value, rest) = rest.split_at_checked(value_len(rest)?)?;
    let (key, from) = unescape(rest)?;
    Some((value, String::from_utf8(key).ok()?, position(from)?))
}

/// The value that is a position alone.
pub(crate) fn position_value(position: Position) -> Bytes {
    position.get().to_be_bytes().to_vec()
}

/// A position that stands alone.
pub(crate) fn position(bytes: &[u8]) -> Option<Position> {
    Some(Position::new(u64::from_be_bytes(bytes.try_into().ok()?)))
}

/// The same stretch of keys among the versions of rows that were replaced.
pub(crate) fn past_of_rows((low, high): &KeyRange) -> KeyRange {
    let of = |key: &Bytes| {
        let mut key = key.clone();
        key[0] = key[0] - ROW + PAST_ROW;
        key
    };
    (past_low(low, of), past_high(high, of))
}

/// The same stretch of an index among the entries that were replaced.
pub(crate) fn past_of_index((low, high): &KeyRange) -> KeyRange {
    let of = |entry: &Bytes| match read_index_key(entry) {
        Some((value, key)) if !key.is_empty() => {
            let index = u16::from_be_bytes([entry[1], entry[2]]);
            past_index_prefix(index, value, key)
        }
        _ => {
            let mut entry = entry.clone();
            entry[0] = entry[0] - INDEX + PAST_INDEX;
            entry
        }
    };
    (past_low(low, of), past_high(high, of))
}

/// Behind all versions of the key that is left out.
fn past_low(low: &Bound<Bytes>, of: impl Fn(&Bytes) -> Bytes) -> Bound<Bytes> {
    match low {
        Bound::Included(key) => Bound::Included(of(key)),
        Bound::Excluded(key) => {
            let mut key = of(key);
            key.extend_from_slice(&[u8::MAX; 8]);
            Bound::Excluded(key)
        }
        Bound::Unbounded => Bound::Unbounded,
    }
}

fn past_high(high: &Bound<Bytes>, of: impl Fn(&Bytes) -> Bytes) -> Bound<Bytes> {
    match high {
        Bound::Included(key) | Bound::Excluded(key) => Bound::Excluded(of(key)),
        Bound::Unbounded => Bound::Unbounded,
    }
}

/// All rows.
pub(crate) fn all_rows() -> KeyRange {
    (Bound::Included(vec![ROW]), Bound::Excluded(vec![ROW + 1]))
}

/// Entries of an index from one value to another, both included.
pub(crate) fn index_range(index: u16, from: Option<&IndexValue>, to: Option<&IndexValue>) -> KeyRange {
    let prefix = |value: Option<&IndexValue>| index_key(index, &value.map(index_value).unwrap_or_default(), "");
    let low = Bound::Included(prefix(from));
    // The end of what begins with the prefix: values end by themselves, so nothing else begins with it.
    let high = after_prefix(prefix(to));
    (low, high)
}

fn after_prefix(mut prefix: Bytes) -> Bound<Bytes> {
    while let Some(last) = prefix.pop() {
        if last < u8::MAX {
            prefix.push(last + 1);
            return Bound::Excluded(prefix);
        }
    }
    Bound::Unbounded
}

const BOOL: u8 = 1;
const NUMBER: u8 = 2;
const TEXT: u8 = 3;

/// Whether an index value may stand for several values, because it was cut.
pub(crate) fn is_cut(value: &[u8]) -> bool {
    // A character has at most four bytes.
    value.first() == Some(&TEXT) && value.len() > INDEX_TEXT_LEN_MAX - 4
}

/// An index value in bytes that are ordered as the values are. Long texts are cut, at a whole character.
pub(crate) fn index_value(value: &IndexValue) -> Bytes {
    match value {
        IndexValue::Bool(value) => vec![BOOL, u8::from(*value)],
        IndexValue::Number(number) => {
            let mut bytes = vec![NUMBER];
            // With the sign bit flipped, negative numbers come before positive ones.
            bytes.extend_from_slice(&(*number ^ i128::MIN).to_be_bytes());
            bytes
        }
        IndexValue::Text(text) => {
            let mut bytes = vec![TEXT];
            escape(
                &text.as_bytes()[..text.floor_char_boundary(INDEX_TEXT_LEN_MAX)],
                &mut bytes,
            );
            bytes
        }
    }
}

fn escape(text: &[u8], out: &mut Bytes) {
    for &byte in text {
        out.push(byte);
        if byte == 0 {
            out.push(0xFF);
        }
    }
    out.extend_from_slice(&[0, 1]);
}

fn unescape(bytes: &[u8]) -> Option<(Bytes, &[u8])> {
    let mut text = Vec::with_capacity(bytes.len());
    let mut at = 0;
    loop {
        match (*bytes.get(at)?, bytes.get(at + 1)) {
            (0, Some(0xFF)) => {
                text.push(0);
                at += 2;
            }
            (0, Some(1)) => return Some((text, &bytes[at + 2..])),
            (0, _) => return None,
            (byte, _) => {
                text.push(byte);
                at += 1;
            }
        }
    }
}

/// The value of a row.
pub(crate) fn row_value(from: Position, row: &[u8]) -> Bytes {
    let mut value = Vec::with_capacity(8 + row.len());
    value.extend_from_slice(&from.get().to_be_bytes());
    value.extend_from_slice(row);
    value
}

/// The position of the last event in a row, and the row, in a value that [`row_value`] made.
pub(crate) fn read_row_value(value: &[u8]) -> Result<(Position, &[u8]), StoreError> {
    match value.split_first_chunk::<8>() {
        Some((from, row)) => Ok((Position::new(u64::from_be_bytes(*from)), row)),
        None => Err(StoreError::Damaged("a row's value is too short".into())),
    }
}

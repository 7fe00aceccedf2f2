//! Which keys and values a view or reactor keeps in its store, byte by byte.
//!
//! | key | value |
//! | --- | --- |
//! | `c` | the checkpoint |
//! | `r`, key escaped, chunk number (u16 BE) | row chunk |
//! | `i`, number of the index (u16 BE), index value, key | nothing |
//!
//! Every value begins with a CRC-32C over its key and the rest of it, so that neither an altered value nor one that
//! stands under another key is taken for true. A row chunk goes on with the row's `from` position (u64 BE), the length
//! of the whole row (u32 BE), then at most [`CHUNK_LEN_MAX`] bytes of the row. Prefix `h` is kept free for row versions
//! that were replaced (`[from, to)`), which is why every row knows its `from`.
//!
//! Escaped: byte 00 becomes 00 FF, and 00 01 ends it, so that escaped texts are ordered as the texts are.

use super::{Bytes, KeyRange, StoreError};
use annals_core::{INDEX_TEXT_LEN_MAX, IndexValue, Position};
use std::ops::Bound;

/// Most bytes of a row under one key. With about 20 values in a leaf, no leaf comes near the size from which the
/// engine would put it into a file of its own.
pub(crate) const CHUNK_LEN_MAX: usize = 16 * 1024;

const CHECKPOINT: u8 = b'c';
const ROW: u8 = b'r';
const INDEX: u8 = b'i';
const CRC_LEN: usize = 4;
const CHUNK_HEADER_LEN: usize = 8 + 4;

/// Key of the checkpoint.
pub(crate) fn checkpoint_key() -> Bytes {
    vec![CHECKPOINT]
}

/// Key of one chunk of a row.
pub(crate) fn chunk_key(key: &str, chunk: u16) -> Bytes {
    let mut bytes = Vec::with_capacity(key.len() + 5);
    bytes.push(ROW);
    escape(key.as_bytes(), &mut bytes);
    bytes.extend_from_slice(&chunk.to_be_bytes());
    bytes
}

/// The row's key and the chunk's number in a key that [`chunk_key`] made.
pub(crate) fn read_chunk_key(bytes: &[u8]) -> Option<(String, u16)> {
    let (escaped, chunk) = bytes.strip_prefix(&[ROW])?.split_last_chunk::<2>()?;
    let (key, rest) = unescape(escaped)?;
    rest.is_empty().then_some(())?;
    Some((String::from_utf8(key).ok()?, u16::from_be_bytes(*chunk)))
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
    let value_len = match *rest.first()? {
        BOOL => 2,
        NUMBER => 17,
        TEXT => rest.len() - unescape(&rest[1..])?.1.len(),
        _ => return None,
    };
    let (value, key) = rest.split_at_checked(value_len)?;
    Some((value, std::str::from_utf8(key).ok()?))
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

/// A value with its checksum in front.
pub(crate) fn seal(key: &[u8], body: &[u8]) -> Bytes {
    let mut value = Vec::with_capacity(CRC_LEN + body.len());
    value.extend_from_slice(&crc(key, body).to_be_bytes());
    value.extend_from_slice(body);
    value
}

/// The body of a value that [`seal`] made, if it is what was written under this key.
pub(crate) fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], StoreError> {
    match value.split_first_chunk::<CRC_LEN>() {
        Some((sum, body)) if u32::from_be_bytes(*sum) == crc(key, body) => Ok(body),
        _ => Err(StoreError::Damaged("the checksum does not match".into())),
    }
}

fn crc(key: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), body)
}

/// How many chunks a row of this length has; an empty one has one, too.
pub(crate) fn chunk_count(row_len: usize) -> u16 {
    // Bounded: rows are at most 16 MiB unless set otherwise, which is 1,024 chunks.
    u16::try_from(row_len.div_ceil(CHUNK_LEN_MAX).max(1)).unwrap_or(u16::MAX)
}

/// The values of a row, one for each chunk.
pub(crate) fn row_chunks(key: &str, from: Position, row: &[u8]) -> impl Iterator<Item = (Bytes, Bytes)> {
    let row_len = row.len() as u32;
    (0..chunk_count(row.len())).map(move |number| {
        let start = usize::from(number) * CHUNK_LEN_MAX;
        let part = &row[start..row.len().min(start + CHUNK_LEN_MAX)];
        let mut body = Vec::with_capacity(CHUNK_HEADER_LEN + part.len());
        body.extend_from_slice(&from.get().to_be_bytes());
        body.extend_from_slice(&row_len.to_be_bytes());
        body.extend_from_slice(part);
        let chunk_key = chunk_key(key, number);
        let value = seal(&chunk_key, &body);
        (chunk_key, value)
    })
}

/// One chunk of a row as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk<'a> {
    pub(crate) from: Position,
    pub(crate) row_len: usize,
    pub(crate) part: &'a [u8],
}

/// Reads a chunk that stands under this key.
pub(crate) fn read_chunk<'a>(chunk_key: &[u8], value: &'a [u8]) -> Result<Chunk<'a>, StoreError> {
    let short = || StoreError::Damaged("a row's value is too short".into());
    let body = unseal(chunk_key, value)?;
    let (from, rest) = body.split_first_chunk::<8>().ok_or_else(short)?;
    let (row_len, part) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    Ok(Chunk {
        from: Position::new(u64::from_be_bytes(*from)),
        row_len: u32::from_be_bytes(*row_len) as usize,
        part,
    })
}

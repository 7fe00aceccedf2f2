//! Cursors: where a page ended, as opaque text. Keyset, so that pages neither repeat nor skip rows that stay in place.

use super::types::QueryError;
use crate::store::KeyRange;
use annals_core::Position;
use std::fmt::Write as _;
use std::ops::Bound;

/// Longest cursor in characters: key and index value at their longest, escaped, in base 16.
const CURSOR_LEN_MAX: usize = 2 * 2 * (1_024 + 512 + 16);

/// What the cursor of a list that runs down begins with; no digit of base 16.
const DOWN: char = 'z';

/// The key in the store after which a list goes on.
pub(super) struct Cursor;

impl Cursor {
    /// The cursor of a page that ended with this key. After a page as of a position the next one is as of there, too.
    pub(super) fn text(key: &[u8], backwards: bool, at: Option<Position>) -> String {
        let mut text = if backwards { String::from(DOWN) } else { String::new() };
        if let Some(at) = at {
            let _ = write!(text, "{:x}-", at.get());
        }
        for byte in key {
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// The position that a cursor speaks of, if it is of a page as of one, and what is left of the cursor. One of a list
    /// that runs the other way is refused.
    pub(super) fn split(cursor: &str, backwards: bool) -> Result<(Option<Position>, &str), QueryError> {
        let rest = cursor.strip_prefix(DOWN);
        if rest.is_some() != backwards {
            return Err(QueryError::BadCursor);
        }
        let cursor = rest.unwrap_or(cursor);
        match cursor.split_once('-') {
            None => Ok((None, cursor)),
            Some((at, key)) => match u64::from_str_radix(at, 16) {
                Ok(at) => Ok((Some(Position::new(at)), key)),
                Err(_) => Err(QueryError::BadCursor),
            },
        }
    }

    /// What is left of a range after a cursor. One that does not lie in the range is not of this list.
    pub(super) fn narrow(range: KeyRange, cursor: Option<&str>, backwards: bool) -> Result<KeyRange, QueryError> {
        let Some(text) = cursor else {
            return Ok(range);
        };
        let key = read(text).ok_or(QueryError::BadCursor)?;
        let (low, high) = range;
        let after_low = match &low {
            Bound::Included(low) => key >= *low,
            Bound::Excluded(low) => key > *low,
            Bound::Unbounded => true,
        };
        let before_high = match &high {
            Bound::Included(high) => key <= *high,
            Bound::Excluded(high) => key < *high,
            Bound::Unbounded => true,
        };
        if !after_low || !before_high {
            return Err(QueryError::BadCursor);
        }
        Ok(if backwards {
            (low, Bound::Excluded(key))
        } else {
            (Bound::Excluded(key), high)
        })
    }
}

fn read(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() || text.len() > CURSOR_LEN_MAX || !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect()
}

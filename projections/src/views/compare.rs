//! Compares the rows of two stores as of one position, row by row in the order of their keys, and by field where they
//! differ.

use crate::store::layout::{all_rows, row_key};
use crate::store::{RowReader, Scan, StoreError, StoredRow};
use annals_core::Position;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;

/// Differences that a comparison names.
const DIFFERENCES_SHOWN: usize = 10;
/// Fields that it names of each.
const FIELDS_SHOWN: usize = 10;
/// Longest value of a field that is shown whole, as JSON in bytes.
const VALUE_BYTES_MAX: usize = 300;
/// Rows, and bytes of rows, that are held of each side.
const PAGE_ROWS: usize = 512;
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Old rows and new rows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Comparison {
    /// Up to where the log was read on both sides.
    #[serde(serialize_with = "as_text")]
    pub position: Position,
    /// Why there was nothing to compare with: the old store is missing or cannot be read.
    pub unreadable: Option<String>,
    /// Rows that are the same in both.
    pub same: u64,
    /// Rows that only the old store has.
    pub only_old: u64,
    /// Rows that only the new store has.
    pub only_new: u64,
    /// Rows that both have, with different bytes.
    pub differing: u64,
    /// The first ten that are not the same, in the order of their keys.
    pub first: Vec<Difference>,
}

impl Comparison {
    /// Whether old and new are the same.
    pub fn is_same(&self) -> bool {
        self.unreadable.is_none() && self.only_old + self.only_new + self.differing == 0
    }
}

/// A row that is not the same in the old and the new store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The row's key.
    pub key: String,
    /// What differs.
    pub kind: DifferenceKind,
    /// Position of the last event in the old row.
    #[serde(serialize_with = "as_texts")]
    pub old_from: Option<Position>,
    /// Position of the last event in the new row.
    #[serde(serialize_with = "as_texts")]
    pub new_from: Option<Position>,
    /// The first ten fields that differ, if both have the row.
    pub fields: Vec<FieldDifference>,
}

/// A field that is not the same in the old and the new row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldDifference {
    /// Its name; what lies within others is separated by dots.
    pub field: String,
    /// What the old row has; long values are cut.
    pub old: Option<Value>,
    /// What the new row has.
    pub new: Option<Value>,
}

/// How a row differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DifferenceKind {
    /// Only the old store has it.
    OnlyOld,
    /// Only the new store has it.
    OnlyNew,
    /// Both have it, with different bytes.
    Differs,
}

/// JSON has no 64-bit integers.
fn as_text<S: Serializer>(position: &Position, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(position)
}

#[expect(clippy::ref_option, reason = "as serde calls it")]
fn as_texts<S: Serializer>(position: &Option<Position>, serializer: S) -> Result<S::Ok, S::Error> {
    position.map(|position| position.to_string()).serialize(serializer)
}

/// Nothing could be compared, and why.
pub(super) fn unreadable(why: String) -> Comparison {
    Comparison {
        unreadable: Some(why),
        ..Comparison::default()
    }
}

/// Goes through both sides at once. `go_on` is asked now and then; `None` if it said no.
pub(super) fn compare(
    old: &RowReader<'_>,
    new: &RowReader<'_>,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Option<Comparison>, StoreError> {
    let mut comparison = Comparison {
        position: new.position(),
        ..Comparison::default()
    };
    let (mut left, mut right) = (Rows::of(old), Rows::of(new));
    let mut rows = 0_usize;
    loop {
        if rows.is_multiple_of(PAGE_ROWS) && !go_on() {
            return Ok(None);
        }
        rows += 1;
        let before = match left.peek() {
            Ok(key) => key,
            Err(error) => return Ok(Some(unreadable(format!("the old rows cannot be read: {error}")))),
        };
        let now = right.peek()?;
        let (takes_old, takes_new) = match (before, now) {
            (None, None) => return Ok(Some(comparison)),
            (Some(before), Some(now)) => (before <= now, now <= before),
            (before, now) => (before.is_some(), now.is_some()),
        };
        let old = if takes_old { left.next() } else { None };
        let new = if takes_new { right.next() } else { None };
        note(&mut comparison, old, new);
    }
}

fn note(comparison: &mut Comparison, old: Option<(String, StoredRow)>, new: Option<(String, StoredRow)>) {
    let kind = match (&old, &new) {
        (Some(old), Some(new)) if old == new => {
            comparison.same += 1;
            return;
        }
        (Some(_), Some(_)) => {
            comparison.differing += 1;
            DifferenceKind::Differs
        }
        (Some(_), None) => {
            comparison.only_old += 1;
            DifferenceKind::OnlyOld
        }
        (None, _) => {
            comparison.only_new += 1;
            DifferenceKind::OnlyNew
        }
    };
    if comparison.first.len() == DIFFERENCES_SHOWN {
        return;
    }
    let fields = match (&old, &new) {
        (Some((_, old)), Some((_, new))) => differing_fields(&old.row, &new.row),
        _ => Vec::new(),
    };
    let from = |row: &Option<(String, StoredRow)>| row.as_ref().map(|(_, row)| row.from);
    comparison.first.push(Difference {
        old_from: from(&old),
        new_from: from(&new),
        key: old.or(new).map(|(key, _)| key).unwrap_or_default(),
        kind,
        fields,
    });
}

/// The rows of one side, read in pages.
struct Rows<'a> {
    reader: &'a RowReader<'a>,
    page: VecDeque<(String, StoredRow)>,
    last: Option<String>,
    done: bool,
}

impl<'a> Rows<'a> {
    fn of(reader: &'a RowReader<'a>) -> Self {
        Self {
            reader,
            page: VecDeque::new(),
            last: None,
            done: false,
        }
    }

    fn peek(&mut self) -> Result<Option<&str>, StoreError> {
        if self.page.is_empty() && !self.done {
            self.read()?;
        }
        Ok(self.page.front().map(|(key, _)| key.as_str()))
    }

    fn next(&mut self) -> Option<(String, StoredRow)> {
        let row = self.page.pop_front()?;
        self.last = Some(row.0.clone());
        Some(row)
    }

    fn read(&mut self) -> Result<(), StoreError> {
        let (first, end) = all_rows();
        let first = self.last.as_ref().map_or(first, |key| Bound::Excluded(row_key(key)));
        let (page, mut bytes) = (&mut self.page, 0);
        self.reader.scan_rows((first, end), false, &mut |key, row| {
            bytes += row.row.len();
            page.push_back((key.to_owned(), row));
            let full = page.len() >= PAGE_ROWS || bytes >= PAGE_BYTES;
            Ok(if full { Scan::Stop } else { Scan::Go })
        })?;
        self.done = self.page.is_empty();
        Ok(())
    }
}

/// The first fields that differ. None if a row is not to be shown as JSON.
fn differing_fields(old: &[u8], new: &[u8]) -> Vec<FieldDifference> {
    let mut found = Vec::new();
    if let (Ok(old), Ok(new)) = (rmp_serde::from_slice(old), rmp_serde::from_slice(new)) {
        descend("", Some(&old), Some(&new), &mut found);
    }
    found
}

fn descend(path: &str, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<FieldDifference>) {
    if old == new || found.len() == FIELDS_SHOWN {
        return;
    }
    let below = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            for name in names(old, new) {
                descend(&below(name), old.get(name), new.get(name), found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for number in 0..old.len().max(new.len()) {
                descend(&below(&number.to_string()), old.get(number), new.get(number), found);
            }
        }
        _ => found.push(FieldDifference {
            field: path.to_owned(),
            old: old.map(shown),
            new: new.map(shown),
        }),
    }
}

fn names<'a>(old: &'a Map<String, Value>, new: &'a Map<String, Value>) -> BTreeSet<&'a String> {
    old.keys().chain(new.keys()).collect()
}

fn shown(value: &Value) -> Value {
    let text = value.to_string();
    if text.len() <= VALUE_BYTES_MAX {
        return value.clone();
    }
    Value::String(format!("{}…", &text[..text.floor_char_boundary(VALUE_BYTES_MAX)]))
}

//! Views: read models as keyed folds. A row is the fold of the events routed to its key, in log order, nothing else.

use super::event_set::{EventSet, Recorded};
use chrono::{DateTime, NaiveDate, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest key of a row in bytes.
pub const KEY_LEN_MAX: usize = 1024;
/// Longest text in an index in bytes; longer texts are not indexed whole but by this prefix.
pub const INDEX_TEXT_LEN_MAX: usize = 512;

/// Key of a row in a view.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(Box<str>);

impl Key {
    /// The key's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Box<str>>> From<T> for Key {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The keys that an event is routed to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keys(KeysInner);

#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum KeysInner {
    #[default]
    None,
    One(Key),
    Many(Vec<Key>),
}

impl Keys {
    /// The event concerns no row.
    pub fn none() -> Self {
        Self::default()
    }

    /// The event concerns one row.
    pub fn one(key: impl Into<Key>) -> Self {
        Self(KeysInner::One(key.into()))
    }

    /// The event concerns several rows; a key named twice counts once.
    pub fn many<K: Into<Key>>(keys: impl IntoIterator<Item = K>) -> Self {
        let mut keys: Vec<Key> = keys.into_iter().map(Into::into).collect();
        keys.sort_unstable();
        keys.dedup();
        Self(KeysInner::Many(keys))
    }
}

impl IntoIterator for Keys {
    type Item = Key;
    type IntoIter = std::iter::Chain<std::option::IntoIter<Key>, std::vec::IntoIter<Key>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, many) = match self.0 {
            KeysInner::None => (None, Vec::new()),
            KeysInner::One(key) => (Some(key), Vec::new()),
            KeysInner::Many(keys) => (None, keys),
        };
        one.into_iter().chain(many)
    }
}

/// What kind of values an index holds; decides how a query's text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum IndexKind {
    /// Text, ordered by its bytes.
    Text,
    /// Whole numbers.
    Number,
    /// `false` before `true`.
    Bool,
    /// Days, as texts `2017-10-02`.
    Date,
    /// Moments, as texts in UTC with microseconds.
    Time,
}

impl IndexKind {
    /// Whether an index of this kind can hold a value.
    pub fn holds(self, value: &IndexValue) -> bool {
        match value {
            IndexValue::Bool(_) => self == Self::Bool,
            IndexValue::Number(_) => self == Self::Number,
            IndexValue::Text(_) => matches!(self, Self::Text | Self::Date | Self::Time),
        }
    }
}

/// A value in an index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IndexValue {
    /// `false` before `true`.
    Bool(bool),
    /// A whole number.
    Number(i128),
    /// Text.
    Text(String),
}

impl IndexValue {
    /// Reads a value of this kind from the text of a query.
    pub fn parse(kind: IndexKind, text: &str) -> Result<Self, String> {
        match kind {
            IndexKind::Text => Ok(Self::Text(text.to_owned())),
            IndexKind::Number => match text
                .parse::<i64>()
                .map(i128::from)
                .or_else(|_| text.parse::<u64>().map(i128::from))
            {
                Ok(number) => Ok(Self::Number(number)),
                Err(_) => Err(format!("{text:?} is not a whole number")),
            },
            IndexKind::Bool => match text {
                "true" => Ok(Self::Bool(true)),
                "false" => Ok(Self::Bool(false)),
                _ => Err(format!("{text:?} is neither true nor false")),
            },
            IndexKind::Date => match text.parse::<NaiveDate>() {
                Ok(date) => Ok(Self::Text(date.to_string())),
                Err(_) => Err(format!("{text:?} is no day, as 2017-10-02 is")),
            },
            IndexKind::Time => match DateTime::parse_from_rfc3339(text) {
                Ok(time) => Ok(Self::Text(written(&time.to_utc()))),
                Err(_) => Err(format!("{text:?} is no time of RFC 3339, as 2017-10-02T10:56:33Z is")),
            },
        }
    }
}

/// A field that can stand in an index.
pub trait Indexed {
    /// The kind of its values.
    const KIND: IndexKind;

    /// Its value; `None` keeps the row out of the index.
    fn index_value(&self) -> Option<IndexValue>;
}

macro_rules! indexed {
    ($kind:ident as $stored:ident: $($type:ty => |$value:ident| $make:expr),+ $(,)?) => {$(
        impl Indexed for $type {
            const KIND: IndexKind = IndexKind::$kind;

            fn index_value(&self) -> Option<IndexValue> {
                let $value = self;
                Some(IndexValue::$stored($make))
            }
        }
    )+};
}

indexed!(Bool as Bool: bool => |value| *value);
indexed!(Number as Number:
    u8 => |value| i128::from(*value),
    u16 => |value| i128::from(*value),
    u32 => |value| i128::from(*value),
    u64 => |value| i128::from(*value),
    i8 => |value| i128::from(*value),
    i16 => |value| i128::from(*value),
    i32 => |value| i128::from(*value),
    i64 => |value| i128::from(*value),
);
indexed!(Text as Text: String => |value| value.clone());
indexed!(Date as Text: NaiveDate => |value| value.to_string());
indexed!(Time as Text: DateTime<Utc> => |value| written(value));

/// A moment as it stands in an index, so that the order of the texts is that of the moments.
fn written(time: &DateTime<Utc>) -> String {
    time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

impl<T: Indexed> Indexed for Option<T> {
    const KIND: IndexKind = T::KIND;

    fn index_value(&self) -> Option<IndexValue> {
        self.as_ref().and_then(T::index_value)
    }
}

/// A row of a view. Derive it: `#[derive(Row)]`, with `#[index]` on the fields to be found by.
pub trait Row: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Text of its fields and their types, so that a change of them is noticed.
    const SCHEMA: &'static str;
    /// Names and kinds of its indexes.
    const INDEXES: &'static [(&'static str, IndexKind)];

    /// Its index values, in the order of [`Row::INDEXES`].
    fn index_values(&self) -> Vec<Option<IndexValue>>;
}

/// What a view does about an event that it cannot fold, once it has tried often enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailurePolicy {
    /// It stops there, says so, and answers no query until the event is folded or skipped.
    #[default]
    Stop,
    /// It parks the key: the event and all later ones of that key wait, in order, and the row is served as it stands. All
    /// other keys go on. An event whose keys are not known (it cannot be decoded, or `route` fails) stops the view all the
    /// same, because nobody could say which rows it is missing in.
    Park,
}

/// Whether a view keeps what its rows were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum History {
    /// Each version of a row is kept, with the positions from and to which it held: the view answers as of any of them.
    #[default]
    Kept,
    /// Only the rows as they are.
    Off,
}

/// A read model.
pub trait View: Send + Sync + 'static {
    /// Its name in paths, `[a-z][a-z0-9-]*`.
    const NAME: &'static str;
    /// Raise it whenever the code or the row changes: the view is then built anew.
    const VERSION: u32;
    /// What becomes of an event that it cannot fold; the setting `[views.NAME] on_failure` of a server wins over it.
    const ON_FAILURE: FailurePolicy = FailurePolicy::Stop;
    /// Whether it keeps what its rows were. Costs space for each event that changes a row. Changed, the view is built anew.
    const HISTORY: History = History::Kept;
    /// What it reads.
    type Event: EventSet;
    /// Its rows.
    type Row: Row;

    /// The keys of the rows that the event belongs to.
    fn route(&self, event: &Recorded<'_, Self::Event>) -> Keys;

    /// The row after the event; `None` deletes it. Looks at nothing but its arguments.
    fn fold(&self, key: &Key, row: Option<Self::Row>, event: &Recorded<'_, Self::Event>) -> Option<Self::Row>;
}

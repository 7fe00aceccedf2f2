//! Names of streams: [`StreamId`] is a category and an id, written `orders/ord-17`, valid by construction.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Longest category in characters.
pub const CATEGORY_LEN_MAX: usize = 64;
/// Longest id in characters.
pub const ID_LEN_MAX: usize = 200;

/// A name that is not allowed, with the rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {shown:?} is not valid: {rule}")]
pub struct InvalidId {
    kind: &'static str,
    shown: String,
    rule: &'static str,
}

impl InvalidId {
    fn new(kind: &'static str, text: &str, rule: &'static str) -> Self {
        // The name may be megabytes long: what is shown is bounded.
        Self {
            kind,
            shown: text.chars().take(80).collect(),
            rule,
        }
    }
}

/// Name of a stream: `category/id`. Compares and hashes by that text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamId {
    text: Box<str>,
    slash: u8,
}

impl StreamId {
    /// The stream of `category` and `id`; [`InvalidId`] names the rule that one of them breaks.
    pub fn new(category: &str, id: &str) -> Result<Self, InvalidId> {
        check_category(category)?;
        check_id(id)?;
        Ok(Self {
            text: format!("{category}/{id}").into(),
            slash: category.len() as u8,
        })
    }

    /// The category: which kind of thing the stream is about.
    pub fn category(&self) -> &str {
        &self.text[..usize::from(self.slash)]
    }

    /// The id: which thing of its category the stream is about.
    pub fn id(&self) -> &str {
        &self.text[usize::from(self.slash) + 1..]
    }

    /// `category/id`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl FromStr for StreamId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text.split_once('/') {
            Some((category, id)) => Self::new(category, id),
            None => Err(InvalidId::new(
                "stream",
                text,
                "write it CATEGORY/ID, as in orders/ord-17",
            )),
        }
    }
}

impl TryFrom<String> for StreamId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<StreamId> for String {
    fn from(stream: StreamId) -> Self {
        stream.text.into()
    }
}

/// Splits `category/id` of a stored stream name. The second half is empty if there is no slash.
pub(crate) fn split(text: &str) -> (&str, &str) {
    text.split_once('/').unwrap_or((text, ""))
}

/// Checks a category: `[a-z$][a-z0-9-]{0,63}`.
pub fn check_category(category: &str) -> Result<(), InvalidId> {
    let rule = "a category is 1 to 64 characters, a-z, 0-9 and -, and begins with a letter or $";
    let mut bytes = category.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b == b'$');
    let rest = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if first && rest && category.len() <= CATEGORY_LEN_MAX {
        Ok(())
    } else {
        Err(InvalidId::new("category", category, rule))
    }
}

/// Checks an id: 1 to 200 characters of `[A-Za-z0-9._~:@-]`, neither `.` nor `..`.
pub fn check_id(id: &str) -> Result<(), InvalidId> {
    let rule = "an id is 1 to 200 characters of A-Z a-z 0-9 . _ ~ : @ - and neither . nor ..";
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b':' | b'@' | b'-');
    let valid = (1..=ID_LEN_MAX).contains(&id.len()) && id != "." && id != ".." && id.bytes().all(allowed);
    if valid {
        Ok(())
    } else {
        Err(InvalidId::new("id", id, rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_its_category_and_id() {
        let stream = StreamId::new("orders", "ord-17").unwrap();
        assert_eq!(
            (stream.category(), stream.id(), stream.as_str()),
            ("orders", "ord-17", "orders/ord-17")
        );
        assert_eq!("orders/ord-17".parse::<StreamId>().unwrap(), stream);
    }

    #[test]
    fn names_outside_the_rules_are_refused_with_the_rule() {
        for (category, id) in [
            ("", "a"),
            ("Orders", "a"),
            ("9", "a"),
            ("orders", ""),
            ("orders", "."),
            ("orders", ".."),
            ("orders", "a/b"),
            ("orders", "é"),
        ] {
            assert!(StreamId::new(category, id).is_err(), "{category}/{id}");
        }
        assert!(StreamId::new(&"a".repeat(64), &"x".repeat(200)).is_ok());
        assert!(StreamId::new(&"a".repeat(65), "x").is_err());
        assert!(StreamId::new("a", &"x".repeat(201)).is_err());
        assert!(StreamId::new("$operations", "x").is_ok());
    }
}

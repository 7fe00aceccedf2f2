//! The header `Annals-Append-Condition`: that no event of some types and tags came after a position.

use crate::headers::{APPEND_CONDITION, single};
use crate::object::object;
use crate::problem::Problem;
use annals_core::{AppendCondition, EventQuery, Position, Tag};
use axum::http::HeaderMap;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;

const FORM: &str = r#"{"types":["SeatTaken"],"tags":["seat=12a"],"after":"1234"}"#;
/// Longest name of a type in bytes, as events have it.
const TYPE_LEN_MAX: usize = 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    types: Vec<String>,
    #[serde(default)]
    tags: Vec<String>,
    after: After,
}

/// A position: as text, as every answer has it, or as a number.
struct After(Option<u64>);

impl<'de> Deserialize<'de> for After {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = After;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("after as a position")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<After, E> {
                Ok(After(Some(number)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<After, E> {
                let digits = text.bytes().all(|byte| byte.is_ascii_digit());
                Ok(After(text.parse().ok().filter(|_| digits)))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// 400 for a condition at a request that has no place for one: it would be believed, and not be looked at.
pub(crate) fn refuse_condition(headers: &HeaderMap) -> Result<(), Problem> {
    if !headers.contains_key(&APPEND_CONDITION) {
        return Ok(());
    }
    Err(Problem::header(
        &APPEND_CONDITION,
        "it belongs to appends (POST /v1/streams/{category}/{id}); what a command depends on is said by its aggregate, and \
         If-Match says which version of the stream is expected: leave it out",
    ))
}

/// The condition of an append, if it has one.
pub(super) fn condition(headers: &HeaderMap) -> Result<Option<AppendCondition>, Problem> {
    let Some(value) = single(headers, &APPEND_CONDITION)? else {
        return Ok(None);
    };
    read(value.as_bytes())
        .map(Some)
        .map_err(|detail| Problem::header(&APPEND_CONDITION, &detail))
}

fn read(text: &[u8]) -> Result<AppendCondition, String> {
    let written: Written = object(text).map_err(|error| format!("{error}; write it as JSON, as in {FORM}"))?;
    let after = written.after.0;
    let after = after.ok_or_else(|| format!("after is a position, as in {FORM}"))?;
    let tags: Vec<Tag> = written.tags.iter().map(|text| tag(text)).collect::<Result<_, _>>()?;
    if let Some(wrong) = written.types.iter().find(|name| !is_type(name)) {
        let shown: String = wrong.chars().take(80).collect();
        return Err(format!(
            "{shown:?} is no type of events: write 1 to {TYPE_LEN_MAX} bytes without control characters, as in {FORM}"
        ));
    }
    let types = written.types.into_iter().map(Into::into).collect();
    let query = EventQuery::new(types, tags).map_err(|error| error.to_string())?;
    Ok(AppendCondition {
        query,
        after: Position::new(after),
    })
}

/// A tag as appended events have it. With a space too much it would match none, and so the condition would always hold.
pub(super) fn tag(text: &str) -> Result<Tag, String> {
    let tag = Tag::parse(text).map_err(|error| error.to_string())?;
    let (_, value) = text.split_once('=').unwrap_or_default();
    if value == value.trim() {
        Ok(tag)
    } else {
        Err(format!(
            "tag {text:?} has a space at the beginning or end of its value: leave it out"
        ))
    }
}

fn is_type(name: &str) -> bool {
    (1..=TYPE_LEN_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_read_with_its_position_as_text_or_number() {
        for after in ["\"1234\"", "1234"] {
            let text = format!(r#"{{"types":["A"],"tags":["seat=12a"],"after":{after}}}"#);
            let condition = read(text.as_bytes()).unwrap();
            assert_eq!(condition.after.get(), 1234);
            assert_eq!(
                (condition.query.types()[0].as_ref(), condition.query.tags()[0].as_str()),
                ("A", "seat=12a")
            );
        }
    }

    #[test]
    fn what_is_no_condition_is_named() {
        for (text, says) in [
            ("", "as in {"),
            ("[]", "as in {"),
            (r#"{"tags":["a=b"]}"#, "after"),
            (r#"{"tags":["a=b"],"after":"-1"}"#, "a position"),
            (r#"{"tags":["a=b"],"after":"+1"}"#, "a position"),
            (r#"{"tags":["a=b"],"after":1.5}"#, "as in {"),
            (r#"{"tags":["a"],"after":1}"#, "key=value"),
            (r#"{"after":1}"#, "at least one"),
            (r#"{"tag":["a=b"],"after":1}"#, "tag"),
            (r#"[["Thing"],["email=a"],"0"]"#, "a JSON object is expected"),
            (r#"{"types":[""],"after":0}"#, "no type"),
            (r#"{"types":["A"],"tags":[" a=b"],"after":0}"#, "key of a-z"),
            (r#"{"types":["A"],"tags":["a=b "],"after":0}"#, "a space"),
            (r#"{"types":["A"],"tags":["a= b"],"after":0}"#, "a space"),
            (r#"{"types":["A"],"after":{}}"#, "after as a position"),
            (r#"{"types":"A","after":0}"#, "as in {"),
        ] {
            let error = read(text.as_bytes()).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
            for name in ["Written", "struct", "After", "untagged", "variant", "element"] {
                assert!(!error.contains(name), "{text}: {error}");
            }
        }
    }
}

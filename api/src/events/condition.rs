//! The header `Annals-Append-Condition`: that no event of some types and tags came after a position.

use crate::headers::{APPEND_CONDITION, single};
use crate::problem::Problem;
use annals_core::{AppendCondition, EventQuery, Position, Tag};
use axum::http::HeaderMap;
use serde::Deserialize;

const FORM: &str = r#"{"types":["SeatTaken"],"tags":["seat=12a"],"after":"1234"}"#;

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
#[derive(Deserialize)]
#[serde(untagged)]
enum After {
    Number(u64),
    Text(String),
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
    let written: Written =
        serde_json::from_slice(text).map_err(|error| format!("{error}; write it as JSON, as in {FORM}"))?;
    let after = match written.after {
        After::Number(number) => Some(number),
        After::Text(text) => text
            .parse()
            .ok()
            .filter(|_| text.bytes().all(|byte| byte.is_ascii_digit())),
    };
    let after = after.ok_or_else(|| format!("after is a position, as in {FORM}"))?;
    let tags: Vec<Tag> = written
        .tags
        .iter()
        .map(|tag| Tag::parse(tag).map_err(|error| error.to_string()))
        .collect::<Result<_, _>>()?;
    let types = written.types.into_iter().map(Into::into).collect();
    let query = EventQuery::new(types, tags).map_err(|error| error.to_string())?;
    Ok(AppendCondition {
        query,
        after: Position::new(after),
    })
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
        ] {
            let error = read(text.as_bytes()).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}

//! Query parameters: known names only, each once unless it may be repeated, with values that say what they should be.

use crate::headers::rfc3339;
use crate::problem::Problem;
use annals_core::Position;
use axum::http::Uri;
use chrono::{DateTime, Utc};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::fmt::Write as _;
use std::str::FromStr;

/// Most parameters of one request.
const PARAMETERS_MAX: usize = 32;
/// What stands in a query as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b':');

/// The parameters of one request.
#[derive(Debug)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads the query; a name that `known` does not accept is an error that shows `names`.
    pub(crate) fn read(uri: &Uri, names: &str, known: impl Fn(&str) -> bool) -> Result<Self, Problem> {
        Self::read_repeating(uri, names, &[], known)
    }

    /// Reads the query as [`Self::read`] does; those of `repeatable` may stand there more than once.
    pub(crate) fn read_repeating(
        uri: &Uri,
        names: &str,
        repeatable: &[&str],
        known: impl Fn(&str) -> bool,
    ) -> Result<Self, Problem> {
        let mut found: Vec<(String, String)> = Vec::new();
        for part in uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|part| !part.is_empty())
        {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (decoded(name)?, decoded(value)?);
            if !known(&name) {
                let shown: String = name.chars().take(80).collect();
                let remedy = if names.is_empty() {
                    "this path takes no parameters".to_owned()
                } else {
                    format!("there are: {names}")
                };
                return Err(invalid(format!("there is no parameter {shown:?} here; {remedy}")));
            }
            if !repeatable.contains(&name.as_str()) && found.iter().any(|(other, _)| *other == name) {
                return Err(invalid(format!(
                    "parameter {name} stands there more than once; send it once"
                )));
            }
            if found.len() == PARAMETERS_MAX {
                return Err(invalid(format!("more than {PARAMETERS_MAX} parameters")));
            }
            found.push((name, value));
        }
        Ok(Self(found))
    }

    /// Reads the query of a path that knows exactly these names.
    pub(crate) fn of(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        if uri.query().is_none() {
            return Ok(Self(Vec::new()));
        }
        Self::read(uri, &known.join(", "), |name| known.contains(&name))
    }

    /// The first value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }

    /// The values of a parameter that may be repeated.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.iter()
            .filter(move |(other, _)| *other == name)
            .map(|(_, value)| value)
    }

    /// Names and values in the order they came.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A value read as `T`; `what` says what it should be.
    pub(crate) fn parsed<T: FromStr>(&self, name: &str, what: &str) -> Result<Option<T>, Problem> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        // `parse` would take a sign as well.
        let number = text.parse().ok().filter(|_| !text.starts_with('+'));
        number.map(Some).ok_or_else(|| wrong(name, text, what))
    }

    /// A position; zero if it is not there.
    pub(crate) fn position(&self, name: &str) -> Result<Position, Problem> {
        Ok(self.parsed(name, "a position, as in 1234")?.unwrap_or(Position::ZERO))
    }

    /// How many to return: 1 to `most`.
    pub(crate) fn limit(&self, default: usize, most: usize) -> Result<usize, Problem> {
        let what = format!("a number from 1 to {most}");
        let limit = self.parsed("limit", &what)?.unwrap_or(default);
        if (1..=most).contains(&limit) {
            Ok(limit)
        } else {
            Err(wrong("limit", &limit.to_string(), &what))
        }
    }

    /// A time of RFC 3339.
    pub(crate) fn time(&self, name: &str) -> Result<Option<DateTime<Utc>>, Problem> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        rfc3339(text).map(Some).ok_or_else(|| {
            wrong(
                name,
                text,
                "a time of RFC 3339, as in 2017-10-02T10:56:33Z (a + is written %2B)",
            )
        })
    }

    /// The same parameters with this one set, as a path and query.
    pub(crate) fn link(&self, path: &str, name: &str, value: &str) -> String {
        let mut link = format!("{path}?{name}={}", encoded(value));
        for (other, value) in self.iter().filter(|(other, _)| *other != name) {
            let _ = write!(link, "&{}={}", encoded(other), encoded(value));
        }
        link
    }
}

fn encoded(text: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(text, PLAIN)
}

fn decoded(text: &str) -> Result<String, Problem> {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| invalid("a parameter is not UTF-8: percent-encode its bytes".to_owned()))
}

pub(crate) fn invalid(detail: String) -> Problem {
    Problem::malformed("invalid-parameter", "Invalid parameter", detail)
}

/// The problem of a value that is not what it should be.
pub(crate) fn wrong(name: &str, value: &str, what: &str) -> Problem {
    let shown: String = value.chars().take(80).collect();
    invalid(format!("parameter {name} is {shown:?}: write {what}")).with("parameter", name)
}

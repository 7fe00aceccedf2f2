//! The headers of a request, checked and bounded.

use crate::problem::Problem;
use annals_commands::command_key;
use annals_core::{Expected, Metadata, Version};
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use chrono::{DateTime, Utc};

/// Longest actor, correlation and causation id in bytes.
pub(crate) const TEXT_LEN_MAX: usize = 256;

pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(crate) const OCCURRED_AT: HeaderName = HeaderName::from_static("annals-occurred-at");
pub(crate) const CORRELATION_ID: HeaderName = HeaderName::from_static("annals-correlation-id");
pub(crate) const CAUSATION_ID: HeaderName = HeaderName::from_static("annals-causation-id");
pub(crate) const ACTOR: HeaderName = HeaderName::from_static("annals-actor");
pub(crate) const APPEND_CONDITION: HeaderName = HeaderName::from_static("annals-append-condition");
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const POSITION: HeaderName = HeaderName::from_static("annals-position");
pub(crate) const EPOCH: HeaderName = HeaderName::from_static("annals-epoch");
pub(crate) const LAG: HeaderName = HeaderName::from_static("annals-lag");
/// Where the log ends, beside how far an answer reaches.
pub(crate) const HEAD: HeaderName = HeaderName::from_static("annals-head");
/// Whole seconds since a query node last heard of the log that it follows.
pub(crate) const LOG_AGE: HeaderName = HeaderName::from_static("annals-log-age");
pub(crate) const PARKED: HeaderName = HeaderName::from_static("annals-parked");
pub(crate) const DUPLICATE: HeaderName = HeaderName::from_static("annals-duplicate");

/// What a write says in its headers.
#[derive(Debug)]
pub(crate) struct WriteHeaders {
    pub(crate) key: Option<String>,
    pub(crate) expected: Expected,
    pub(crate) occurred_at: Option<DateTime<Utc>>,
    pub(crate) metadata: Metadata,
}

impl WriteHeaders {
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        Ok(Self {
            key: key(headers)?,
            expected: expected(headers)?,
            occurred_at: occurred_at(headers)?,
            metadata: metadata(headers)?,
        })
    }
}

/// Who, on whose behalf, and why.
pub(crate) fn metadata(headers: &HeaderMap) -> Result<Metadata, Problem> {
    Ok(Metadata {
        actor: text(headers, &ACTOR)?,
        correlation_id: text(headers, &CORRELATION_ID)?,
        causation_id: text(headers, &CAUSATION_ID)?,
        traceparent: traceparent(headers),
    })
}

/// The only value of a header that must not stand there twice.
pub(crate) fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Problem> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Problem::header(name, "it stands there more than once; send it once"));
    }
    Ok(first)
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, Problem> {
    let Some(value) = single(headers, name)? else {
        return Ok(None);
    };
    checked_text(value.as_bytes())
        .map(Some)
        .ok_or_else(|| Problem::header(name, &text_rule()))
}

/// The rule of [`checked_text`] for people.
fn text_rule() -> String {
    format!("1 to {TEXT_LEN_MAX} bytes of UTF-8 without control characters")
}

/// An actor or an id of a cause, if it holds to the rule.
fn checked_text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let valid = (1..=TEXT_LEN_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
    valid.then(|| text.to_owned())
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = single(headers, &IDEMPOTENCY_KEY)? else {
        return Ok(None);
    };
    let invalid = || {
        Problem::header(
            &IDEMPOTENCY_KEY,
            "1 to 255 printable ASCII characters, bare or in double quotes",
        )
    };
    let text = value.to_str().map_err(|_| invalid())?;
    command_key(text).map(|key| Some(key.to_owned())).map_err(|_| invalid())
}

fn expected(headers: &HeaderMap) -> Result<Expected, Problem> {
    let (matches, none_match) = (single(headers, &IF_MATCH)?, single(headers, &IF_NONE_MATCH)?);
    match (matches, none_match) {
        (None, None) => Ok(Expected::Any),
        (Some(_), Some(_)) => Err(Problem::header(
            &IF_MATCH,
            "it cannot stand beside If-None-Match; send one of them",
        )),
        (None, Some(value)) if value.as_bytes() == b"*" => Ok(Expected::None),
        (None, Some(_)) => Err(Problem::header(
            &IF_NONE_MATCH,
            "only * is known here, which says that the stream must not exist yet",
        )),
        (Some(value), None) => version_tag(value.as_bytes()).map(Expected::Exact).ok_or_else(|| {
            Problem::header(
                &IF_MATCH,
                "write the stream's version in double quotes, as the ETag gives it: If-Match: \"2\"",
            )
        }),
    }
}

fn version_tag(value: &[u8]) -> Option<Version> {
    let digits = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    // An ETag never has a leading zero, and one version is written in one way.
    let plain = digits.iter().all(u8::is_ascii_digit) && (digits == b"0" || !digits.starts_with(b"0"));
    let number: u64 = std::str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()?;
    Some(Version::new(number))
}

fn occurred_at(headers: &HeaderMap) -> Result<Option<DateTime<Utc>>, Problem> {
    let Some(value) = single(headers, &OCCURRED_AT)? else {
        return Ok(None);
    };
    value
        .to_str()
        .ok()
        .and_then(rfc3339)
        .map(Some)
        .ok_or_else(|| Problem::header(&OCCURRED_AT, "write it as RFC 3339, as in 2017-10-02T10:56:33Z"))
}

/// A time of RFC 3339, in UTC.
pub(crate) fn rfc3339(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc())
}

/// The W3C trace context. One that is not valid is ignored, as <https://www.w3.org/TR/trace-context/> says.
fn traceparent(headers: &HeaderMap) -> Option<String> {
    let text = single(headers, &TRACEPARENT).ok()??.to_str().ok()?;
    let hex = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let mut parts = text.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let valid = hex(version, 2)
        && version != "ff"
        && hex(trace, 32)
        && trace.bytes().any(|b| b != b'0')
        && hex(parent, 16)
        && parent.bytes().any(|b| b != b'0')
        && hex(flags, 2)
        && (version != "00" || text.len() == 55);
    (valid && text.len() <= TEXT_LEN_MAX).then(|| text.to_owned())
}

/// 415 for a body that is compressed.
fn check_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    let plain = |value: &HeaderValue| value.is_empty() || value.as_bytes().eq_ignore_ascii_case(b"identity");
    let Some(other) = headers.get_all(CONTENT_ENCODING).iter().find(|value| !plain(value)) else {
        return Ok(());
    };
    let shown: String = String::from_utf8_lossy(other.as_bytes()).chars().take(80).collect();
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported-content-encoding",
        "Unsupported content encoding",
        format!("content encoding {shown:?} is not read here: send the body as it is, without Content-Encoding"),
    )
    .with("supported", ["identity"].as_slice())
    .with_header(ACCEPT_ENCODING, HeaderValue::from_static("identity")))
}

/// Which of `known` the content type is, or none if there is none. Parameters such as a charset are not looked at. A
/// body that is compressed has no type that is read here.
pub(crate) fn content_type<'a>(headers: &HeaderMap, known: &[&'a str]) -> Result<Option<&'a str>, Problem> {
    check_encoding(headers)?;
    let Some(value) = single(headers, &CONTENT_TYPE)? else {
        return Ok(None);
    };
    let essence = value
        .to_str()
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    let found = known.iter().find(|known| known.eq_ignore_ascii_case(essence));
    found.copied().map(Some).ok_or_else(|| {
        let shown: String = essence.chars().take(80).collect();
        Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "Unsupported content type",
            format!(
                "content type {shown:?} is not read here: send Content-Type: {}",
                known.join(" or ")
            ),
        )
        .with("supported", known)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap())])
    }

    #[test]
    fn a_version_is_expected_in_quotes_only() {
        assert_eq!(
            expected(&headers(&IF_MATCH, "\"2\"")).unwrap(),
            Expected::Exact(Version::new(2))
        );
        assert_eq!(
            expected(&headers(&IF_MATCH, "\"0\"")).unwrap(),
            Expected::Exact(Version::ZERO)
        );
        assert_eq!(expected(&headers(&IF_NONE_MATCH, "*")).unwrap(), Expected::None);
        for bad in [
            "2",
            "W/\"2\"",
            "\"+2\"",
            "\"\"",
            "\"03\"",
            "\"",
            "*",
            "\"1\",\"2\"",
            "\"99999999999999999999\"",
        ] {
            assert!(expected(&headers(&IF_MATCH, bad)).is_err(), "{bad}");
        }
        assert!(expected(&headers(&IF_NONE_MATCH, "\"2\"")).is_err());
    }

    #[test]
    fn a_trace_context_that_is_not_valid_is_ignored() {
        let valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(traceparent(&headers(&TRACEPARENT, valid)).as_deref(), Some(valid));
        for bad in [
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        ] {
            assert_eq!(traceparent(&headers(&TRACEPARENT, bad)), None, "{bad}");
        }
    }

    #[test]
    fn who_and_why_are_bounded() {
        assert_eq!(metadata(&headers(&ACTOR, "Zoë")).unwrap().actor.as_deref(), Some("Zoë"));
        for bad in [String::new(), "x".repeat(257)] {
            assert!(metadata(&headers(&ACTOR, &bad)).is_err());
        }
    }
}

//! The answer to an accepted command or append, written by hand because it is written for every one of them.

use crate::headers::{DUPLICATE, EPOCH, POSITION};
use annals_core::{AppendedEvent, EventId, Position, StreamId, Version};
use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_TYPE, ETAG};
use axum::response::Response;
use std::fmt::Write as _;

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What was accepted.
pub(crate) struct Accepted<'a> {
    pub(crate) stream: &'a StreamId,
    pub(crate) version: Version,
    pub(crate) position: Position,
    pub(crate) events: &'a [AppendedEvent],
    pub(crate) duplicate: bool,
}

impl Accepted<'_> {
    /// The members of the answer's JSON object, without its braces.
    pub(crate) fn write_members(&self, out: &mut String) {
        // A stream's name is made of characters that JSON takes as they are. Writing to a String cannot fail.
        let _ = write!(
            out,
            r#""stream":"{}","version":{},"position":"{}","events":["#,
            self.stream, self.version, self.position
        );
        for (index, event) in self.events.iter().enumerate() {
            out.push_str(if index == 0 { r#"{"id":"# } else { r#",{"id":"# });
            match &event.id {
                EventId::Uuid(uuid) => drop(write!(out, "\"{}\"", uuid.hyphenated())),
                EventId::Text(text) => push_json_text(out, text),
            }
            out.push_str(r#","type":"#);
            push_json_text(out, &event.event_type);
            let _ = write!(out, r#","position":"{}"}}"#, event.position);
        }
        out.push(']');
    }

    /// The whole answer.
    pub(crate) fn into_response(self, epoch: &HeaderValue) -> Response {
        let mut body = String::with_capacity(160 + 120 * self.events.len());
        body.push('{');
        self.write_members(&mut body);
        body.push('}');
        let mut response = Response::new(Body::from(body));
        let headers = response.headers_mut();
        headers.reserve(5);
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(ETAG, version_tag(self.version));
        headers.insert(POSITION, HeaderValue::from(self.position.get()));
        headers.insert(EPOCH, epoch.clone());
        if self.duplicate {
            headers.insert(DUPLICATE, HeaderValue::from_static("true"));
        }
        response
    }
}

/// A stream's version as an entity tag.
pub(crate) fn version_tag(version: Version) -> HeaderValue {
    tag(&format!("\"{version}\""))
}

/// An entity tag that is known to be a valid header value.
pub(crate) fn tag(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

/// A text as JSON, in quotes.
pub(crate) fn push_json_text(out: &mut String, text: &str) {
    let plain = text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\');
    if plain {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

//! A page of events: its form, its bounds and its headers.

use super::outgoing::write_event;
use crate::accept::negotiate;
use crate::answer::tag;
use crate::bulk::NDJSON;
use crate::headers::{EPOCH, POSITION};
use crate::live::EVENT_STREAM;
use crate::problem::Problem;
use crate::state::Shared;
use annals_core::{Epoch, Position, RecordRef};
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, LINK};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use std::fmt::Write as _;

/// Most events of a page.
pub(super) const LIMIT_MAX: usize = 1_000;
/// How many events a page has unless something else is said.
pub(super) const LIMIT_DEFAULT: usize = 100;
/// About how many bytes a page has at most; a single event may be larger.
pub(super) const PAGE_LEN_MAX: usize = 4 * 1024 * 1024;
const BATCH: &str = "application/cloudevents-batch+json";

/// The content type that the caller wants: that of a page, or [`EVENT_STREAM`].
pub(super) fn form(headers: &HeaderMap) -> Result<&'static str, Problem> {
    negotiate(headers, &[BATCH, "application/json", NDJSON, EVENT_STREAM])
}

/// How the events of a page follow each other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Array,
    Lines,
    /// As server-sent events, with ids of this epoch.
    Sent(Epoch),
}

/// Events of a page, one after the other.
pub(super) struct Page {
    body: String,
    shape: Shape,
    count: usize,
    limit: usize,
    len_max: usize,
}

impl Page {
    pub(super) fn new(form: &str, limit: usize) -> Self {
        let lines = form == NDJSON;
        Self {
            body: if lines { String::new() } else { "[".into() },
            shape: if lines { Shape::Lines } else { Shape::Array },
            count: 0,
            limit,
            len_max: PAGE_LEN_MAX,
        }
    }

    /// A piece of a live answer: about `len_max` bytes of server-sent events.
    pub(super) fn sent(epoch: Epoch, len_max: usize) -> Self {
        Self {
            body: String::new(),
            shape: Shape::Sent(epoch),
            count: 0,
            limit: usize::MAX,
            len_max,
        }
    }

    pub(super) fn push(&mut self, log_name: &str, record: &RecordRef<'_>) {
        match self.shape {
            Shape::Array if self.count > 0 => self.body.push(','),
            Shape::Array | Shape::Lines => {}
            Shape::Sent(epoch) => {
                // A text takes whatever is written to it.
                let _ = write!(self.body, "id: {epoch}:{}\ndata: ", record.position);
            }
        }
        if self.shape == Shape::Array {
            write_event(&mut self.body, log_name, record);
        } else {
            let mut event = String::new();
            write_event(&mut event, log_name, record);
            // JSON that came in with line breaks goes out as it came, and here a line is an event. Between its tokens, where
            // alone they can stand, a space says the same.
            self.body.extend(
                event
                    .chars()
                    .map(|one| if matches!(one, '\n' | '\r') { ' ' } else { one }),
            );
            self.body
                .push_str(if self.shape == Shape::Lines { "\n" } else { "\n\n" });
        }
        self.count += 1;
    }

    /// Whether it has as many events or bytes as a page may have.
    pub(super) fn is_full(&self) -> bool {
        self.count >= self.limit || self.body.len() >= self.len_max
    }

    /// What was gathered, without more around it.
    pub(super) fn into_text(self) -> String {
        self.body
    }

    pub(super) fn into_response(
        mut self,
        shared: &Shared,
        form: &'static str,
        position: Position,
        next: Option<&str>,
    ) -> Response {
        if self.shape == Shape::Array {
            self.body.push(']');
        }
        let mut response = Response::new(Body::from(self.body));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(form));
        headers.insert(POSITION, HeaderValue::from(position.get()));
        headers.insert(EPOCH, shared.epoch.clone());
        if let Some(next) = next {
            headers.insert(LINK, next_link(next));
        }
        response
    }
}

/// `Link: <…>; rel="next"`.
pub(crate) fn next_link(target: &str) -> HeaderValue {
    tag(&format!("<{target}>; rel=\"next\""))
}

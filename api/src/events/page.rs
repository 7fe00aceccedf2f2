//! A page of events: its form, its bounds and its headers.

use super::outgoing::write_event;
use crate::accept::negotiate;
use crate::answer::tag;
use crate::bulk::NDJSON;
use crate::headers::{EPOCH, POSITION};
use crate::problem::Problem;
use crate::state::Shared;
use annals_core::{Position, RecordRef};
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, LINK};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;

/// Most events of a page.
pub(super) const LIMIT_MAX: usize = 1_000;
/// How many events a page has unless something else is said.
pub(super) const LIMIT_DEFAULT: usize = 100;
/// About how many bytes a page has at most; a single event may be larger.
pub(super) const PAGE_LEN_MAX: usize = 4 * 1024 * 1024;
const BATCH: &str = "application/cloudevents-batch+json";
const LIVE: &str = "text/event-stream";

/// The content type of the page that the caller wants.
pub(super) fn form(headers: &HeaderMap) -> Result<&'static str, Problem> {
    let form = negotiate(headers, &[BATCH, "application/json", NDJSON, LIVE])?;
    if form == LIVE {
        return Err(Problem::not_implemented("a live stream of events (text/event-stream)"));
    }
    Ok(form)
}

/// Events of a page, one after the other.
pub(super) struct Page {
    body: String,
    lines: bool,
    count: usize,
    limit: usize,
}

impl Page {
    pub(super) fn new(form: &str, limit: usize) -> Self {
        let lines = form == NDJSON;
        Self {
            body: if lines { String::new() } else { "[".into() },
            lines,
            count: 0,
            limit,
        }
    }

    pub(super) fn push(&mut self, log_name: &str, record: &RecordRef<'_>) {
        if !self.lines && self.count > 0 {
            self.body.push(',');
        }
        write_event(&mut self.body, log_name, record);
        if self.lines {
            self.body.push('\n');
        }
        self.count += 1;
    }

    /// Whether it has as many events or bytes as a page may have.
    pub(super) fn is_full(&self) -> bool {
        self.count >= self.limit || self.body.len() >= PAGE_LEN_MAX
    }

    pub(super) fn into_response(
        mut self,
        shared: &Shared,
        form: &'static str,
        position: Position,
        next: Option<&str>,
    ) -> Response {
        if !self.lines {
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

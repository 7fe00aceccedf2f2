//! `POST /v1/commands`: commands line by line, answered line by line, while they still come in.
//!
//! Lines are read no further ahead than the window, so neither a large file nor a caller that does not read its
//! answers grows memory. Commands of different streams overlap, and yet their events stand in the log in
//! the order of the lines: what reacts to them must not see a capture before the order that it pays for.

mod line;
mod lines;
mod window;

use crate::events::refuse_condition;
use crate::headers::{IDEMPOTENCY_KEY, OCCURRED_AT, content_type, metadata, single};
use crate::parameters::Parameters;
use crate::problem::Problem;
use crate::state::Shared;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::Response;
use futures_util::stream;
pub(crate) use line::read as read_line;
use lines::Lines;
use window::Window;

/// Content type of lines of JSON.
pub(crate) const NDJSON: &str = "application/x-ndjson";

pub(crate) async fn bulk(
    State(shared): State<Shared>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    Parameters::of(&uri, &[])?;
    crate::accept::negotiate(&headers, &[NDJSON, "application/problem+json", "application/json"])?;
    content_type(&headers, &[NDJSON, "application/ndjson", "application/jsonl"])?;
    for (name, instead) in [
        (IDEMPOTENCY_KEY, "key"),
        (OCCURRED_AT, "occurred_at"),
        (IF_MATCH, "expected_version"),
        (IF_NONE_MATCH, "expected_version"),
    ] {
        if single(&headers, &name)?.is_some() {
            return Err(Problem::header(
                &name,
                &format!("it would hold for every line: say {instead} in each line instead"),
            ));
        }
    }
    refuse_condition(&headers)?;
    let room = shared.bounds.bulk()?;
    let window = Window::new(shared.api.commands.clone(), metadata(&headers)?, Lines::new(body));
    let answers = stream::unfold((window, room), |(mut window, room)| async {
        let answer = window.next_answer().await?;
        Some((answer, (window, room)))
    });
    let mut response = Response::new(Body::from_stream(answers));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    response
        .headers_mut()
        .insert(crate::headers::EPOCH, shared.epoch.clone());
    Ok(response)
}

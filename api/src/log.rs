//! `GET /v1/log` and `GET /v1/log/blocks`: the log itself, for followers and for people.

use crate::accept;
use crate::answer::JSON;
use crate::failure::{check_position, log_problem, lost};
use crate::headers::{EPOCH, HEAD, POSITION};
use crate::parameters::{Parameters, wrong};
use crate::problem::Problem;
use crate::state::Shared;
use annals_core::{EventLog, LogError, Position};
use annals_event_store::{FrameMeta, encode_frame};
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::Response;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

const BLOCKS: &str = "application/octet-stream";
/// About how many bytes of records an answer has unless something else is said.
const LIMIT_DEFAULT: usize = 1024 * 1024;
/// About how many bytes of records an answer has at most.
const LIMIT_MAX: usize = 8 * 1024 * 1024;
/// Longest wait for further events, milliseconds.
const WAIT_MAX_MS: u64 = 10_000;
/// How long a thread waits before it looks whether anybody is still there to be answered.
const WAIT_STEP: Duration = Duration::from_millis(250);

pub(crate) async fn log(State(shared): State<Shared>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    accept::json(&headers)?;
    Parameters::of(&uri, &[])?;
    let log = &shared.api.log;
    let position = log.head();
    let mut body = json!({
        "name": log.name(),
        "engine": log.engine(),
        "epoch": log.epoch(),
        "head": position.to_string(),
    });
    if let Some(domain) = &shared.api.domain {
        body["domain"] = json!(domain);
    }
    Ok(answer(&shared, JSON, position, body.to_string()))
}

pub(crate) async fn blocks(State(shared): State<Shared>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    accept::negotiate(&headers, &[BLOCKS])?;
    let parameters = Parameters::of(&uri, &["after", "limit_bytes", "wait"])?;
    let after = parameters.position("after")?;
    let what = format!("a number from 1 to {LIMIT_MAX}");
    let limit: usize = parameters.parsed("limit_bytes", &what)?.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(wrong("limit_bytes", &limit.to_string(), &what));
    }
    let what = format!("milliseconds, at most {WAIT_MAX_MS}");
    let wait: u64 = parameters.parsed("wait", &what)?.unwrap_or(0);
    if wait > WAIT_MAX_MS {
        return Err(wrong("wait", &wait.to_string(), &what));
    }
    let log = Arc::clone(&shared.api.log);
    check_position(log.as_ref(), after)?;
    wait_beyond(&shared, after, Duration::from_millis(wait)).await?;
    let room = shared.bounds.answer(limit).await?;
    // Before the blocks: what is read afterwards may end beyond it, and who follows then asks again.
    let head = log.head();
    let reading = tokio::task::spawn_blocking(move || frames(log.as_ref(), after, limit));
    let (reached, frames) = reading
        .await
        .map_err(|error| lost(&error))?
        .map_err(|error| log_problem(&error))?;
    let mut response = answer(&shared, HeaderValue::from_static(BLOCKS), reached, frames);
    response
        .headers_mut()
        .insert(HEAD, HeaderValue::from(head.max(reached).get()));
    room.keep(&mut response);
    Ok(response)
}

/// Waits until there is an event after `after`, in a place that is counted: each who waits takes a thread. Ends early
/// when the server does.
async fn wait_beyond(shared: &Shared, after: Position, time: Duration) -> Result<(), Problem> {
    if time.is_zero() || shared.api.log.head() > after {
        return Ok(());
    }
    let _place = shared.bounds.follower()?;
    let until = Instant::now() + time;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || shared.closing.begun() {
            return Ok(());
        }
        let log = Arc::clone(&shared.api.log);
        let waiting = tokio::task::spawn_blocking(move || log.wait_beyond(after, left.min(WAIT_STEP)));
        if waiting.await.map_err(|error| lost(&error))? > after {
            return Ok(());
        }
    }
}

/// Frames one after the other, and the position of their last record.
fn frames<L: EventLog + ?Sized>(log: &L, after: Position, limit: usize) -> Result<(Position, Vec<u8>), LogError> {
    let (mut reached, mut bytes) = (after, Vec::new());
    for block in log.read(after, limit)? {
        let meta = FrameMeta {
            epoch: log.epoch(),
            // Which run of the writer stored it is of no use to a follower: that breaks ties in a salvage only.
            boot: 0,
            first: block.first(),
            count: block.count() as u32,
            part: 0,
            parts: 1,
        };
        bytes.extend_from_slice(&encode_frame(&block, meta));
        reached = block.last();
    }
    Ok((reached, bytes))
}

fn answer(shared: &Shared, content_type: HeaderValue, position: Position, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(POSITION, HeaderValue::from(position.get()));
    headers.insert(EPOCH, shared.epoch.clone());
    response
}

//! What reading a row and reading a list have in common: which view, how new it must be, and what can go wrong.

use super::as_of::past_problem;
use crate::accept::{self, negotiate};
use crate::failure::log_problem;
use crate::headers::{EPOCH, LAG, POSITION};
use crate::live::EVENT_STREAM;
use crate::parameters::{Parameters, wrong};
use crate::problem::Problem;
use crate::state::Shared;
use annals_core::{Epoch, LogError, Position};
use annals_projections::{ProjectionState, QueryError, ViewHandle};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use std::time::Duration;

/// Parameters that every query takes.
pub(super) const COMMON: [&str; 3] = ["min_position", "wait", "as_of"];
const WAIT_DEFAULT_MS: u64 = 2_000;
const WAIT_MAX_MS: u64 = 60_000;

/// The view of this name; 404 if there is none.
pub(super) fn view(shared: &Shared, name: &str) -> Result<ViewHandle, Problem> {
    let projections = shared.api.projections.as_ref();
    projections
        .and_then(|projections| projections.view(name))
        .ok_or_else(|| unknown_view(shared, name))
}

pub(super) fn unknown_view(shared: &Shared, name: &str) -> Problem {
    let views = shared
        .api
        .projections
        .as_ref()
        .map(annals_projections::Projections::views)
        .unwrap_or_default();
    let known: Vec<&str> = views.iter().map(|view| view.definition().name()).collect();
    let shown: String = name.chars().take(80).collect();
    let detail = if known.is_empty() {
        format!("there is no view {shown:?}: this node runs no views")
    } else {
        format!("there is no view {shown:?}; there are: {}", known.join(", "))
    };
    Problem::new(StatusCode::NOT_FOUND, "unknown-view", "Unknown view", detail).with("known", known)
}

/// Whether the caller wants what it asks for live; 406 unless it takes JSON or events.
pub(super) fn wants_live(headers: &HeaderMap, parameters: &Parameters) -> Result<bool, Problem> {
    let offered = ["application/json", "application/problem+json", EVENT_STREAM];
    let live = negotiate(headers, &offered)? == EVENT_STREAM;
    if live && parameters.get("as_of").is_some() {
        return Err(Problem::malformed(
            "invalid-parameter",
            "Invalid parameter",
            "what was is not live: leave as_of out, or ask for application/json",
        ));
    }
    Ok(live)
}

/// 406 unless the caller takes JSON.
pub(super) fn check(headers: &HeaderMap) -> Result<(), Problem> {
    accept::json(headers)
}

/// Waits until the view is as new as the caller asks, and has read `least`; 503 if it does not get there in time or does
/// not serve at all.
pub(super) async fn ready(view: &ViewHandle, parameters: &Parameters, least: Position) -> Result<(), Problem> {
    if let Some(stopped) = stopped(view) {
        return Err(stopped);
    }
    let wanted = parameters.position("min_position")?.max(least);
    let what = format!("milliseconds, at most {WAIT_MAX_MS}");
    let wait = parameters.parsed("wait", &what)?.unwrap_or(WAIT_DEFAULT_MS);
    if wait > WAIT_MAX_MS {
        return Err(wrong("wait", &wait.to_string(), &what));
    }
    if wanted == Position::ZERO || view.position() >= wanted {
        return Ok(());
    }
    let reached = view.wait_for(wanted, Duration::from_millis(wait)).await;
    if reached >= wanted {
        return Ok(());
    }
    // It may have stopped while it was waited for, and then waiting longer does not help.
    if let Some(stopped) = stopped(view) {
        return Err(stopped);
    }
    let name = view.definition().name();
    let detail = format!(
        "view {name} has read up to position {reached}, not to {wanted} yet: try again, wait longer (wait=) or ask without min_position"
    );
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "view-behind", "View behind", detail)
        .with("view", name)
        .with("position", reached.to_string())
        .with("min_position", wanted.to_string())
        .retry_after(Duration::from_secs(1));
    Err(with_place(problem, view, reached, view.epoch()))
}

/// Why a view does not go on, if it has stopped.
pub(crate) fn stopped(view: &ViewHandle) -> Option<Problem> {
    let status = view.status();
    if status.state != ProjectionState::Stopped {
        return None;
    }
    let name = view.definition().name();
    let error = status.error.unwrap_or_else(|| "it says no reason".into());
    Some(view_stopped(name, &error).with("position", status.position.to_string()))
}

fn view_stopped(name: &str, error: &str) -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "view-stopped",
        "View stopped",
        format!("view {name} has stopped: {error}; when its cause is mended, POST /v1/projections/{name}/rebuild, or settle what it stopped at, see GET /v1/dead-letters?view={name}, or restart the server"),
    )
    .with("view", name)
    .with("error", error)
}

pub(crate) fn query_problem(error: &QueryError) -> Problem {
    if let Some(problem) = past_problem(error) {
        return problem;
    }
    let text = error.to_string();
    match error {
        QueryError::UnknownIndex { known, .. } => {
            Problem::malformed("invalid-parameter", "Invalid parameter", text).with("known", known.clone())
        }
        QueryError::WrongKind { .. } => Problem::malformed("invalid-parameter", "Invalid parameter", text),
        QueryError::BadCursor => Problem::malformed("invalid-cursor", "Invalid cursor", text),
        QueryError::Unavailable {
            view,
            state: "stopped",
            detail,
        } => view_stopped(view, detail),
        QueryError::Unavailable { view, state, .. } => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "view-unavailable",
            "View unavailable",
            text,
        )
        .with("view", view.as_str())
        .with("state", *state)
        .retry_after(Duration::from_secs(1)),
        QueryError::LogUnreachable { detail, .. } => log_problem(&LogError::Unreachable(detail.clone())),
        QueryError::Damaged { view, key, .. } => {
            tracing::error!(%error, "a row is damaged");
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "view-damaged",
                "View damaged",
                format!("row {key:?} of view {view} is damaged: rebuild the view, POST /v1/projections/{view}/rebuild"),
            )
            .with("view", view.as_str())
            .with("key", key.as_str())
        }
        _ => {
            tracing::error!(%error, "a view cannot be read");
            Problem::internal()
        }
    }
}

/// The headers that say how far the view has read.
pub(super) fn place(headers: &mut HeaderMap, view: &ViewHandle, position: Position, epoch: Epoch) {
    headers.insert(POSITION, HeaderValue::from(position.get()));
    headers.insert(EPOCH, crate::answer::tag(&epoch.to_string()));
    headers.insert(LAG, HeaderValue::from(view.lag_events()));
}

/// A problem that says how far the view has read.
pub(super) fn with_place(problem: Problem, view: &ViewHandle, position: Position, epoch: Epoch) -> Problem {
    problem
        .with_header(POSITION, HeaderValue::from(position.get()))
        .with_header(EPOCH, crate::answer::tag(&epoch.to_string()))
        .with_header(LAG, HeaderValue::from(view.lag_events()))
}

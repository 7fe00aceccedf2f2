//! `as_of`: a position, or a time as it was recorded.

use super::read::query_problem;
use crate::failure::{log_problem, lost};
use crate::headers::rfc3339;
use crate::parameters::{Parameters, wrong};
use crate::problem::Problem;
use annals_core::Position;
use annals_projections::{QueryError, ViewHandle};
use axum::http::StatusCode;
use chrono::{DateTime, Utc};

const WHAT: &str = "a position, as in 1234, or a time of RFC 3339, as in 2017-10-02T10:56:33Z (a + is written %2B)";

/// The position that a query is about; `None` for the rows as they are. What lies in the future is a problem.
pub(super) async fn as_of(view: &ViewHandle, parameters: &Parameters) -> Result<Option<Position>, Problem> {
    let Some(text) = parameters.get("as_of") else {
        return Ok(None);
    };
    if !view.definition().keeps_history() {
        return Err(query_problem(&QueryError::NoHistory(
            view.definition().name().to_owned(),
        )));
    }
    let head = view.head();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let position = text.parse().map_err(|_| wrong("as_of", text, WHAT))?;
        if position > head {
            return Err(query_problem(&QueryError::InFuture { position, head }));
        }
        return Ok(Some(position));
    }
    let time = rfc3339(text).ok_or_else(|| wrong("as_of", text, WHAT))?;
    position_at(view, time, text).await.map(Some)
}

async fn position_at(view: &ViewHandle, time: DateTime<Utc>, text: &str) -> Result<Position, Problem> {
    // The log's clock may be a little ahead of this one: what it has recorded is not in the future.
    let head = view.head();
    let reader = view.clone();
    let read = tokio::task::spawn_blocking(move || reader.position_at(time));
    let position = read
        .await
        .map_err(|error| lost(&error))?
        .map_err(|error| log_problem(&error))?;
    if position >= head && time > Utc::now() {
        let detail =
            format!("{text} is in the future: ask as of now, or as of position {head}, which is the log's end");
        return Err(
            Problem::malformed("position-in-future", "Position in the future", detail).with("head", head.to_string()),
        );
    }
    Ok(position)
}

/// The problems of questions about the past.
pub(super) fn past_problem(error: &QueryError) -> Option<Problem> {
    let text = error.to_string();
    Some(match error {
        QueryError::NoHistory(view) => Problem::malformed("no-history", "No history", text).with("view", view.as_str()),
        QueryError::InFuture { position, head } => {
            Problem::malformed("position-in-future", "Position in the future", text)
                .with("position", position.to_string())
                .with("head", head.to_string())
        }
        QueryError::BeforeHorizon {
            view,
            position,
            horizon,
        } => Problem::new(StatusCode::GONE, "before-horizon", "Before the horizon", text)
            .with("view", view.as_str())
            .with("position", position.to_string())
            .with("horizon", horizon.to_string()),
        QueryError::Behind {
            view,
            position,
            reached,
        } => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "view-behind", "View behind", text)
            .with("view", view.as_str())
            .with("position", reached.to_string())
            .with("min_position", position.to_string())
            .retry_after(std::time::Duration::from_secs(1)),
        _ => return None,
    })
}

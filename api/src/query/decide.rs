//! Decisions of people about views and reactors: retry, skip, pause, resume. Each is an event in `$operations/NAME`.

use super::letters::{answer, elsewhere, unknown};
use super::read::unknown_view;
use crate::failure::{ExpectedBy, append_problem};
use crate::headers::{POSITION, content_type, metadata};
use crate::parameters::Parameters;
use crate::path::PathParts;
use crate::problem::Problem;
use crate::state::Shared;
use crate::{accept, body};
use annals_projections::{Operation, OperationError, Projections};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

/// What a decision says; all of it may be left out, except the reason of a skip.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    #[serde(default)]
    reason: String,
}

pub(crate) async fn retry(
    State(shared): State<Shared>,
    PathParts([id]): PathParts<1>,
    request: Request,
) -> Result<Response, Problem> {
    decide(shared, request, &id, |projections, id, reason| {
        projections.retry(id, reason)
    })
    .await
}

pub(crate) async fn skip(
    State(shared): State<Shared>,
    PathParts([id]): PathParts<1>,
    request: Request,
) -> Result<Response, Problem> {
    decide(shared, request, &id, |projections, id, reason| {
        projections.skip(id, reason)
    })
    .await
}

pub(crate) async fn pause(
    State(shared): State<Shared>,
    PathParts([name]): PathParts<1>,
    request: Request,
) -> Result<Response, Problem> {
    decide(shared, request, &name, |projections, name, reason| {
        projections.pause(name, true, reason)
    })
    .await
}

pub(crate) async fn resume(
    State(shared): State<Shared>,
    PathParts([name]): PathParts<1>,
    request: Request,
) -> Result<Response, Problem> {
    decide(shared, request, &name, |projections, name, reason| {
        projections.pause(name, false, reason)
    })
    .await
}

async fn decide(
    shared: Shared,
    request: Request,
    about: &str,
    operation: fn(&Projections, &str, &str) -> Result<Operation, OperationError>,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    Parameters::of(&head.uri, &[])?;
    accept::json(&head.headers)?;
    content_type(&head.headers, &["application/json"])?;
    let metadata = metadata(&head.headers)?;
    let said = said(&body::read(body, &shared.bounds).await?.bytes)?;
    let projections = shared
        .api
        .projections
        .as_ref()
        .ok_or_else(|| unknown_view(&shared, about))?;
    let problem = |error| operation_problem(&shared, about, &error);
    let operation = operation(projections, about, &said.reason).map_err(problem)?;
    let append = operation.append(metadata).map_err(problem)?;
    let stream = append.stream.clone();
    let appended = shared.api.log.append(append).await;
    let appended = appended.map_err(|error| append_problem(error, ExpectedBy::Header))?;
    projections.decided(operation.projection());
    let body = json!({
        "stream": stream.as_str(),
        "position": appended.position.to_string(),
        "projection": operation.projection(),
        "events": appended.events.iter().map(|event| json!({
            "id": event.id.to_string(),
            "type": event.event_type,
            "position": event.position.to_string(),
        })).collect::<Vec<_>>(),
    });
    let mut response = answer(StatusCode::ACCEPTED, &body);
    let position = HeaderValue::from(appended.position.get());
    response.headers_mut().insert(POSITION, position);
    Ok(response)
}

fn said(body: &[u8]) -> Result<Said, Problem> {
    if body.trim_ascii().is_empty() {
        return Ok(Said::default());
    }
    serde_json::from_slice(body).map_err(|error| {
        let detail = format!("the body is not a decision: {error}; write {{\"reason\": \"why\"}}");
        Problem::malformed("invalid-decision", "Invalid decision", detail)
    })
}

fn operation_problem(shared: &Shared, about: &str, error: &OperationError) -> Problem {
    match error {
        OperationError::Unknown { known, .. } => Problem::new(
            StatusCode::NOT_FOUND,
            "unknown-projection",
            "Unknown projection",
            format!("{error}{}", elsewhere(shared)),
        )
        .with("known", known.clone()),
        OperationError::UnknownLetter(_) => unknown(shared, about),
        OperationError::Reason(text) => Problem::malformed("invalid-decision", "Invalid decision", text.clone()),
        OperationError::Name(_) => unknown_view(shared, about),
        _ => {
            tracing::error!(about, %error, "a decision could not be recorded");
            Problem::internal()
        }
    }
}

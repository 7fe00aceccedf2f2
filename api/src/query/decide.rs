//! Decisions of people about views and reactors: retry, skip, pause, resume. Each is an event in `$operations/NAME`.

use super::letters::{answer, elsewhere, unknown};
use super::read::unknown_view;
use crate::failure::{ExpectedBy, append_problem, lost};
use crate::headers::{POSITION, content_type, metadata};
use crate::object::object;
use crate::parameters::Parameters;
use crate::path::PathParts;
use crate::problem::Problem;
use crate::state::Shared;
use crate::{accept, body};
use annals_core::Position;
use annals_projections::{Operation, OperationError, Projections, ResumeError};
use axum::extract::{Request, State};
use axum::http::request::Parts;
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
    /// Of a reactor that is resumed: the first event that it has not answered.
    #[serde(default)]
    from: Option<String>,
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
    let (head, said) = heard(&shared, request).await?;
    let projections = projections(&shared, &name)?;
    let Some(from) = &said.from else {
        let operation = projections.pause(&name, false, &said.reason);
        return record(&shared, &head, &name, operation).await;
    };
    let digits = from.bytes().all(|byte| byte.is_ascii_digit());
    let from = from.parse().ok().filter(|_| digits).map(Position::new);
    let from = from.ok_or_else(|| invalid("from is the position of an event, as in {\"from\": \"1234\"}"))?;
    let operation = projections.going_on(&name, from, &said.reason);
    let operation = operation.map_err(|error| operation_problem(&shared, &name, &error))?;
    let (resuming, reactor) = (projections.clone(), name.clone());
    // Begins a new outbox on the disk.
    let resumed = tokio::task::spawn_blocking(move || resuming.resume_reactor(&reactor, from));
    let resumed = resumed.await.map_err(|error| lost(&error))?;
    resumed.map_err(|error| resume_problem(&name, &error))?;
    record(&shared, &head, &name, Ok(operation)).await
}

async fn decide(
    shared: Shared,
    request: Request,
    about: &str,
    operation: fn(&Projections, &str, &str) -> Result<Operation, OperationError>,
) -> Result<Response, Problem> {
    let (head, said) = heard(&shared, request).await?;
    if said.from.is_some() {
        return Err(invalid("from is for a reactor that is resumed: leave it out"));
    }
    let operation = operation(projections(&shared, about)?, about, &said.reason);
    record(&shared, &head, about, operation).await
}

/// What a request decides.
async fn heard(shared: &Shared, request: Request) -> Result<(Parts, Said), Problem> {
    let (head, body) = request.into_parts();
    Parameters::of(&head.uri, &[])?;
    accept::json(&head.headers)?;
    content_type(&head.headers, &["application/json"])?;
    let said = said(&body::read(body, &shared.bounds).await?.bytes)?;
    Ok((head, said))
}

fn projections<'a>(shared: &'a Shared, about: &str) -> Result<&'a Projections, Problem> {
    let projections = shared.api.projections.as_ref();
    projections.ok_or_else(|| unknown_view(shared, about))
}

/// Appends a decision, and tells its view or reactor to look.
async fn record(
    shared: &Shared,
    head: &Parts,
    about: &str,
    operation: Result<Operation, OperationError>,
) -> Result<Response, Problem> {
    let metadata = metadata(&head.headers)?;
    let problem = |error| operation_problem(shared, about, &error);
    let operation = operation.map_err(problem)?;
    let append = operation.append(metadata).map_err(problem)?;
    let stream = append.stream.clone();
    let appended = shared.api.log.append(append).await;
    let appended = appended.map_err(|error| append_problem(error, ExpectedBy::Header))?;
    projections(shared, about)?.decided(operation.projection());
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
    object(body).map_err(|error| {
        invalid(&format!(
            "the body is not a decision: {error}; write {{\"reason\": \"why\"}}"
        ))
    })
}

fn invalid(detail: &str) -> Problem {
    Problem::malformed("invalid-decision", "Invalid decision", detail)
}

fn resume_problem(name: &str, error: &ResumeError) -> Problem {
    let text = error.to_string();
    match error {
        ResumeError::UnknownReactor { known, .. } => unknown_projection(text).with("known", known.clone()),
        ResumeError::BeyondHead { head, .. } => {
            Problem::malformed("position-beyond-head", "Position beyond head", text).with("head", head.to_string())
        }
        ResumeError::Running(_) => Problem::new(StatusCode::CONFLICT, "not-paused", "Not paused", text),
        _ => {
            tracing::error!(reactor = name, %error, "a reactor could not be resumed");
            Problem::internal()
        }
    }
}

fn unknown_projection(detail: String) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "unknown-projection",
        "Unknown projection",
        detail,
    )
}

fn operation_problem(shared: &Shared, about: &str, error: &OperationError) -> Problem {
    match error {
        OperationError::Unknown { known, .. } => {
            unknown_projection(format!("{error}{}", elsewhere(shared))).with("known", known.clone())
        }
        OperationError::Waits { .. } | OperationError::Stopped { .. } => {
            Problem::new(StatusCode::CONFLICT, "not-paused", "Not paused", error.to_string())
        }
        OperationError::UnknownLetter(_) => unknown(shared, about),
        OperationError::Reason(text) => invalid(text),
        OperationError::Name(_) => unknown_view(shared, about),
        _ => {
            tracing::error!(about, %error, "a decision could not be recorded");
            Problem::internal()
        }
    }
}

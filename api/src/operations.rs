//! `POST /v1/operations/{projection}`: a decision about a view that was taken at a query node, which cannot write the log
//! itself. Takes nothing but decisions, one at a time, as a CloudEvent.

use crate::answer::Accepted;
use crate::body;
use crate::events::{Shape, read_events};
use crate::failure::{ExpectedBy, append_problem};
use crate::headers::{EPOCH, content_type, metadata, single};
use crate::parameters::Parameters;
use crate::path::PathParts;
use crate::problem::Problem;
use crate::state::Shared;
use annals_core::{NewEvent, Payload};
use annals_projections::{Operation, OperationError, Projections, operation_stream};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

pub(crate) async fn record(
    State(shared): State<Shared>,
    PathParts([name]): PathParts<1>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    Parameters::of(&head.uri, &[])?;
    content_type(&head.headers, &["application/cloudevents+json", "application/json"])?;
    let metadata = metadata(&head.headers)?;
    check_epoch(&shared, &head.headers)?;
    let stream = operation_stream(&name).map_err(|error| no_decision(&error))?;
    let body = body::read(body, &shared.bounds).await?;
    let mut events = read_events(&body.bytes, &stream, Shape::Single)?;
    let event = events.pop().ok_or_else(Problem::internal)?;
    let operation = operation(&name, &event).map_err(|error| no_decision(&error))?;
    let mut append = operation.append(metadata).map_err(|error| no_decision(&error))?;
    for recorded in &mut append.events {
        // Sent again because the answer was lost, it is known by its id.
        recorded.id.clone_from(&event.id);
    }
    let appended = shared.api.log.append(append).await;
    let appended = appended.map_err(|error| append_problem(error, ExpectedBy::Header))?;
    if let Some(here) = &shared.api.projections {
        Projections::decided(here, &name);
    }
    let accepted = Accepted {
        stream: &stream,
        version: appended.version,
        position: appended.position,
        events: &appended.events,
        duplicate: appended.duplicate,
    };
    Ok(accepted.into_response(&shared.epoch))
}

fn operation(name: &str, event: &NewEvent) -> Result<Operation, OperationError> {
    let payload = Payload {
        content_type: &event.content_type,
        schema_version: event.schema_version,
        bytes: &event.payload,
    };
    Operation::of_event(name, &event.event_type, payload)
}

fn no_decision(error: &OperationError) -> Problem {
    Problem::malformed("invalid-decision", "Invalid decision", error.to_string())
}

/// 409 for a decision that was taken in another history: its positions mean other events here.
fn check_epoch(shared: &Shared, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(said) = single(headers, &EPOCH)?.filter(|said| **said != shared.epoch) else {
        return Ok(());
    };
    let said = String::from_utf8_lossy(said.as_bytes()).into_owned();
    let detail = format!(
        "the decision is about epoch {said:?} of the log, which is in epoch {:?}, as after a restore: look at what there is \
         now, and decide anew",
        shared.epoch
    );
    Err(Problem::new(StatusCode::CONFLICT, "other-epoch", "Other epoch", detail))
}

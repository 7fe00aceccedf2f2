//! `GET /v1/events/{event_id}`: one event.

use super::outgoing::write_event;
use crate::accept::negotiate;
use crate::failure::{log_problem, lost};
use crate::headers::{EPOCH, POSITION};
use crate::parameters::Parameters;
use crate::path::PathParts;
use crate::problem::Problem;
use crate::state::Shared;
use annals_core::{EventId, EventLog, LogError, Position};
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::Response;
use std::sync::Arc;

pub(crate) async fn read_one(
    State(shared): State<Shared>,
    PathParts([id]): PathParts<1>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let form = negotiate(&headers, &["application/cloudevents+json", "application/json"])?;
    Parameters::of(&uri, &[])?;
    let id = EventId::parse(&id).map_err(|error| Problem::malformed("invalid-id", "Invalid id", error.to_string()))?;
    let (log, wanted) = (Arc::clone(&shared.api.log), id.clone());
    let reading = tokio::task::spawn_blocking(move || find(log.as_ref(), &wanted));
    let found = reading
        .await
        .map_err(|error| lost(&error))?
        .map_err(|error| log_problem(&error))?;
    let (position, body) = found.ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "unknown-event",
            "Unknown event",
            format!("the log has no event with the id {id}: look for it with GET /v1/events"),
        )
    })?;
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(form));
    headers.insert(POSITION, HeaderValue::from(position.get()));
    headers.insert(EPOCH, shared.epoch.clone());
    Ok(response)
}

fn find<L: EventLog + ?Sized>(log: &L, id: &EventId) -> Result<Option<(Position, String)>, LogError> {
    let Some(position) = log.find_event(id)? else {
        return Ok(None);
    };
    let Some(record) = log.read_one(position)? else {
        return Ok(None);
    };
    let mut body = String::with_capacity(512);
    write_event(&mut body, log.name(), &record.view()?);
    Ok(Some((position, body)))
}

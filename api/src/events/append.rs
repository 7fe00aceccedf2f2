//! `POST /v1/streams/{category}/{id}`: appends events of any type to a stream that no aggregate owns.

use super::condition::condition;
use super::incoming::{Shape, read};
use crate::answer::Accepted;
use crate::failure::{ExpectedBy, append_problem, invalid_id, too_large};
use crate::headers::{WriteHeaders, content_type};
use crate::parameters::Parameters;
use crate::path::PathParts;
use crate::problem::Problem;
use crate::state::Shared;
use crate::{accept, body};
use annals_core::{APPEND_EVENTS_MAX, Append, CommandKey, NewEvent, StreamId};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;

const SINGLE: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

pub(crate) async fn append(
    State(shared): State<Shared>,
    PathParts([category, id]): PathParts<2>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    Parameters::of(&uri, &[])?;
    accept::json(&headers)?;
    let shape = match content_type(&headers, &[SINGLE, BATCH, "application/json"])? {
        Some(SINGLE) => Shape::Single,
        Some(BATCH) => Shape::Batch,
        _ => Shape::Either,
    };
    let stream = StreamId::new(&category, &id).map_err(|error| invalid_id(&error))?;
    let condition = condition(&headers)?;
    let write = WriteHeaders::read(&headers)?;
    refuse_owned(&shared, stream.category())?;
    let body = body::read(body, &shared.bounds).await?;
    let mut events = read(&body.bytes, &stream, shape)?;
    if events.len() > APPEND_EVENTS_MAX {
        let detail = format!(
            "the append has {} events, at most {APPEND_EVENTS_MAX}: append in several parts",
            events.len()
        );
        return Err(too_large(detail)
            .with("events", events.len())
            .with("limit_events", APPEND_EVENTS_MAX));
    }
    for event in &mut events {
        event.occurred_at = event.occurred_at.or(write.occurred_at);
    }
    let command = write.key.map(|key| CommandKey {
        key,
        fingerprint: shared.api.log.fingerprint(&said(&events)),
    });
    let append = Append {
        stream: stream.clone(),
        expected: write.expected,
        events,
        metadata: write.metadata,
        command,
        condition,
    };
    let appended = shared.api.log.append(append).await;
    let appended = appended.map_err(|error| append_problem(error, ExpectedBy::Header))?;
    tracing::debug!(%stream, position = %appended.position, "appended");
    let accepted = Accepted {
        stream: &stream,
        version: appended.version,
        position: appended.position,
        events: &appended.events,
        duplicate: appended.duplicate,
    };
    Ok(accepted.into_response(&shared.epoch))
}

fn refuse_owned(shared: &Shared, category: &str) -> Result<(), Problem> {
    let owned = |detail: String| {
        Err(Problem::new(StatusCode::FORBIDDEN, "category-owned", "Category owned", detail).with("category", category))
    };
    if category.starts_with('$') {
        return owned(format!(
            "category {category} is reserved: append to one that does not begin with $"
        ));
    }
    if shared.api.commands.owns_category(category) {
        return owned(format!(
            "category {category} belongs to an aggregate: send it commands, POST /v1/commands/{category}/{{id}}/{{command}}"
        ));
    }
    Ok(())
}

/// What the append says, for its fingerprint: the same whatever spaces the JSON around the events had.
fn said(events: &[NewEvent]) -> Vec<u8> {
    let mut said = b"append".to_vec();
    for event in events {
        let id = event.id.as_ref().map(ToString::to_string).unwrap_or_default();
        let texts = [
            id.as_str(),
            event.source.as_deref().unwrap_or_default(),
            &event.event_type,
            &event.content_type,
        ];
        let parts = texts.into_iter().map(str::as_bytes).chain([event.payload.as_slice()]);
        for part in parts {
            said.extend_from_slice(&(part.len() as u64).to_le_bytes());
            said.extend_from_slice(part);
        }
    }
    said
}

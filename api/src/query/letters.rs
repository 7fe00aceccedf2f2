//! `/v1/dead-letters`: what views and reactors could not do, and what waits for it.

use super::projections::shown;
use super::read::check;
use crate::answer::JSON;
use crate::events::next_link;
use crate::failure::{log_problem, lost};
use crate::parameters::Parameters;
use crate::path::PathParts;
use crate::problem::Problem;
use crate::state::Shared;
use annals_core::{EventLog, cloud_event, to_json};
use annals_projections::{DeadLetter, Projections, ViewHandle};
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, LINK};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::Arc;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;

pub(crate) async fn dead_letters(
    State(shared): State<Shared>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::of(&uri, &["view", "limit", "cursor"])?;
    check(&headers)?;
    let limit = parameters.limit(LIMIT_DEFAULT, LIMIT_MAX)?;
    let projections = shared.api.projections.as_ref();
    let mut letters = projections.map(Projections::dead_letters).unwrap_or_default();
    if let Some(name) = parameters.get("view") {
        let known = projections.is_some_and(|all| all.statuses().iter().any(|status| status.name == name));
        if !known {
            return Err(super::read::unknown_view(&shared, name));
        }
        letters.retain(|letter| letter.projection == name);
    }
    letters.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    // The cursor is the last id, so that a page neither repeats nor leaves out what stays.
    if let Some(cursor) = parameters.get("cursor") {
        letters.retain(|letter| letter.id.as_str() > cursor);
    }
    let more = letters.len() > limit;
    letters.truncate(limit);
    let cursor = letters.last().filter(|_| more).map(|letter| letter.id.clone());
    let shown: Vec<Value> = letters.iter().map(shown).collect();
    let body = json!({ "dead_letters": shown, "next_cursor": cursor });
    let mut response = answer(StatusCode::OK, &body);
    if let Some(cursor) = &cursor {
        let link = next_link(&parameters.link(uri.path(), "cursor", cursor));
        response.headers_mut().insert(LINK, link);
    }
    Ok(response)
}

pub(crate) async fn dead_letter(
    State(shared): State<Shared>,
    PathParts([id]): PathParts<1>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Parameters::of(&uri, &[])?;
    check(&headers)?;
    let projections = shared.api.projections.as_ref();
    let letter = projections.and_then(|projections| projections.dead_letter(&id));
    let letter = letter.ok_or_else(|| unknown(&shared, &id))?;
    let view = projections.and_then(|projections| projections.view(&letter.projection));
    let log = Arc::clone(&shared.api.log);
    let reading = tokio::task::spawn_blocking(move || whole(&*log, view.as_ref(), &letter));
    let body = reading.await.map_err(|error| lost(&error))??;
    Ok(answer(StatusCode::OK, &body))
}

/// The letter with its event, and with the row as it stands.
fn whole<L: EventLog + ?Sized>(log: &L, view: Option<&ViewHandle>, letter: &DeadLetter) -> Result<Value, Problem> {
    let mut body = shown(letter);
    let record = log.read_one(letter.position).map_err(|error| log_problem(&error))?;
    if let Some(record) = &record {
        let record = record.view().map_err(|error| log_problem(&error.into()))?;
        body["event"] = Value::Object(cloud_event(log.name(), &record));
    }
    // A view that does not serve has no row to show; what is wrong with it stands in its state.
    let row = view
        .zip(letter.key.as_deref())
        .and_then(|(view, key)| view.row(key).ok()?.row);
    body["row"] = row.and_then(|row| to_json(&row)).unwrap_or(Value::Null);
    Ok(body)
}

/// Where to ask about what this node does not run, for the end of a message.
pub(super) fn elsewhere(shared: &Shared) -> String {
    if let Some(contact) = &shared.api.log_contact {
        return format!(". Reactors run at the command node: ask {}", contact().url);
    }
    let views = shared.api.projections.as_ref().map(Projections::views);
    if views.is_some_and(|views| views.is_empty()) {
        return ". Views run at the query nodes: ask one of them".into();
    }
    String::new()
}

pub(super) fn unknown(shared: &Shared, id: &str) -> Problem {
    let shown: String = id.chars().take(80).collect();
    Problem::new(
        StatusCode::NOT_FOUND,
        "unknown-dead-letter",
        "Unknown dead letter",
        format!(
            "there is no dead letter {shown:?}: it was settled meanwhile, or its view was rebuilt; see GET /v1/dead-letters{}",
            elsewhere(shared)
        ),
    )
}

pub(super) fn answer(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

//! `GET /v1/views/{view}/{key}`: one row.

use super::as_of::as_of;
use super::read::{COMMON, place, query_problem, ready, view, wants_live, with_place};
use crate::answer::{JSON, tag};
use crate::failure::lost;
use crate::headers::PARKED;
use crate::live::live_row;
use crate::parameters::Parameters;
use crate::path::PathParts;
use crate::problem::Problem;
use crate::state::Shared;
use annals_core::{Position, to_json};
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::Response;

pub(crate) async fn row(
    State(shared): State<Shared>,
    PathParts([name, key]): PathParts<2>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let view = view(&shared, &name)?;
    let parameters = Parameters::of(&uri, &COMMON)?;
    let live = wants_live(&headers, &parameters)?;
    let at = as_of(&view, &parameters).await?;
    ready(&view, &parameters, at.unwrap_or(Position::ZERO)).await?;
    if live {
        return live_row(&shared, view, key, &headers);
    }
    let (reader, wanted) = (view.clone(), key.clone());
    let reading = tokio::task::spawn_blocking(move || match at {
        Some(at) => reader.row_as_of(&wanted, at),
        None => reader.row(&wanted),
    });
    let answer = reading
        .await
        .map_err(|error| lost(&error))?
        .map_err(|error| query_problem(&error))?;
    let Some(row) = answer.row else {
        let shown: String = key.chars().take(80).collect();
        let problem = Problem::new(
            StatusCode::NOT_FOUND,
            "unknown-row",
            "Unknown row",
            format!(
                "view {name} has no row {shown:?} at position {}: check the key, or ask with min_position if it was written just now",
                answer.position
            ),
        )
        .with("view", name)
        .with("position", answer.position.to_string());
        return Err(with_place(problem, &view, answer.position, answer.epoch));
    };
    let etag = format!("\"{}\"", answer.etag);
    let mut response = if is_known(&headers, &etag) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let json = to_json(&row).ok_or_else(|| {
            tracing::error!(view = name, key, "a row is not MessagePack");
            Problem::internal()
        })?;
        let mut response = Response::new(Body::from(json.to_string()));
        response.headers_mut().insert(CONTENT_TYPE, JSON);
        response
    };
    response.headers_mut().insert(ETAG, tag(&etag));
    place(response.headers_mut(), &view, answer.position, answer.epoch);
    if let Some(parked) = answer.parked {
        response.headers_mut().insert(PARKED, HeaderValue::from(parked.get()));
    }
    Ok(response)
}

/// Whether `If-None-Match` names the row as it is.
fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let given = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok());
    given
        .flat_map(|value| value.split(','))
        .map(|one| one.trim().trim_start_matches("W/"))
        .any(|one| one == "*" || one == etag)
}

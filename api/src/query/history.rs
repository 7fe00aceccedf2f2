//! `GET /v1/views/{view}/{key}/history`: what a row was, version by version, and what made it so.

use super::list::order_or;
use super::read::{check, place, query_problem, ready, view};
use crate::answer::JSON;
use crate::events::next_link;
use crate::failure::lost;
use crate::parameters::{Parameters, wrong};
use crate::path::PathParts;
use crate::problem::Problem;
use crate::state::Shared;
use annals_core::{Position, to_json};
use annals_projections::{
    HistoryPage, HistoryQuery, LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX, Order, RowVersion, differences,
};
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, LINK};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use chrono::SecondsFormat;
use serde_json::{Value, json};

const KNOWN: [&str; 6] = ["min_position", "wait", "limit", "cursor", "order", "diff"];

pub(crate) async fn history(
    State(shared): State<Shared>,
    PathParts([name, key]): PathParts<2>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let view = view(&shared, &name)?;
    let parameters = Parameters::of(&uri, &KNOWN)?;
    check(&headers)?;
    let diff = match parameters.get("diff") {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => return Err(wrong("diff", other, "true or false")),
    };
    let query = HistoryQuery {
        order: order_or(&parameters, Order::Descending)?,
        limit: parameters.limit(LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX)?,
        cursor: parameters.get("cursor").map(str::to_owned),
        with_before: diff,
    };
    ready(&view, &parameters, Position::ZERO).await?;
    let (reader, wanted) = (view.clone(), key.clone());
    let reading =
        tokio::task::spawn_blocking(move || reader.history(&wanted, &query).map(|page| (body(&page, diff), page)));
    let read = reading.await.map_err(|error| lost(&error))?;
    let (body, page) = read.map_err(|error| query_problem(&error))?;
    if page.versions.is_empty() && parameters.get("cursor").is_none() {
        let shown: String = key.chars().take(80).collect();
        let (position, since) = (page.position, page.cut_at.map(|at| format!(" since position {at}")));
        let since = since.unwrap_or_default();
        let detail =
            format!("view {name} has never had a row {shown:?}{since} up to position {position}: check the key");
        return Err(
            Problem::new(StatusCode::NOT_FOUND, "unknown-row", "Unknown row", detail)
                .with("view", name)
                .with("position", page.position.to_string()),
        );
    }
    let mut response = Response::new(Body::from(body.to_string()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    place(headers, &view, page.position, page.epoch);
    if let Some(cursor) = &page.next_cursor {
        headers.insert(LINK, next_link(&parameters.link(uri.path(), "cursor", cursor)));
    }
    Ok(response)
}

fn body(page: &HistoryPage, diff: bool) -> Value {
    let versions: Vec<Value> = page.versions.iter().map(|version| shown(version, diff)).collect();
    json!({
        "versions": versions,
        "next_cursor": page.next_cursor,
        "cut_at": page.cut_at.map(|cut_at| cut_at.to_string()),
        "position": page.position.to_string(),
    })
}

fn shown(version: &RowVersion, diff: bool) -> Value {
    let row = version.row.as_deref().and_then(to_json);
    let event = &version.event;
    let mut shown = json!({
        "from": version.from.to_string(),
        "to": version.to.map(|to| to.to_string()),
        "row": row,
        "event": {
            "id": event.id,
            "type": event.event_type,
            "stream": event.stream,
            "recordedtime": event.recorded_at.to_rfc3339_opts(SecondsFormat::Micros, true),
            "actor": event.actor,
        },
    });
    if diff {
        let before = version.before.as_deref().and_then(to_json);
        shown["changes"] = json!(differences(before.as_ref(), row.as_ref()));
    }
    shown
}

//! `/v1/projections`: the state of views and reactors, and rebuilds.

use super::read::{check, unknown_view};
use super::rebuild::{asked, rebuild_options};
use crate::answer::{JSON, tag};
use crate::health::contact_json;
use crate::parameters::Parameters;
use crate::path::PathParts;
use crate::problem::Problem;
use crate::state::Shared;
use annals_projections::RebuildError;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};

pub(crate) async fn projections(
    State(shared): State<Shared>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Parameters::of(&uri, &[])?;
    check(&headers)?;
    let statuses = shared
        .api
        .projections
        .as_ref()
        .map(annals_projections::Projections::statuses)
        .unwrap_or_default();
    let statuses: Vec<Value> = statuses.iter().map(shown).collect();
    let mut body = json!({ "projections": statuses });
    if let Some(contact) = &shared.api.log_contact {
        body["log"] = contact_json(&contact());
    }
    Ok(answer(StatusCode::OK, &body))
}

pub(crate) async fn begin_rebuild(
    State(shared): State<Shared>,
    PathParts([name]): PathParts<1>,
    request: Request,
) -> Result<Response, Problem> {
    let options = rebuild_options(&asked(&shared, request, &["compare", "swap"]).await?)?;
    let projections = shared
        .api
        .projections
        .as_ref()
        .ok_or_else(|| unknown_view(&shared, &name))?;
    projections
        .rebuild_with(&name, options)
        .map_err(|error| rebuild_problem(&shared, &name, &error))?;
    let status = projections.rebuild_status(&name);
    let mut response = answer(
        StatusCode::ACCEPTED,
        &status.map_or(Value::Null, |status| shown(&status)),
    );
    // The name is that of a view that there is, so it stands in a header as it is.
    response
        .headers_mut()
        .insert(LOCATION, tag(&format!("/v1/projections/{name}/rebuild")));
    Ok(response)
}

pub(crate) async fn rebuild_status(
    State(shared): State<Shared>,
    PathParts([name]): PathParts<1>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Parameters::of(&uri, &[])?;
    check(&headers)?;
    super::read::view(&shared, &name)?;
    let status = shared
        .api
        .projections
        .as_ref()
        .and_then(|projections| projections.rebuild_status(&name));
    let status = status.ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "no-rebuild",
            "No rebuild",
            format!(
                "view {name} was not rebuilt since the server started: begin with POST /v1/projections/{name}/rebuild"
            ),
        )
    })?;
    Ok(answer(StatusCode::OK, &shown(&status)))
}

pub(super) fn rebuild_problem(shared: &Shared, name: &str, error: &RebuildError) -> Problem {
    let text = error.to_string();
    match error {
        RebuildError::UnknownView { .. } => unknown_view(shared, name),
        RebuildError::Running(_) => {
            Problem::new(StatusCode::CONFLICT, "rebuild-running", "Rebuild running", text).with("view", name)
        }
        RebuildError::NotRunning(_) | RebuildError::Needed(_) => {
            Problem::new(StatusCode::CONFLICT, "rebuild-not-running", "Rebuild not running", text).with("view", name)
        }
        RebuildError::NotReady(_) | RebuildError::NoPrevious(_) | RebuildError::Unusable { .. } => {
            Problem::new(StatusCode::CONFLICT, "no-such-rows", "No such rows", text).with("view", name)
        }
        RebuildError::NoSpace { free, reserve, .. } => Problem::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "storage-full",
            "Storage full",
            format!("the disk has {free} bytes left and {reserve} are kept in reserve: free some space"),
        )
        .with("free_bytes", *free)
        .with("reserve_bytes", *reserve),
        _ => {
            tracing::error!(view = name, %error, "a rebuild could not begin");
            Problem::internal()
        }
    }
}

/// A status as JSON, with positions as texts as everywhere in the API: JSON has no 64-bit integers.
pub(super) fn shown(status: &impl Serialize) -> Value {
    let mut shown = serde_json::to_value(status).unwrap_or(Value::Null);
    positions_as_text(&mut shown);
    shown
}

fn positions_as_text(value: &mut Value) {
    let Value::Object(fields) = value else {
        return;
    };
    for (name, value) in fields {
        match (name.as_str(), &*value) {
            ("position" | "head" | "total", Value::Number(number)) => *value = Value::String(number.to_string()),
            _ => positions_as_text(value),
        }
    }
}

pub(super) fn answer(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

//! `/healthz`: the process answers. `/readyz`: it can do its work.

use crate::answer::JSON;
use crate::problem::Problem;
use crate::state::{LogContact, Shared};
use annals_projections::{ProjectionKind, ProjectionState, Projections};
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use serde_json::{Value, json};

pub(crate) async fn healthz() -> Response {
    fine("{\"status\":\"ok\"}")
}

/// Ready when the log takes appends and no damage was found in it.
pub(crate) async fn command_readyz(State(shared): State<Shared>) -> Result<Response, Problem> {
    match shared.api.log_failure.as_ref().and_then(|failure| failure()) {
        None => Ok(fine("{\"status\":\"ready\"}")),
        Some(not) => {
            let said = if not.reason == "log-damaged" {
                format!("a part of the log cannot be read: {}", not.detail)
            } else {
                format!("the log takes no appends: {}", not.detail)
            };
            Err(not_ready(said).with("reason", not.reason))
        }
    }
}

/// Ready when no view has stopped or is still opening its store. A reactor that waits to be told from where is no reason
/// not to answer queries.
pub(crate) async fn query_readyz(State(shared): State<Shared>) -> Result<Response, Problem> {
    let statuses = shared
        .api
        .projections
        .as_ref()
        .map(Projections::statuses)
        .unwrap_or_default();
    let waiting: Vec<String> = statuses
        .iter()
        .filter(|status| status.kind == ProjectionKind::View)
        .filter(|status| matches!(status.state, ProjectionState::Starting | ProjectionState::Stopped))
        .map(|status| format!("{} ({})", status.name, status.state.as_str()))
        .collect();
    let contact = shared.api.log_contact.as_ref().map(|contact| contact());
    if waiting.is_empty() {
        return Ok(match &contact {
            // Rows that are old are still served: how old they are stands beside them.
            Some(contact) => answer(json!({ "status": "ready", "log": contact_json(contact) }).to_string()),
            None => fine("{\"status\":\"ready\"}"),
        });
    }
    let detail = format!("not running: {}; see GET /v1/projections", waiting.join(", "));
    let problem = not_ready(detail);
    Err(match &contact {
        Some(contact) => problem.with("log", contact_json(contact)),
        None => problem,
    })
}

/// What a query node knows of the log that it follows, as JSON.
pub(crate) fn contact_json(contact: &LogContact) -> Value {
    let age = (contact.age.as_secs_f64() * 1e3).round() / 1e3;
    let mut shown = json!({ "url": contact.url, "age_seconds": age });
    if let Some(trouble) = &contact.trouble {
        shown["trouble"] = json!(trouble);
    }
    shown
}

fn not_ready(detail: String) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", "Not ready", detail)
}

fn fine(body: &'static str) -> Response {
    answer(body)
}

fn answer(body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

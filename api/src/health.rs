//! `/healthz`: the process answers. `/readyz`: it can do its work.

use crate::answer::JSON;
use crate::problem::Problem;
use crate::state::{LogContact, Shared};
use annals_projections::{ProjectionState, Projections};
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

/// Ready when every view has rows to answer from. Views that stopped are named and keep no one else from answering, so
/// that they take no node out of rotation unless all of them stopped. Neither does a reactor that waits to be told from
/// where.
pub(crate) async fn query_readyz(State(shared): State<Shared>) -> Result<Response, Problem> {
    let views = shared.api.projections.as_ref().map(Projections::views);
    let views = views.unwrap_or_default();
    let (mut waiting, mut stopped) = (Vec::new(), Vec::new());
    for view in &views {
        let (name, state) = (view.definition().name(), view.status().state);
        if state == ProjectionState::Stopped {
            stopped.push(name);
        } else if !view.has_rows() {
            waiting.push(format!("{name} ({})", state.as_str()));
        }
    }
    if waiting.is_empty() && !views.is_empty() && stopped.len() == views.len() {
        waiting = stopped.iter().map(|name| format!("{name} (stopped)")).collect();
    }
    let contact = shared.api.log_contact.as_ref().map(|contact| contact_json(&contact()));
    if waiting.is_empty() {
        let mut body = json!({ "status": "ready" });
        if !stopped.is_empty() {
            body["stopped"] = json!(stopped);
        }
        // Rows that are old are still served: how old they are stands beside them.
        if let Some(contact) = contact {
            body["log"] = contact;
        }
        return Ok(answer(body.to_string()));
    }
    let problem = not_ready(format!(
        "views that do not answer: {}; see GET /v1/projections",
        waiting.join(", ")
    ));
    Err(match contact {
        Some(contact) => problem.with("log", contact),
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

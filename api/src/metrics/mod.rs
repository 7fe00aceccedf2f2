//! `/metrics` of both APIs: everything that this process says about itself, in the text format of Prometheus.

mod exposition;
mod log;
mod process;
mod projections;
mod requests;

pub(crate) use requests::Requests;

use crate::problem::Problem;
use crate::state::Shared;
use annals_projections::Projections;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use exposition::Exposition;

pub(crate) async fn metrics(State(shared): State<Shared>) -> Result<Response, Problem> {
    let mut text = Exposition::default();
    log::expose(&mut text, &shared.api);
    let projections = shared.api.projections.as_ref();
    projections::expose(&mut text, &projections.map(Projections::statuses).unwrap_or_default());
    shared.api.requests.expose(&mut text);
    process::expose(&mut text);
    let mut response = Response::new(Body::from(text.finish()));
    let content_type = HeaderValue::from_static(exposition::CONTENT_TYPE);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    Ok(response)
}

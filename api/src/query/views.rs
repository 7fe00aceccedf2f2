//! `GET /v1/views`: which views there are.

use super::read::check;
use crate::answer::JSON;
use crate::headers::EPOCH;
use crate::parameters::Parameters;
use crate::problem::Problem;
use crate::state::Shared;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use serde_json::json;

pub(crate) async fn views(State(shared): State<Shared>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    Parameters::of(&uri, &[])?;
    check(&headers)?;
    let views = shared
        .api
        .projections
        .as_ref()
        .map(annals_projections::Projections::views)
        .unwrap_or_default();
    let views: Vec<_> = views
        .iter()
        .map(|view| {
            let definition = view.definition();
            let indexes: Vec<_> = definition
                .indexes()
                .iter()
                .map(|(name, kind)| json!({"name": name, "kind": kind}))
                .collect();
            json!({
                "name": definition.name(),
                "version": definition.version(),
                "indexes": indexes,
                "history": definition.keeps_history(),
                "position": view.position().to_string(),
            })
        })
        .collect();
    let mut response = Response::new(Body::from(json!({ "views": views }).to_string()));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response.headers_mut().insert(EPOCH, shared.epoch.clone());
    Ok(response)
}

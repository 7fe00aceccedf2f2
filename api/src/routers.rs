//! Which path of which API is answered by what.

use crate::backup::backup;
use crate::bulk::bulk;
use crate::execute::execute;
use crate::middleware::{Api, Side};
use crate::paths::Paths;
use crate::problem::Problem;
use crate::state::{ApiState, Shared};
use crate::{events, health, log, metrics, operations, proofs, query};
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{get, post};
use std::sync::Arc;

/// The command API: commands, appended events, streams, the log. Beside them the state of all projections, because
/// reactors may run where there is no query API.
pub fn command_api(state: ApiState) -> Api {
    let later = |what| move || later(what);
    let router = supervised(Paths::new())
        .route("/v1/commands/{aggregate}/{id}/{command}", post(execute))
        .route("/v1/commands", post(bulk))
        .route(
            "/v1/streams/{category}/{id}",
            post(events::append).get(events::read_stream),
        )
        .route("/v1/events", get(events::scan))
        .route("/v1/events/{event_id}", get(events::read_one))
        .route("/v1/log", get(log::log))
        .route("/v1/log/blocks", get(log::blocks))
        .route("/v1/operations/{projection}", post(operations::record))
        .route("/v1/backup", post(backup))
        .route("/checkpoint", get(proofs::checkpoint))
        .route("/tile/{*tile}", get(proofs::tile))
        .route("/v1/checkpoints", get(proofs::checkpoints))
        .route("/v1/checkpoints/cosignatures", post(later("a cosignature")))
        .route("/v1/proofs/inclusion", get(proofs::inclusion))
        .route("/v1/proofs/consistency", get(proofs::consistency))
        .route("/v1/schemas", get(later("the list of schemas")))
        .route("/v1/schemas/{type}/{version}", get(later("a schema")))
        .route("/readyz", get(health::command_readyz));
    finished(router, Side::Command, state)
}

/// The query API: views and projections.
pub fn query_api(state: ApiState) -> Api {
    let router = supervised(Paths::new())
        .route("/v1/views", get(query::views))
        .route("/v1/views/{view}", get(query::list))
        .route("/v1/views/{view}/{key}", get(query::row))
        .route("/v1/views/{view}/{key}/history", get(query::history))
        .route(
            "/v1/projections/{view}/rebuild",
            post(query::begin_rebuild).get(query::rebuild_status),
        )
        .route("/v1/projections/rebuild", post(query::begin_rebuilds))
        .route("/v1/projections/{view}/swap", post(query::swap))
        .route("/v1/projections/{view}/rollback", post(query::rollback))
        .route("/v1/projections/{view}/rebuild/pause", post(query::pause_rebuild))
        .route("/v1/projections/{view}/rebuild/resume", post(query::resume_rebuild))
        .route("/v1/projections/{view}/rebuild/cancel", post(query::cancel_rebuild))
        .route("/v1/projections/{view}/rebuild/drop", post(query::drop_rows))
        .route("/readyz", get(health::query_readyz));
    finished(router, Side::Query, state)
}

/// How far views and reactors are, and what people decide about them.
fn supervised(paths: Paths) -> Paths {
    paths
        .route("/v1/projections", get(query::projections))
        .route("/v1/projections/{view}/pause", post(query::pause))
        .route("/v1/projections/{view}/resume", post(query::resume))
        .route("/v1/dead-letters", get(query::dead_letters))
        .route("/v1/dead-letters/{id}", get(query::dead_letter))
        .route("/v1/dead-letters/{id}/retry", post(query::retry))
        .route("/v1/dead-letters/{id}/skip", post(query::skip))
}

async fn later(what: &'static str) -> Problem {
    Problem::not_implemented(what)
}

fn finished(paths: Paths, side: Side, state: ApiState) -> Api {
    let later = |what| get(move || later(what));
    let requests = Arc::clone(&state.requests);
    let shared = Shared::new(state);
    let inner = paths
        .route("/healthz", get(health::healthz))
        .route("/metrics", get(metrics::metrics))
        .route("/openapi.json", later("the OpenAPI description"))
        .route("/docs", later("the documentation page"))
        .router(side, &requests)
        .fallback(|| async { StatusCode::NOT_FOUND })
        // Bodies are bounded where they are read, so that what is said about it is a problem like any other.
        .layer(DefaultBodyLimit::disable())
        .with_state(shared.clone());
    Api::new(side, shared, inner, requests)
}

//! Proof for auditors over REST: signed checkpoints, tiles and bundles of entries as C2SP's tlog-tiles has them, and proofs
//! ready made for who does not want to compute them from tiles.

mod checkpoints;
mod prove;
mod tiles;

pub(crate) use checkpoints::{checkpoint, checkpoints};
pub(crate) use prove::{consistency, inclusion};
pub(crate) use tiles::tile;

use crate::failure::{log_problem, lost};
use crate::problem::Problem;
use crate::state::Shared;
use annals_event_store::{Notary, NotaryError, TreeError};
use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use std::sync::Arc;
use std::time::Duration;

const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";
/// Of what never changes.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// Of what may change at any moment.
const NOT_AT_ALL: &str = "no-cache";

/// Asks the notary on a thread that may block.
async fn ask<T: Send + 'static>(
    shared: &Shared,
    question: impl FnOnce(&Notary) -> Result<T, NotaryError> + Send + 'static,
) -> Result<T, Problem> {
    let Some(notary) = shared.api.notary.clone() else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "no-notary",
            "No Merkle tree",
            "this server keeps no Merkle tree and signs no checkpoints: ask the command API that has the log",
        ));
    };
    let notary: Arc<Notary> = notary;
    let asking = tokio::task::spawn_blocking(move || question(&notary));
    asking
        .await
        .map_err(|error| lost(&error))?
        .map_err(|error| notary_problem(&error))
}

fn notary_problem(error: &NotaryError) -> Problem {
    match error {
        NotaryError::Tree(TreeError::Log(error)) => log_problem(error),
        NotaryError::Tree(error @ TreeError::NoSuch(_)) => Problem::new(
            StatusCode::NOT_FOUND,
            "not-in-tree",
            "Not in the tree",
            error.to_string(),
        ),
        NotaryError::Tree(TreeError::NotYet { size, reached }) => Problem::new(
            StatusCode::NOT_FOUND,
            "not-in-tree",
            "Not in the tree",
            format!(
                "the tree has {reached} leaves, and not {size}: positions and sizes are at most as large as the log"
            ),
        )
        .with("size", reached.to_string()),
        NotaryError::NotCovered { size } => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "not-signed-yet",
            "Not signed yet",
            format!("no checkpoint covers {size} events yet: ask again in a second"),
        )
        .retry_after(Duration::from_secs(1)),
        NotaryError::Contradiction { .. } => {
            tracing::error!(%error, "the log contradicts its checkpoints");
            let title = "The log contradicts what was signed";
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "contradiction",
                title,
                error.to_string(),
            )
        }
        _ => {
            tracing::error!(%error, "the notary failed");
            Problem::internal()
        }
    }
}

fn answer(content_type: &'static str, cache: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    response
}

//! What every request goes through: bounds of its head, where it comes from, a span, and the form of every answer that is not a success.

use crate::closing::Closing;
use crate::headers::LOG_AGE;
use crate::metrics::Requests;
use crate::origin;
use crate::problem::Problem;
use crate::state::Shared;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{ALLOW, CONNECTION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use futures_util::FutureExt;
use hyper::body::Incoming;
use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tower::Service as _;
use tracing::Instrument;

/// Longest path and query in bytes.
const URI_LEN_MAX: usize = 8 * 1024;
/// Most bytes of header names and values together.
const HEADERS_LEN_MAX: usize = 16 * 1024;
/// Longest path that is repeated in a problem.
const INSTANCE_LEN_MAX: usize = 512;

static REQUESTS: AtomicU64 = AtomicU64::new(1);

/// Which of the two APIs answers; only for what a problem says.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Command,
    Query,
}

/// One of the two APIs, ready to be served. Cheap to clone.
///
/// Stands around its router as a service and not as a layer of it: a layer would not see the `Allow` that a router adds
/// to its answers, and one router in another costs as much as the handler.
#[derive(Clone)]
pub struct Api {
    side: Side,
    shared: Shared,
    router: Router,
    requests: Arc<Requests>,
}

impl Api {
    pub(crate) fn new(side: Side, shared: Shared, router: Router, requests: Arc<Requests>) -> Self {
        Self {
            side,
            shared,
            router,
            requests,
        }
    }

    pub(crate) fn closing(&self) -> &Closing {
        &self.shared.closing
    }
}

impl hyper::service::Service<hyper::Request<Incoming>> for Api {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: hyper::Request<Incoming>) -> Self::Future {
        let Self {
            side,
            shared,
            router,
            requests,
        } = self.clone();
        Box::pin(async move {
            let begun = requests.begin(side, request.method(), request.uri().path());
            let mut response = answer(side, &shared, request.map(Body::new), router).await;
            if let Some(contact) = &shared.api.log_contact {
                let age = HeaderValue::from(contact().age.as_secs());
                response.headers_mut().insert(LOG_AGE, age);
            }
            requests.end(side, &begun, response.status());
            Ok(response)
        })
    }
}

async fn answer(side: Side, shared: &Shared, request: Request, mut router: Router) -> Response {
    let number = REQUESTS.fetch_add(1, Ordering::Relaxed);
    let uri = request.uri().clone();
    let span = tracing::debug_span!("request", request = number, method = %request.method(), path = uri.path());
    let uri_len = uri.path_and_query().map_or(0, |text| text.as_str().len());
    let checked =
        check_head(uri_len, request.headers()).and_then(|()| origin::check(request.method(), request.headers()));
    if let Err(problem) = checked {
        return close(problem.into_answer(instance(uri.path())));
    }
    // A router is always ready, and never fails.
    let answered = AssertUnwindSafe(router.call(request))
        .catch_unwind()
        .instrument(span)
        .await;
    let mut response = answered.map(|Ok(response)| response).unwrap_or_else(|_| {
        tracing::error!(request = number, path = uri.path(), "the handler panicked");
        let mut response = Response::default();
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    });
    if !response.status().is_client_error() && !response.status().is_server_error() {
        return shared
            .bounds
            .hold(response)
            .unwrap_or_else(|problem| problem.into_answer(instance(uri.path())));
    }
    let problem = match response.extensions_mut().remove::<Problem>() {
        Some(problem) => problem,
        None => plain(side, uri.path(), &response),
    };
    tracing::debug!(request = number, status = problem.status().as_u16(), "not a success");
    let problem = if problem.status() == StatusCode::INTERNAL_SERVER_ERROR {
        problem.with("request", number)
    } else {
        problem
    };
    let mut answer = problem.into_answer(instance(uri.path()));
    keep(ALLOW, &response, &mut answer);
    keep(CONNECTION, &response, &mut answer);
    answer
}

fn keep(name: axum::http::HeaderName, from: &Response, to: &mut Response) {
    if let Some(value) = from.headers().get(&name) {
        to.headers_mut().insert(name, value.clone());
    }
}

fn close(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn check_head(uri_len: usize, headers: &HeaderMap) -> Result<(), Problem> {
    if uri_len > URI_LEN_MAX {
        return Err(Problem::new(
            StatusCode::URI_TOO_LONG,
            "uri-too-long",
            "URI too long",
            format!("path and query have {uri_len} bytes, at most {URI_LEN_MAX}: shorten the parameters"),
        ));
    }
    let len: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if len > HEADERS_LEN_MAX {
        return Err(Problem::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "headers-too-large",
            "Headers too large",
            format!("the headers have {len} bytes, at most {HEADERS_LEN_MAX}: send fewer or shorter ones"),
        ));
    }
    Ok(())
}

fn instance(path: &str) -> &str {
    // A path is ASCII here, so that it can be cut anywhere.
    path.get(..INSTANCE_LEN_MAX).unwrap_or(path)
}

/// The problem for an answer that has only a status: axum's own, for a path or method that there is not.
fn plain(side: Side, path: &str, response: &Response) -> Problem {
    let path = instance(path);
    match response.status() {
        StatusCode::NOT_FOUND => Problem::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "Not found",
            match side {
                Side::Command => format!(
                    "the command API has no path {path}: it has /v1/commands, /v1/streams, /v1/events, /v1/log, /v1/projections and /v1/dead-letters; views and rebuilds are at the query API"
                ),
                Side::Query => format!(
                    "the query API has no path {path}: it has /v1/views and /v1/projections; commands and events are at the command API"
                ),
            },
        ),
        StatusCode::METHOD_NOT_ALLOWED => {
            let allowed = response
                .headers()
                .get(ALLOW)
                .and_then(|value| value.to_str().ok())
                .unwrap_or("another method");
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "Method not allowed",
                format!("{path} does not take this method: use {allowed}"),
            )
            .with("allowed", allowed)
        }
        status if status.is_client_error() => Problem::new(
            status,
            "malformed-request",
            "Malformed request",
            format!("the request for {path} cannot be read: check its path and headers"),
        ),
        _ => Problem::internal(),
    }
}

//! What every request goes through: bounds of its head, where it comes from, a span, and the form of every answer that is not a success.

use crate::closing::Closing;
use crate::execute::decide;
use crate::headers::LOG_AGE;
use crate::metrics::Requests;
use crate::origin;
use crate::problem::Problem;
use crate::state::Shared;
use axum::Router;
use axum::body::Body;
use axum::http::header::{ALLOW, CONNECTION};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
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
pub struct Api(Arc<Parts>);

struct Parts {
    side: Side,
    shared: Shared,
    router: Router,
    requests: Arc<Requests>,
}

impl Api {
    pub(crate) fn new(side: Side, shared: Shared, router: Router, requests: Arc<Requests>) -> Self {
        Self(Arc::new(Parts {
            side,
            shared,
            router,
            requests,
        }))
    }

    pub(crate) fn closing(&self) -> &Closing {
        &self.0.shared.closing
    }
}

impl hyper::service::Service<hyper::Request<Incoming>> for Api {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: hyper::Request<Incoming>) -> Self::Future {
        let parts = Arc::clone(&self.0);
        Box::pin(async move {
            let uri = request.uri().clone();
            let command = match parts.side {
                Side::Command => command_of(request.method(), uri.path()),
                Side::Query => None,
            };
            let begun = parts
                .requests
                .begin(parts.side, request.method(), uri.path(), command.is_some());
            let mut response = parts.answer(request, &uri, command).await;
            if let Some(contact) = &parts.shared.api.log_contact {
                let age = HeaderValue::from(contact().age.as_secs());
                response.headers_mut().insert(LOG_AGE, age);
            }
            parts.requests.end(parts.side, &begun, response.status());
            Ok(response)
        })
    }
}

impl Parts {
    async fn answer(&self, request: hyper::Request<Incoming>, uri: &Uri, command: Option<[&str; 3]>) -> Response {
        let (side, shared) = (self.side, &self.shared);
        let number = REQUESTS.fetch_add(1, Ordering::Relaxed);
        let span = tracing::debug_span!("request", request = number, method = %request.method(), path = uri.path());
        let uri_len = uri.path_and_query().map_or(0, |text| text.as_str().len());
        let checked =
            check_head(uri_len, request.headers()).and_then(|()| origin::check(request.method(), request.headers()));
        if let Err(problem) = checked {
            return close(problem.into_answer(instance(uri.path())));
        }
        let answered = AssertUnwindSafe(self.handled(request, command))
            .catch_unwind()
            .instrument(span)
            .await;
        let mut response = answered.unwrap_or_else(|_| {
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

    /// What the handler of the path says. Under load nearly all requests are single commands, for which the router with
    /// its boxes and copies costs more than deciding them does: they go past it.
    async fn handled(&self, request: hyper::Request<Incoming>, command: Option<[&str; 3]>) -> Response {
        let Some(command) = command else {
            // A router is always ready, and never fails.
            let answered = self.router.clone().call(request.map(Body::new)).await;
            return answered.unwrap_or_else(|never| match never {});
        };
        let (head, body) = request.into_parts();
        let command = command.map(str::to_owned);
        decide(&self.shared, command, &head, body).await.into_response()
    }
}

/// Aggregate, id and name of a command in the path of `POST /v1/commands/{aggregate}/{id}/{command}`. `None` leaves the
/// path to the router, as everything that has to be decoded or is no such path.
fn command_of<'a>(method: &Method, path: &'a str) -> Option<[&'a str; 3]> {
    let rest = path.strip_prefix("/v1/commands/").filter(|_| *method == Method::POST)?;
    let mut parts = rest.split('/');
    let found = [parts.next()?, parts.next()?, parts.next()?];
    let plain = parts.next().is_none() && found.iter().all(|part| !part.is_empty() && !part.contains('%'));
    plain.then_some(found)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_found_in_its_path_and_nowhere_else() {
        let found = |path| command_of(&Method::POST, path);
        assert_eq!(found("/v1/commands/orders/o-1/place"), Some(["orders", "o-1", "place"]));
        for left_to_the_router in [
            "/v1/commands",
            "/v1/commands/",
            "/v1/commands/orders/o-1",
            "/v1/commands/orders//place",
            "/v1/commands/orders/o-1/",
            "/v1/commands/orders/o-1/place/",
            "/v1/commands/orders/o-1/place/again",
            "/v1/commands/orders/o%2D1/place",
            "/v1/streams/orders/o-1/place",
        ] {
            assert_eq!(found(left_to_the_router), None, "{left_to_the_router}");
        }
        assert_eq!(command_of(&Method::GET, "/v1/commands/orders/o-1/place"), None);
    }
}

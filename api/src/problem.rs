//! Problem details (RFC 9457): every answer that is not a success has this form.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Content type of a problem.
pub(crate) const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// One failed request: what failed, and what to do about it.
#[derive(Debug, Clone)]
pub(crate) struct Problem(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    status: StatusCode,
    name: &'static str,
    title: &'static str,
    detail: String,
    fields: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem of the type `urn:annals:problem:<name>`. The detail names the thing and the remedy.
    pub(crate) fn new(status: StatusCode, name: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            status,
            name,
            title,
            detail: detail.into(),
            fields: Map::new(),
            headers: Vec::new(),
        }))
    }

    /// With a field that helps.
    #[must_use]
    pub(crate) fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0.fields.insert(field.to_owned(), value.into());
        self
    }

    /// With a header.
    #[must_use]
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// With `Retry-After`, at least one second.
    #[must_use]
    pub(crate) fn retry_after(self, after: Duration) -> Self {
        let seconds = after.as_secs().max(1);
        self.with("retry_after_seconds", seconds)
            .with_header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// 400: a header, parameter or body that is not what it should be.
    pub(crate) fn malformed(name: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, name, title, detail)
    }

    /// 400: a header whose value is not valid.
    pub(crate) fn header(name: &HeaderName, remedy: &str) -> Self {
        Self::malformed("invalid-header", "Invalid header", format!("header {name}: {remedy}"))
            .with("header", name.as_str())
    }

    /// 501: what a later release brings.
    pub(crate) fn not_implemented(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            "not-implemented",
            "Not implemented yet",
            format!("{what} is not implemented in this release: leave it out, or upgrade once a release brings it"),
        )
    }

    /// 500: says nothing of the inside; the log of the server does.
    pub(crate) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Internal error",
            "the server failed on this request; its own log says why, under the number in `request`",
        )
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The fields of the problem as they are sent.
    pub(crate) fn to_json(&self, instance: &str) -> Map<String, Value> {
        let inner = &self.0;
        let mut fields = inner.fields.clone();
        fields.insert("type".into(), json!(format!("urn:annals:problem:{}", inner.name)));
        fields.insert("title".into(), json!(inner.title));
        fields.insert("status".into(), json!(inner.status.as_u16()));
        fields.insert("detail".into(), json!(inner.detail));
        fields.insert("instance".into(), json!(instance));
        fields
    }

    /// The whole answer to a request for `instance`.
    pub(crate) fn into_answer(self, instance: &str) -> Response {
        let body = Value::Object(self.to_json(instance)).to_string();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.0.status;
        response.headers_mut().insert(CONTENT_TYPE, PROBLEM_JSON);
        for (name, value) in self.0.headers {
            response.headers_mut().append(name, value);
        }
        response
    }
}

/// Carries the problem to [`crate::middleware`], which knows the path of the request and writes the body.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.0.status;
        response.extensions_mut().insert(self);
        response
    }
}

//! Requests that are hardly HTTP: the server under us refuses them before anybody else sees them, with a status and an
//! empty body. Here that answer gets the form of every other one, a problem that says what is wrong.

use crate::middleware::Api;
use crate::problem::Problem;
use axum::http::StatusCode;
use axum::response::Response;
use bytes::{Buf, Bytes};
use hyper::body::Incoming;
use hyper::service::Service;
use serde_json::Value;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Whether a request of a connection was read and given to whoever answers it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked(Arc<AtomicBool>);

impl Asked {
    /// A request was read.
    pub(crate) fn begin(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn yet(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// An API on one connection, which notes that something was asked.
pub(crate) struct Asking {
    pub(crate) api: Api,
    pub(crate) asked: Asked,
}

impl Service<hyper::Request<Incoming>> for Asking {
    type Response = Response;
    type Error = Infallible;
    type Future = <Api as Service<hyper::Request<Incoming>>>::Future;

    fn call(&self, request: hyper::Request<Incoming>) -> Self::Future {
        self.asked.begin();
        self.api.call(request)
    }
}

/// A stream whose first words are looked at: if nothing was asked yet, they are a refusal.
///
/// Only the first request of a connection is refused so. Behind others, the words of a refusal could not be told from those of
/// an answer, which are never touched.
pub(crate) struct Unread<S> {
    stream: S,
    asked: Asked,
    begun: bool,
    /// What is written in place of a refusal.
    instead: Bytes,
}

impl<S> Unread<S> {
    pub(crate) fn new(stream: S, asked: Asked) -> Self {
        Self {
            stream,
            asked,
            begun: false,
            instead: Bytes::new(),
        }
    }

    /// Whether the first words are a refusal, which is then replaced.
    fn replaces(&mut self, words: &[u8]) -> bool {
        let first = !std::mem::replace(&mut self.begun, true);
        if !first || self.asked.yet() {
            return false;
        }
        let Some(instead) = instead_of(words) else { return false };
        self.instead = instead;
        true
    }
}

impl<S: AsyncWrite + Unpin> Unread<S> {
    /// Writes what is left of what stands in place of a refusal.
    fn poll_instead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.instead.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &self.instead))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.instead.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

/// The whole answer in place of one that has a status only; none if these are other words.
fn instead_of(words: &[u8]) -> Option<Bytes> {
    let code = words.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    let status = StatusCode::from_bytes(code).ok()?;
    let problem = match status {
        StatusCode::BAD_REQUEST => Problem::malformed(
            "malformed-request",
            "Malformed request",
            "this is no request of HTTP/1.1 that can be read: its first line, a header or its length is malformed",
        ),
        StatusCode::URI_TOO_LONG => Problem::new(
            status,
            "uri-too-long",
            "URI too long",
            "the path is too long: shorten it",
        ),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Problem::new(
            status,
            "headers-too-large",
            "Headers too large",
            "the head of the request has too many headers or too many bytes: send fewer",
        ),
        _ => return None,
    };
    // Which path was meant is not known.
    let body = Value::Object(problem.to_json("/")).to_string();
    let head = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        body.len()
    );
    Some((head + &body).into())
}

impl<S: AsyncRead + Unpin> AsyncRead for Unread<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unread<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.replaces(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(self.poll_instead(context))?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.begun && !self.asked.yet() {
            // A refusal is one piece.
            let whole = slices.first().map_or(&[][..], |slice| &**slice);
            if self.replaces(whole) {
                return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
            }
        }
        self.begun = true;
        ready!(self.poll_instead(context))?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

    /// What comes out when this is said first, and that second.
    async fn out(asked: bool, first: &[u8], second: &[u8]) -> String {
        // So narrow that everything is written in several pieces.
        let (near, mut far) = tokio::io::duplex(16);
        let said = Asked::default();
        if asked {
            said.begin();
        }
        let (first, second) = (first.to_vec(), second.to_vec());
        let saying = tokio::spawn(async move {
            let mut near = Unread::new(near, said);
            near.write_all(&first).await.unwrap();
            near.write_all(&second).await.unwrap();
            near.shutdown().await.unwrap();
        });
        let mut heard = String::new();
        far.read_to_string(&mut heard).await.unwrap();
        saying.await.unwrap();
        heard
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_refusal_before_anything_was_asked_gets_a_problem_and_nothing_else_is_touched() {
        let heard = out(false, REFUSAL, b"").await;
        let (head, body) = heard.split_once("\r\n\r\n").unwrap();
        let problem: Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["type"], "urn:annals:problem:malformed-request");
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");

        let refusal = std::str::from_utf8(REFUSAL).unwrap();
        assert_eq!(out(true, REFUSAL, b"").await, refusal, "the words of an answer");
        let answer = "HTTP/1.1 200 OK\r\n\r\n";
        let heard = out(false, answer.as_bytes(), REFUSAL).await;
        assert_eq!(
            heard,
            format!("{answer}{refusal}"),
            "only the first words are looked at"
        );
    }
}

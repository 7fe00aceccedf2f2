//! Request bodies, bounded in size and time.

use crate::bounds::{Bounds, UNCOUNTED_LEN_MAX, overloaded};
use crate::failure::too_large;
use crate::problem::Problem;
use annals_core::APPEND_BYTES_MAX;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header::CONNECTION;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// Largest body of a command or an append.
pub(crate) const BODY_LEN_MAX: usize = APPEND_BYTES_MAX;
/// How much of a body that is too large is read and thrown away, so that the caller gets to read the answer.
const DISCARD_LEN_MAX: usize = 8 * 1024 * 1024;
/// How long a body may take.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);

/// A body, and the room it takes as long as its request goes on.
pub(crate) struct Held {
    pub(crate) bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

/// The whole body; 413 when it is larger than 1 MiB, 408 when it takes too long, 503 when the bodies of all requests
/// together are too large.
pub(crate) async fn read<B>(body: B, bounds: &Bounds) -> Result<Held, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.size_hint().exact() == Some(0) {
        return Ok(Held {
            bytes: Bytes::new(),
            _room: None,
        });
    }
    tokio::time::timeout(BODY_TIME_MAX, collect(body, bounds))
        .await
        .unwrap_or_else(|_| {
            Err(closing(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "request-timeout",
                "Request timeout",
                format!(
                    "the body did not come within {} s: send it at once",
                    BODY_TIME_MAX.as_secs()
                ),
            )))
        })
}

async fn collect<B>(mut body: B, bounds: &Bounds) -> Result<Held, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let declared = body.size_hint().lower();
    if declared > (BODY_LEN_MAX + DISCARD_LEN_MAX) as u64 {
        return Err(closing(over(declared)));
    }
    let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
    let (mut room, mut refused) = (None, false);
    let mut len = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| broken())?;
        let Ok(data) = frame.into_data() else { continue };
        len += data.len();
        if len > BODY_LEN_MAX + DISCARD_LEN_MAX {
            return Err(closing(over(len as u64)));
        }
        if !refused && len > UNCOUNTED_LEN_MAX && len <= BODY_LEN_MAX {
            // Counted as it comes: a caller that is slow takes no more room than for what it has sent.
            refused = bounds.grow_body(&mut room, len).is_none();
        }
        if refused || len > BODY_LEN_MAX {
            // Read on all the same, so that the caller gets to read the answer.
            (first, rest, room) = (Bytes::new(), BytesMut::new(), None);
        } else if first.is_empty() && rest.is_empty() {
            // Most bodies are one frame, which needs no copy.
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&data);
        }
    }
    if len > BODY_LEN_MAX {
        return Err(over(len as u64));
    }
    if refused {
        return Err(overloaded(
            "the bodies of all requests together are too large at the moment: try again in 1 s, or send less at once",
        ));
    }
    let bytes = if rest.is_empty() { first } else { rest.freeze() };
    Ok(Held { bytes, _room: room })
}

fn over(len: u64) -> Problem {
    too_large(format!(
        "the body has {len} bytes, at most {BODY_LEN_MAX}: send less at once, for many commands POST /v1/commands line by line"
    ))
    .with("limit_bytes", BODY_LEN_MAX)
}

fn broken() -> Problem {
    closing(Problem::malformed(
        "broken-body",
        "Broken body",
        "the body ended before its end: send it again",
    ))
}

fn closing(problem: Problem) -> Problem {
    problem.with_header(CONNECTION, HeaderValue::from_static("close"))
}

//! What requests and answers may hold in memory together, so that no number of callers can exhaust it.
//!
//! Small ones are not counted: the number of connections bounds them. Who finds no room gets 503 and when to try again.

use crate::problem::Problem;
use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bodies and answers of up to so many bytes are not counted.
pub(crate) const UNCOUNTED_LEN_MAX: usize = 32 * 1024;
/// An answer is handed to its connection in pieces of so many bytes: what was not asked for yet still counts.
const PIECE_LEN: usize = 64 * 1024;
/// How long an answer waits for room before the caller is told to come again.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// What one permit stands for, bytes.
const UNIT: usize = 1024;

/// Bounds of what an API holds in memory for its callers, all of them together.
#[derive(Debug, Clone, Copy)]
pub struct ApiBounds {
    /// Bytes of request bodies.
    pub body_bytes_max: usize,
    /// Bytes of answers that are being made or sent.
    pub answer_bytes_max: usize,
    /// Requests of many lines (`POST /v1/commands`), each of which holds up to 2 MiB of them.
    pub bulk_requests_max: usize,
    /// Requests for blocks of the log that wait for further events (`wait=`), each of which takes a thread meanwhile.
    pub followers_max: usize,
    /// Live queries: answers that go on with every change.
    pub live_queries_max: usize,
}

impl Default for ApiBounds {
    fn default() -> Self {
        Self {
            body_bytes_max: 32 << 20,
            answer_bytes_max: 64 << 20,
            bulk_requests_max: 32,
            followers_max: 64,
            live_queries_max: 256,
        }
    }
}

/// Room that is taken until this is dropped. Clones share it.
#[derive(Clone)]
pub(crate) struct Room {
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Room {
    fn of(permit: OwnedSemaphorePermit) -> Self {
        Self {
            _permit: Arc::new(permit),
        }
    }
}

/// The room that is left.
#[derive(Clone)]
pub(crate) struct Bounds(Arc<Rooms>);

struct Rooms {
    bodies: Arc<Semaphore>,
    answers: Arc<Semaphore>,
    answer_units_max: usize,
    bulks: Arc<Semaphore>,
    followers: Arc<Semaphore>,
    live: Arc<Semaphore>,
}

impl Bounds {
    pub(crate) fn new(bounds: &ApiBounds) -> Self {
        let answer_units_max = bounds.answer_bytes_max.div_ceil(UNIT).max(1);
        Self(Arc::new(Rooms {
            bodies: Arc::new(Semaphore::new(bounds.body_bytes_max.div_ceil(UNIT))),
            answers: Arc::new(Semaphore::new(answer_units_max)),
            answer_units_max,
            bulks: Arc::new(Semaphore::new(bounds.bulk_requests_max)),
            followers: Arc::new(Semaphore::new(bounds.followers_max)),
            live: Arc::new(Semaphore::new(bounds.live_queries_max)),
        }))
    }

    /// Room for a body of so many bytes, of which `taken` has a part; `None` if there is none left.
    pub(crate) fn grow_body(&self, taken: &mut Option<OwnedSemaphorePermit>, len: usize) -> Option<()> {
        let has = taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = len.div_ceil(UNIT).saturating_sub(has);
        if more == 0 {
            return Some(());
        }
        let permit = Arc::clone(&self.0.bodies).try_acquire_many_owned(more as u32).ok()?;
        match taken {
            Some(taken) => taken.merge(permit),
            None => *taken = Some(permit),
        }
        Some(())
    }

    /// Room for one more request of many lines.
    pub(crate) fn bulk(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let permit = Arc::clone(&self.0.bulks).try_acquire_owned();
        permit.map_err(|_| {
            overloaded("too many requests of many lines are under way: send commands one by one, or try again in 1 s")
        })
    }

    /// A place for one more who waits for further events.
    pub(crate) fn follower(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let permit = Arc::clone(&self.0.followers).try_acquire_owned();
        permit.map_err(|_| overloaded("too many requests wait for further events: ask without wait, or in 1 s"))
    }

    /// A place for one more live query.
    pub(crate) fn live_query(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let permit = Arc::clone(&self.0.live).try_acquire_owned();
        permit.map_err(|_| overloaded("too many live queries are open: close some, or try again in 1 s"))
    }

    /// Room for an answer of at most about so many bytes, before it is made. Waits a while for it.
    pub(crate) async fn answer(&self, len: usize) -> Result<AnswerRoom, Problem> {
        let units = len.div_ceil(UNIT).clamp(1, self.0.answer_units_max) as u32;
        let acquired = tokio::time::timeout(WAIT_MAX, Arc::clone(&self.0.answers).acquire_many_owned(units)).await;
        match acquired {
            Ok(Ok(permit)) => Ok(AnswerRoom(permit)),
            Ok(Err(_)) | Err(_) => Err(no_room()),
        }
    }

    /// The answer, which takes its room until it is sent; a problem if there is no room for one that took none.
    pub(crate) fn hold(&self, mut response: Response) -> Result<Response, Problem> {
        let len = response.body().size_hint().exact().unwrap_or_default();
        let taken = response.extensions_mut().remove::<Room>();
        if len <= UNCOUNTED_LEN_MAX as u64 {
            return Ok(response);
        }
        let room = match taken {
            Some(room) => room,
            None => {
                let units = usize::try_from(len)
                    .unwrap_or(usize::MAX)
                    .div_ceil(UNIT)
                    .min(self.0.answer_units_max);
                let permit = Arc::clone(&self.0.answers).try_acquire_many_owned(units as u32);
                Room::of(permit.map_err(|_| no_room())?)
            }
        };
        let (head, body) = response.into_parts();
        Ok(Response::from_parts(
            head,
            Body::new(Held {
                body,
                _room: room,
                rest: Bytes::new(),
            }),
        ))
    }
}

/// Room for an answer that is being made.
pub(crate) struct AnswerRoom(OwnedSemaphorePermit);

impl AnswerRoom {
    /// Ties the room to the answer, as much of it as the answer needs.
    pub(crate) fn keep(mut self, response: &mut Response) {
        let len = response.body().size_hint().exact().unwrap_or(u64::MAX);
        let needed = usize::try_from(len).unwrap_or(usize::MAX).div_ceil(UNIT);
        // Dropping what was split off gives it back.
        drop(self.0.split(self.0.num_permits().saturating_sub(needed)));
        response.extensions_mut().insert(Room::of(self.0));
    }
}

fn no_room() -> Problem {
    overloaded("too many large answers are being sent: try again in 1 s, read faster, or ask for less at once")
}

pub(crate) fn overloaded(detail: &str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Overloaded", detail)
        .retry_after(Duration::from_secs(1))
}

/// A body that is handed on piece by piece and keeps its room until the last piece was taken.
struct Held {
    body: Body,
    rest: Bytes,
    _room: Room,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                other => return other,
            }
        }
        let len = PIECE_LEN.min(self.rest.len());
        let piece = self.rest.split_to(len);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        match self.body.size_hint().exact() {
            Some(len) => SizeHint::with_exact(len + rest),
            None => SizeHint::default(),
        }
    }
}

//! Live queries: a row or a list as server-sent events, first as it is, then with every change.
//!
//! What is sent is always read anew: who is slow is told less often, never something old after something new. An answer
//! holds one event at a time, and is made only when the one before was taken.

mod list;
mod row;

pub(crate) use list::live_list;
pub(crate) use row::live_row;

use crate::answer::tag;
use crate::bounds::{AnswerRoom, UNCOUNTED_LEN_MAX};
use crate::headers::EPOCH;
use crate::problem::Problem;
use crate::query::stopped;
use crate::state::Shared;
use annals_core::{Epoch, Position};
use annals_projections::{Seen, ViewHandle, ViewWatch};
use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use bytes::Bytes;
use serde_json::Value;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// Content type of a live query.
pub(crate) const EVENT_STREAM: &str = "text/event-stream";
/// How often something is sent, so that both ends know that the other one is there.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a client is told to wait before it takes up a broken connection again, milliseconds.
pub(crate) const RETRY_MS: u64 = 1_000;

/// What is watched.
trait Watched: Send + 'static {
    /// Reads it. The event to send, if it is not as it was sent last.
    fn read(&mut self, view: &ViewHandle) -> impl Future<Output = Result<Option<String>, Problem>> + Send;

    /// Whether it may have changed.
    fn concerns(&self, seen: &Seen) -> bool;

    /// How long to wait for further changes before it is read again.
    const GATHER: Duration;
}

/// An answer under way.
struct Live<W> {
    shared: Shared,
    view: ViewHandle,
    watch: ViewWatch,
    watched: W,
    state: State,
    /// Of a large event that was not taken yet.
    room: Option<AnswerRoom>,
    _place: OwnedSemaphorePermit,
}

#[derive(PartialEq)]
enum State {
    /// Nothing was sent yet.
    Begun,
    /// It has to be read.
    Due,
    Waiting,
    Over,
}

/// The answer, which goes on until its client, the view or the server has gone.
fn answer<W: Watched>(shared: &Shared, view: ViewHandle, watched: W) -> Result<Response, Problem> {
    let place = shared.bounds.live_query()?;
    let epoch = tag(&view.epoch().to_string());
    let live = Live {
        shared: shared.clone(),
        // Before anything is read: what is written from now on is seen.
        watch: view.watch(),
        view,
        watched,
        state: State::Begun,
        room: None,
        _place: place,
    };
    let events = futures_util::stream::unfold(live, |mut live| async {
        let text = live.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), live))
    });
    Ok(sent(Body::from_stream(events), epoch))
}

/// An answer of server-sent events.
pub(crate) fn sent(events: Body, epoch: HeaderValue) -> Response {
    let mut response = Response::new(events);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(EPOCH, epoch);
    response
}

impl<W: Watched> Live<W> {
    /// What is sent next.
    async fn next(&mut self) -> Option<String> {
        self.room = None;
        if self.state == State::Begun {
            self.state = State::Due;
            return Some(format!("retry: {RETRY_MS}\n\n"));
        }
        let closing = self.shared.closing.clone();
        let mut heartbeat = std::pin::pin!(tokio::time::sleep(HEARTBEAT));
        loop {
            if self.state == State::Over || closing.begun() {
                return None;
            }
            if self.state == State::Due {
                self.state = State::Waiting;
                match self.read().await {
                    Ok(Some(event)) => return Some(event),
                    Ok(None) => {}
                    Err(problem) => return Some(self.end(&problem)),
                }
            }
            tokio::select! {
                seen = self.watch.changed() => {
                    let mut seen = seen?;
                    if !W::GATHER.is_zero() {
                        tokio::time::sleep(W::GATHER).await;
                        self.watch.take(&mut seen);
                    }
                    if self.watched.concerns(&seen) {
                        self.state = State::Due;
                    }
                }
                () = &mut heartbeat => {
                    return Some(match stopped(&self.view) {
                        Some(problem) => self.end(&problem),
                        None => ": alive\n\n".to_owned(),
                    });
                }
                () = closing.wait() => return None,
            }
        }
    }

    async fn read(&mut self) -> Result<Option<String>, Problem> {
        if let Some(stopped) = stopped(&self.view) {
            return Err(stopped);
        }
        let event = self.watched.read(&self.view).await?;
        if let Some(event) = event.as_ref().filter(|event| event.len() > UNCOUNTED_LEN_MAX) {
            self.room = Some(self.shared.bounds.answer(event.len()).await?);
        }
        Ok(event)
    }

    /// The last event: why there are no further ones.
    fn end(&mut self, problem: &Problem) -> String {
        self.state = State::Over;
        event("problem", None, &Value::Object(problem.to_json("")).to_string())
    }
}

/// An event as it is sent. `data` has no line breaks, as JSON has none unless it is asked for.
pub(crate) fn event(name: &str, place: Option<(Epoch, Position)>, data: &str) -> String {
    let mut text = String::with_capacity(data.len() + 96);
    // A text takes whatever is written to it.
    let _ = writeln!(text, "event: {name}");
    if let Some((epoch, position)) = place {
        let _ = writeln!(text, "id: {epoch}:{position}");
    }
    let _ = write!(text, "data: {data}\n\n");
    text
}

/// Up to where a client that comes back has seen everything, if it was of this epoch.
fn seen_before(headers: &HeaderMap, epoch: Epoch) -> Option<Position> {
    let id = headers.get("last-event-id")?.to_str().ok()?;
    let (of, position) = id.rsplit_once(':')?;
    let position = position.parse().ok()?;
    (of == epoch.to_string()).then_some(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_comes_back_is_believed_for_its_epoch_only() {
        let (epoch, other) = (Epoch::random(), Epoch::random());
        let headers = |id: &str| HeaderMap::from_iter([("last-event-id".parse().unwrap(), id.parse().unwrap())]);
        let before = |id: String| seen_before(&headers(&id), epoch).map(Position::get);
        assert_eq!(before(format!("{epoch}:7")), Some(7));
        assert_eq!(before(format!("{other}:7")), None);
        for odd in ["7", "", ":", "x:7", "7:x"] {
            assert_eq!(before(odd.to_owned()), None, "{odd}");
        }
        assert_eq!(seen_before(&HeaderMap::new(), epoch), None);
    }

    #[test]
    fn an_event_has_a_name_a_place_and_one_line_of_data() {
        let epoch = Epoch::random();
        let text = event("row", Some((epoch, Position::new(3))), "{\"a\":1}");
        assert_eq!(text, format!("event: row\nid: {epoch}:3\ndata: {{\"a\":1}}\n\n"));
    }
}

//! Events as server-sent events: those that there are from a position on, then every new one.
//!
//! Who listens reads the log at a pace of its own, piece by piece, and the next piece is made only when the one before was
//! taken: a slow one holds up nobody and holds one piece in memory. One who takes nothing for long is cut off by the server.

use super::page::Page;
use super::scan::{Filter, Scan};
use crate::bounds::{AnswerRoom, UNCOUNTED_LEN_MAX};
use crate::failure::{check_position, log_problem, lost};
use crate::headers::single;
use crate::live::{HEARTBEAT, RETRY_MS, event, sent};
use crate::parameters::invalid;
use crate::problem::Problem;
use crate::state::Shared;
use annals_core::Position;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use serde_json::Value;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, watch};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// About how many bytes of events are read and sent at a time.
const PIECE_LEN: usize = 64 * 1024;

/// A live answer has no end, and this parameter would need one.
pub(super) fn endless(name: &str) -> Problem {
    invalid(format!(
        "events are sent live forward and without an end: leave {name} out, or ask for pages (Accept: application/json)"
    ))
    .with("parameter", name)
}

/// The events that the filter lets through, after its position or after those that the client says to have seen.
pub(super) fn live(shared: &Shared, mut filter: Filter, headers: &HeaderMap) -> Result<Response, Problem> {
    if let Some(seen) = seen(shared, headers)? {
        filter.after = seen;
    }
    check_position(shared.api.log.as_ref(), filter.after)?;
    let place = shared.bounds.live_query()?;
    let listening = Listening {
        head: shared.tail.listen(&shared.api.log, &shared.closing),
        shared: shared.clone(),
        filter: Arc::new(filter),
        reached: None,
        over: false,
        room: None,
        _place: place,
    };
    let events = futures_util::stream::unfold(listening, |mut listening| async {
        let text = listening.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), listening))
    });
    Ok(sent(Body::from_stream(events), shared.epoch.clone()))
}

/// Where a client that comes back was; 409 if that was in another history.
fn seen(shared: &Shared, headers: &HeaderMap) -> Result<Option<Position>, Problem> {
    let Some(id) = single(headers, &LAST_EVENT_ID)? else {
        return Ok(None);
    };
    let place = id.to_str().ok().and_then(|id| id.rsplit_once(':'));
    let place = place.and_then(|(epoch, position)| Some((epoch, position.parse().ok()?)));
    let Some((epoch, position)) = place else {
        return Err(Problem::header(
            &LAST_EVENT_ID,
            "send the id of the last event as it came, epoch:position",
        ));
    };
    if epoch.as_bytes() != shared.epoch.as_bytes() {
        let detail = format!(
            "the last event that was seen is of another epoch than {:?}, which the log is in, as after a restore: what \
             stands at its position now may be another event; begin anew, without Last-Event-ID",
            shared.epoch
        );
        return Err(Problem::new(StatusCode::CONFLICT, "other-epoch", "Other epoch", detail));
    }
    Ok(Some(Position::new(position)))
}

/// An answer under way.
struct Listening {
    shared: Shared,
    filter: Arc<Filter>,
    head: watch::Receiver<Position>,
    /// Up to where the log has been looked at; none before the first time.
    reached: Option<Position>,
    over: bool,
    /// Of a large piece that was not taken yet.
    room: Option<AnswerRoom>,
    _place: OwnedSemaphorePermit,
}

impl Listening {
    /// What is sent next.
    async fn next(&mut self) -> Option<String> {
        self.room = None;
        let Some(mut reached) = self.reached else {
            self.reached = Some(self.filter.after);
            return Some(format!("retry: {RETRY_MS}\n\n"));
        };
        let closing = self.shared.closing.clone();
        let mut heartbeat = std::pin::pin!(tokio::time::sleep(HEARTBEAT));
        loop {
            if self.over || closing.begun() {
                return None;
            }
            let looked = *self.head.borrow_and_update();
            if looked > reached {
                match self.piece(reached).await {
                    Ok(piece) => {
                        reached = piece.reached;
                        self.reached = Some(reached);
                        self.over = piece.is_over;
                        if !piece.text.is_empty() {
                            return Some(piece.text);
                        }
                        if self.over || reached < looked {
                            continue;
                        }
                    }
                    Err(problem) => {
                        self.over = true;
                        let said = Value::Object(problem.to_json("")).to_string();
                        return Some(event("problem", None, &said));
                    }
                }
            }
            tokio::select! {
                moved = self.head.changed() => {
                    // The task that looks ends with the server alone.
                    moved.ok()?;
                }
                () = &mut heartbeat => {
                    // Who comes back with this id does not have what was left out looked at again.
                    return Some(format!(": alive\nid: {}:{reached}\n\n", self.shared.api.log.epoch()));
                }
                () = closing.wait() => return None,
            }
        }
    }

    /// The events that follow a position, as many as are sent at once.
    async fn piece(&mut self, after: Position) -> Result<Piece, Problem> {
        let (log, filter) = (Arc::clone(&self.shared.api.log), Arc::clone(&self.filter));
        let reading = tokio::task::spawn_blocking(move || {
            let page = Page::sent(log.epoch(), PIECE_LEN);
            Scan::run_after(log.as_ref(), &filter, after, page)
        });
        let scan = reading
            .await
            .map_err(|error| lost(&error))?
            .map_err(|error| log_problem(&error))?;
        let piece = Piece {
            // Where nothing can follow, what is beyond the end was looked at, too.
            is_over: scan.is_over && scan.reached >= scan.end,
            reached: scan.reached.max(after),
            text: scan.page.into_text(),
        };
        if piece.text.len() > UNCOUNTED_LEN_MAX {
            self.room = Some(self.shared.bounds.answer(piece.text.len()).await?);
        }
        Ok(piece)
    }
}

struct Piece {
    text: String,
    reached: Position,
    is_over: bool,
}

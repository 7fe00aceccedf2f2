//! A row that is watched: event `row` with the row, or `deleted` when there is none.

use super::{Watched, answer, event, seen_before};
use crate::failure::lost;
use crate::problem::Problem;
use crate::query::query_problem;
use crate::state::Shared;
use annals_core::{Position, to_json};
use annals_projections::{Seen, ViewHandle};
use axum::http::HeaderMap;
use axum::response::Response;
use std::time::Duration;

struct Row {
    key: String,
    /// The row as it was sent last, by its tag; empty for none.
    sent: Option<String>,
    /// What the client has seen before it came back.
    before: Option<Position>,
}

/// The row of this key, now and with every change.
pub(crate) fn live_row(
    shared: &Shared,
    view: ViewHandle,
    key: String,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let before = seen_before(headers, view.epoch());
    let row = Row {
        key,
        sent: None,
        before,
    };
    answer(shared, view, row)
}

impl Watched for Row {
    const GATHER: Duration = Duration::ZERO;

    async fn read(&mut self, view: &ViewHandle) -> Result<Option<String>, Problem> {
        let (reader, key) = (view.clone(), self.key.clone());
        let reading = tokio::task::spawn_blocking(move || reader.row(&key)).await;
        let answer = reading
            .map_err(|error| lost(&error))?
            .map_err(|error| query_problem(&error))?;
        let known = self.sent.replace(answer.etag.clone());
        if known.as_ref() == Some(&answer.etag) {
            return Ok(None);
        }
        // What was deleted leaves no trace of when: that is said again, unless nothing at all was written since.
        let changed = answer.changed.unwrap_or(answer.position);
        if self
            .before
            .take()
            .is_some_and(|before| changed <= before && before <= answer.position)
        {
            return Ok(None);
        }
        let place = Some((answer.epoch, answer.position));
        let Some(row) = answer.row else {
            return Ok(Some(event("deleted", place, "null")));
        };
        let json = to_json(&row).ok_or_else(|| {
            tracing::error!(
                view = view.definition().name(),
                key = self.key,
                "a row is not MessagePack"
            );
            Problem::internal()
        })?;
        Ok(Some(event("row", place, &json.to_string())))
    }

    fn concerns(&self, seen: &Seen) -> bool {
        seen.touches(&self.key)
    }
}

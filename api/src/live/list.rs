//! A list that is watched: event `list` with its first page, then `changes`: the rows that came in or changed, and null
//! for those that left it.

use super::{Watched, answer, event, seen_before};
use crate::answer::push_json_text;
use crate::failure::lost;
use crate::problem::Problem;
use crate::query::query_problem;
use crate::state::Shared;
use annals_core::{Position, to_json};
use annals_projections::{ListPage, ListQuery, Seen, ViewHandle};
use axum::http::HeaderMap;
use axum::response::Response;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

struct List {
    query: ListQuery,
    /// Keys of the rows as they were sent last, each with a hash of its row; `None` before the first time.
    sent: Option<HashMap<String, u64>>,
    /// What the client has seen before it came back.
    before: Option<Position>,
}

/// The first page of this list, now and with every change.
pub(crate) fn live_list(
    shared: &Shared,
    view: ViewHandle,
    query: ListQuery,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let before = seen_before(headers, view.epoch());
    let list = List {
        query,
        sent: None,
        before,
    };
    answer(shared, view, list)
}

impl Watched for List {
    const GATHER: Duration = Duration::from_millis(100);

    async fn read(&mut self, view: &ViewHandle) -> Result<Option<String>, Problem> {
        let (reader, query) = (view.clone(), self.query.clone());
        let reading = tokio::task::spawn_blocking(move || reader.list(&query)).await;
        let page = reading
            .map_err(|error| lost(&error))?
            .map_err(|error| query_problem(&error))?;
        let now: HashMap<String, u64> = page.rows.iter().map(|(key, row)| (key.clone(), hash(row))).collect();
        let Some(sent) = self.sent.replace(now) else {
            // Where nothing at all was read since, the list is as the client has it.
            let unchanged = self.before.take() == Some(page.position);
            let all = page.rows.iter().map(|(key, row)| (key.as_str(), Some(row.as_slice())));
            return Ok((!unchanged).then(|| shown("list", &page, all)));
        };
        let now = self.sent.as_ref();
        let left = sent.keys().filter(|key| now.is_some_and(|now| !now.contains_key(*key)));
        let left = left.map(|key| (key.as_str(), None));
        let news = page.rows.iter().filter(|(key, row)| sent.get(key) != Some(&hash(row)));
        let news = news.map(|(key, row)| (key.as_str(), Some(row.as_slice())));
        let mut changes = left.chain(news).peekable();
        Ok(changes.peek().is_some().then(|| shown("changes", &page, changes)))
    }

    fn concerns(&self, seen: &Seen) -> bool {
        let sent = self.sent.as_ref();
        seen.touches_list(|key| sent.is_some_and(|sent| sent.contains_key(key)))
    }
}

fn hash(row: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    row.hash(&mut hasher);
    hasher.finish()
}

/// Rows as the answer to a list shows them, with null for one that is not there any more.
fn shown<'a>(name: &str, page: &ListPage, rows: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>) -> String {
    let mut data = String::from(r#"{"rows":["#);
    for (number, (key, row)) in rows.enumerate() {
        data.push_str(if number == 0 { r#"{"key":"# } else { r#",{"key":"# });
        push_json_text(&mut data, key);
        let row = row.and_then(to_json).unwrap_or_default();
        // A text takes whatever is written to it.
        let _ = write!(data, r#","row":{row}}}"#);
    }
    let _ = write!(data, r#"],"position":"{}"}}"#, page.position);
    event(name, Some((page.epoch, page.position)), &data)
}

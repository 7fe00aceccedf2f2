//! `GET /v1/streams/{category}/{id}`: the events of one stream, page by page.

use super::live::{endless, live};
use super::page::{LIMIT_DEFAULT, LIMIT_MAX, PAGE_LEN_MAX, Page, form};
use super::scan::Filter;
use crate::answer::version_tag;
use crate::failure::{invalid_id, log_problem, lost};
use crate::live::EVENT_STREAM;
use crate::parameters::{Parameters, wrong};
use crate::path::PathParts;
use crate::problem::Problem;
use crate::state::Shared;
use annals_core::{Direction, EventLog, StreamHead, StreamId, Version};
use axum::extract::State;
use axum::http::header::{ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

/// How many records are read at a time: each may keep its block alive.
const READ_RECORDS: usize = 128;
/// Reads of up to this many records are done right here: they take less time than handing them to another thread.
const QUICK_RECORDS: u64 = 16;

/// What is asked for.
#[derive(Clone)]
struct Wanted {
    stream: StreamId,
    from: Version,
    direction: Direction,
    limit: usize,
    form: &'static str,
}

pub(crate) async fn read_stream(
    State(shared): State<Shared>,
    PathParts([category, id]): PathParts<2>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let form = form(&headers)?;
    let parameters = Parameters::of(&uri, &["from_version", "limit", "direction"])?;
    let stream = StreamId::new(&category, &id).map_err(|error| invalid_id(&error))?;
    let direction = direction(&parameters)?;
    let first = match direction {
        Direction::Forward => Version::new(1),
        Direction::Backward => Version::new(u64::MAX),
    };
    if form == EVENT_STREAM {
        if let Some(name) = ["limit", "direction"]
            .into_iter()
            .find(|name| parameters.get(name).is_some())
        {
            return Err(endless(name));
        }
        let from = parameters.parsed("from_version", "a version, as in 3")?;
        return live(&shared, Filter::of_stream(stream, from.unwrap_or(first)), &headers);
    }
    let wanted = Wanted {
        from: parameters
            .parsed("from_version", "a version, as in 3")?
            .unwrap_or(first),
        limit: parameters.limit(LIMIT_DEFAULT, LIMIT_MAX)?,
        stream,
        direction,
        form,
    };
    let head = shared
        .api
        .log
        .stream_head(&wanted.stream)
        .map_err(|error| log_problem(&error))?;
    let head = head.ok_or_else(|| unknown(&wanted.stream))?;
    let etag = version_tag(head.version);
    if headers.get(IF_NONE_MATCH) == Some(&etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, etag)]).into_response());
    }
    let quick = head.version.get() <= QUICK_RECORDS;
    let room = if quick {
        None
    } else {
        Some(shared.bounds.answer(PAGE_LEN_MAX).await?)
    };
    let (page, next) = if quick {
        read(shared.api.log.as_ref(), &wanted, head)?
    } else {
        let (log, wanted) = (std::sync::Arc::clone(&shared.api.log), wanted.clone());
        let reading = tokio::task::spawn_blocking(move || read(log.as_ref(), &wanted, head));
        reading.await.map_err(|error| lost(&error))??
    };
    let next = next.map(|version| parameters.link(uri.path(), "from_version", &version.to_string()));
    let mut response = page.into_response(&shared, form, head.position, next.as_deref());
    response.headers_mut().insert(ETAG, etag);
    if let Some(room) = room {
        room.keep(&mut response);
    }
    Ok(response)
}

fn direction(parameters: &Parameters) -> Result<Direction, Problem> {
    match parameters.get("direction") {
        None | Some("forward") => Ok(Direction::Forward),
        Some("backward") => Ok(Direction::Backward),
        Some(other) => Err(wrong("direction", other, "forward or backward")),
    }
}

/// The page, and the version that the next one begins with.
fn read<L: EventLog + ?Sized>(log: &L, wanted: &Wanted, head: StreamHead) -> Result<(Page, Option<Version>), Problem> {
    let mut page = Page::new(wanted.form, wanted.limit);
    let mut from = wanted.from;
    loop {
        let records = log.read_stream(&wanted.stream, from, wanted.direction, READ_RECORDS.min(wanted.limit));
        let records = records.map_err(|error| log_problem(&error))?;
        for record in &records {
            let record = record.view().map_err(|error| log_problem(&error.into()))?;
            let version = Version::new(record.header.version);
            // The stream may have grown since its head was read; the page and its ETag are of one moment.
            if version > head.version {
                return Ok((page, None));
            }
            page.push(log.name(), &record);
            let next = match wanted.direction {
                Direction::Forward if version < head.version => version.next(),
                Direction::Backward if version > Version::new(1) => version.previous(),
                _ => return Ok((page, None)),
            };
            if page.is_full() {
                return Ok((page, Some(next)));
            }
            from = next;
        }
        if records.is_empty() {
            return Ok((page, None));
        }
    }
}

fn unknown(stream: &StreamId) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "unknown-stream",
        "Unknown stream",
        format!("stream {stream} has no events: check its category and id, or append to it first"),
    )
    .with("stream", stream.as_str())
}

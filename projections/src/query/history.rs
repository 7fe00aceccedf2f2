//! What a row was, version by version, with the events that made the versions.

use super::run::{check_as_of, failed};
use super::types::{LIST_LIMIT_MAX, Order, QueryError};
use crate::store::{Scan, Version};
use crate::views::RunningView;
use annals_core::{Epoch, LogError, Position};
use chrono::{DateTime, Utc};
use std::sync::Arc;

/// Bytes of rows after which a page of versions ends.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Which versions of a row are asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryQuery {
    /// From the newest down, or from the oldest on.
    pub order: Order,
    /// Versions on the page; at least 1, at most [`LIST_LIMIT_MAX`], whatever is written here.
    pub limit: usize,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Whether each version comes with the one before it.
    pub with_before: bool,
}

/// What a row was, or that there was none, from one event to another.
#[derive(Debug, Clone, PartialEq)]
pub struct RowVersion {
    /// The event that made it so.
    pub from: Position,
    /// The event that ended it; `None` if it still holds.
    pub to: Option<Position>,
    /// The row as MessagePack; `None` if it was deleted.
    pub row: Option<Vec<u8>>,
    /// If asked for: the row before, `None` if there was none.
    pub before: Option<Vec<u8>>,
    /// About the event at `from`.
    pub event: EventNote,
}

/// What is told of an event beside what it did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct EventNote {
    /// Its id.
    pub id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Its stream.
    pub stream: String,
    /// When it was recorded.
    pub recorded_at: DateTime<Utc>,
    /// Who caused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
}

impl EventNote {
    /// About a record.
    pub fn of(record: &annals_core::RecordRef<'_>) -> Self {
        Self {
            id: record.header.id.to_string(),
            event_type: record.header.event_type.to_owned(),
            stream: record.header.stream.to_string(),
            recorded_at: record.recorded_at(),
            actor: record.header.actor.map(str::to_owned),
        }
    }
}

/// One page of a row's versions.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryPage {
    /// The versions; none if the view never had a row of that key.
    pub versions: Vec<RowVersion>,
    /// Asks for the next page; `None` on the last one.
    pub next_cursor: Option<String>,
    /// Versions that ended at this position or before are not kept; `None`: all are.
    pub cut_at: Option<Position>,
    /// Up to where the view has read the log.
    pub position: Position,
    /// The history that the positions belong to.
    pub epoch: Epoch,
}

/// The versions of a row that the view still has.
pub(crate) fn history(view: &Arc<RunningView>, key: &str, query: &HistoryQuery) -> Result<HistoryPage, QueryError> {
    let store = view.queried()?;
    let reader = store.rows().reader();
    let position = reader.position();
    check_as_of(view, store.rows(), position, position)?;
    let beyond = match query.cursor.as_deref().map(|cursor| u64::from_str_radix(cursor, 16)) {
        None => None,
        Some(Ok(beyond)) => Some(Position::new(beyond)),
        Some(Err(_)) => return Err(QueryError::BadCursor),
    };
    let limit = query.limit.clamp(1, LIST_LIMIT_MAX);
    let horizon = store.rows().horizon();
    let (mut found, mut bytes, mut more) = (Vec::new(), 0, false);
    let scanned = reader.versions(key, query.order == Order::Descending, beyond, &mut |version| {
        // What ended before the horizon may be there still, or not.
        if version.to.is_some_and(|to| to <= horizon) {
            return Scan::Go;
        }
        if found.len() >= limit || bytes >= PAGE_BYTES_MAX {
            more = true;
            return Scan::Stop;
        }
        bytes += version.row.as_ref().map_or(0, Vec::len);
        found.push(version);
        Scan::Go
    });
    scanned.map_err(|error| failed(view, Some(key), error))?;
    let next_cursor = found
        .last()
        .filter(|_| more)
        .map(|version: &Version| format!("{:x}", version.from.get()));
    let mut versions = Vec::with_capacity(found.len());
    for version in found {
        let before = if query.with_before && version.from > horizon {
            let before = reader.row_as_of(key, version.from.previous());
            before.map_err(|error| failed(view, Some(key), error))?
        } else {
            None
        };
        versions.push(RowVersion {
            from: version.from,
            to: version.to,
            row: version.row,
            before: before.map(|before| before.row),
            event: event(view, version.from)?,
        });
    }
    Ok(HistoryPage {
        versions,
        next_cursor,
        cut_at: Some(horizon).filter(|horizon| *horizon > Position::ZERO),
        position,
        epoch: view.progress.epoch(),
    })
}

fn event(view: &RunningView, position: Position) -> Result<EventNote, QueryError> {
    let log = &view.shared.log;
    let read = || -> Result<EventNote, LogError> {
        let gone = || LogError::Damaged {
            position,
            detail: "the event is not there any more".into(),
        };
        let record = log.read_one(position)?.ok_or_else(gone)?;
        Ok(EventNote::of(&record.view().map_err(LogError::from)?))
    };
    read().map_err(|error| match error {
        LogError::Unreachable(detail) => QueryError::LogUnreachable {
            view: view.name().to_owned(),
            detail,
        },
        error => QueryError::Storage {
            view: view.name().to_owned(),
            detail: error.to_string(),
        },
    })
}

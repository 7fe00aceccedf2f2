//! Decisions of people about the views of a query node: the command node records them in its log, where every node finds
//! them.

use super::Line;
use crate::http::{Reply, position};
use annals_core::{Append, AppendError, Appended, AppendedEvent, EventId, NewEvent, Position, Version, to_json};
use serde_json::{Value, json};
use std::io;
use std::time::Duration;
use uuid::Uuid;

/// Category of the streams that decisions stand in.
const CATEGORY: &str = "$operations";
/// How long the command node may take to record one.
const TIME_MAX: Duration = Duration::from_secs(5);
/// How often one is sent whose answer was lost. It has an id, by which it is known the second time.
const SENT_MAX: u32 = 2;

/// Has an append recorded that is a decision. Blocks.
pub(super) fn record(line: &Line, append: &Append) -> Result<Appended, AppendError> {
    let url = line.server.url();
    let [event] = &append.events[..] else {
        return Err(AppendError::Closed(elsewhere(url)));
    };
    if append.stream.category() != CATEGORY {
        return Err(AppendError::Closed(elsewhere(url)));
    }
    let nothing =
        |why: String| AppendError::Unreachable(format!("{why}. Nothing was recorded: decide again when it answers"));
    line.known().reachable().map_err(nothing)?;
    let reply = send(line, append, event)?;
    let appended = match reply.status {
        200 => appended(&reply.body).ok_or_else(|| unknown(url, "its answer cannot be read")),
        status => {
            let why = format!("{url} answers {}", reply.problem());
            Err(match status {
                400 | 413 => AppendError::Invalid(why),
                // A server of before this path was there has none.
                404 | 405 => AppendError::Closed(format!("{why}; start the command node with this program")),
                409 => AppendError::Closed(why),
                _ => nothing(why),
            })
        }
    }?;
    // The log is known to reach so far: views that are told of the decision find it.
    let mut known = line.known();
    known.head = known.head.max(appended.position);
    line.changed.notify_all();
    Ok(appended)
}

fn elsewhere(url: &str) -> String {
    format!("this node follows the log at {url} and only serves queries: send it there")
}

fn unknown(url: &str, why: &str) -> AppendError {
    AppendError::Unreachable(format!(
        "{url}: {why}. Whether the decision was recorded is unknown: take it again when the node answers, once more changes nothing"
    ))
}

fn send(line: &Line, append: &Append, event: &NewEvent) -> Result<Reply, AppendError> {
    let url = line.server.url();
    let id = event
        .id
        .as_ref()
        .map_or_else(|| Uuid::now_v7().to_string(), EventId::to_string);
    let text = json!({
        "specversion": "1.0",
        "id": id,
        "source": "annals/query-node",
        "type": event.event_type,
        "data": to_json(&event.payload),
    })
    .to_string();
    let (epoch, who) = (line.epoch.to_string(), &append.metadata);
    let said = [
        ("annals-epoch", Some(&epoch)),
        ("annals-actor", who.actor.as_ref()),
        ("annals-correlation-id", who.correlation_id.as_ref()),
        ("annals-causation-id", who.causation_id.as_ref()),
        ("traceparent", who.traceparent.as_ref()),
    ];
    let headers: Vec<_> = said
        .iter()
        .filter_map(|(name, value)| value.map(|value| (*name, value.as_str())))
        .collect();
    let path = format!("/v1/operations/{}", append.stream.id());
    let mut last = String::new();
    for sent in 1..=SENT_MAX {
        match line.server.tell(&path, &headers, text.as_bytes(), TIME_MAX) {
            Ok(reply) => return Ok(reply),
            Err(error) if sent == 1 && never_sent(&error) => {
                return Err(AppendError::Unreachable(format!(
                    "{url}: {error}. Nothing was recorded: decide again when it answers"
                )));
            }
            Err(error) => last = error.to_string(),
        }
    }
    Err(unknown(url, &last))
}

/// Whether the node was not even reached.
fn never_sent(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::ConnectionFailed | ureq::Error::HostNotFound => true,
        ureq::Error::Io(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        _ => false,
    }
}

/// What the command node says of the append.
fn appended(body: &[u8]) -> Option<Appended> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let event = |event: &Value| {
        Some(AppendedEvent {
            id: EventId::parse(event["id"].as_str()?).ok()?,
            event_type: event["type"].as_str()?.to_owned().into(),
            position: Position::new(position(event, "position")?),
        })
    };
    Some(Appended {
        version: Version::new(body["version"].as_u64()?),
        position: Position::new(position(&body, "position")?),
        events: body["events"].as_array()?.iter().map(event).collect::<Option<_>>()?,
        duplicate: false,
    })
}

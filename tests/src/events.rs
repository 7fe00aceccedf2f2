//! The log as a client reads it: pages of CloudEvents, followed to the end. Knows the envelope, not what is in it.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use crate::http::{Answer, Client};

/// One event.
#[derive(Debug, Clone, Deserialize)]
pub struct Event {
    /// Its id.
    pub id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Its stream, `category/id`.
    #[serde(rename = "subject")]
    pub stream: String,
    /// When it occurred.
    pub time: DateTime<Utc>,
    /// Its place in the log.
    #[serde(deserialize_with = "number")]
    pub position: u64,
    /// Its place in its stream.
    #[serde(rename = "streamversion", deserialize_with = "number")]
    pub version: u64,
    /// What it belongs to.
    #[serde(rename = "correlationid")]
    pub correlation: Option<String>,
    /// What it comes from.
    #[serde(rename = "causationid")]
    pub causation: Option<String>,
    /// Who did it.
    pub actor: Option<String>,
    /// What happened.
    #[serde(default)]
    pub data: Value,
}

impl Event {
    /// The id of its stream, without the category.
    #[must_use]
    pub fn stream_id(&self) -> &str {
        self.stream.split_once('/').map_or("", |(_, id)| id)
    }

    /// A text in its data; empty if there is none.
    #[must_use]
    pub fn text(&self, field: &str) -> &str {
        self.data[field].as_str().unwrap_or_default()
    }

    /// An amount of money in its data, in minor units; 0 if there is none.
    #[must_use]
    pub fn amount(&self, field: &str) -> i64 {
        self.data[field]["amount"].as_i64().unwrap_or_default()
    }
}

/// CloudEvents has no 64-bit integer: numbers are texts.
fn number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// Hands every event that the query (as in `category=orders`, may be empty) finds to `visit`, in the order of the log.
///
/// # Errors
///
/// When a page is not what it should be.
pub fn each(client: &Client, query: &str, mut visit: impl FnMut(Event) -> Result<()>) -> Result<()> {
    let mut path = format!("/v1/events?limit=1000&{query}");
    loop {
        let page = client.send(
            "GET",
            path.trim_end_matches('&'),
            &[("accept", "application/x-ndjson")],
            None,
        )?;
        let page = page.expect(200)?;
        for line in page.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let event = serde_json::from_slice(line);
            visit(event.with_context(|| format!("no CloudEvent: {}", String::from_utf8_lossy(line)))?)?;
        }
        match next(&page) {
            Some(next) => path = next,
            None => return Ok(()),
        }
    }
}

/// All events of the log, checked to stand at the positions 1, 2, 3… and their streams' events at the versions 1, 2, 3…
///
/// # Errors
///
/// When one is missing or stands where it should not.
pub fn all(client: &Client) -> Result<Vec<Event>> {
    let mut events: Vec<Event> = Vec::new();
    let mut versions: HashMap<String, u64> = HashMap::new();
    each(client, "", |event| {
        let position = events.len() as u64 + 1;
        ensure!(
            event.position == position,
            "position {} follows {}",
            event.position,
            position - 1
        );
        let version = versions.entry(event.stream.clone()).or_default();
        *version += 1;
        ensure!(
            event.version == *version,
            "position {position}: version {} of {} follows {}",
            event.version,
            event.stream,
            *version - 1
        );
        events.push(event);
        Ok(())
    })?;
    Ok(events)
}

/// The path of the next page.
#[must_use]
pub fn next(page: &Answer) -> Option<String> {
    let (target, rest) = page.header("link").strip_prefix('<')?.split_once('>')?;
    rest.contains("rel=\"next\"").then(|| target.to_owned())
}

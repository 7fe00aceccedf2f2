//! What a demonstration came to: events by type, and some rows of every view.

use super::output::{Format, Listing};
use crate::backend::Backend;
use crate::node::Node;
use annals_core::{EventLog, LogError, Position, to_json};
use annals_projections::ListQuery;
use anyhow::{Result, bail};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long views and reactors may take to catch up.
const SETTLE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(10);
/// Rows shown of each view.
const ROWS: usize = 3;
const READ_BYTES: usize = 4 << 20;

/// Waits until all views and reactors have read everything, and everything that the reactors said is in the log.
pub(super) fn settle(node: &Node) -> Result<()> {
    let begin = Instant::now();
    loop {
        let head = node.store.log().head();
        let statuses = node.projections.statuses();
        let settled = statuses
            .iter()
            .all(|status| status.position == head && status.outbox.as_ref().is_none_or(|outbox| outbox.pending == 0));
        if settled && node.store.log().head() == head {
            return Ok(());
        }
        if let Some(stopped) = statuses.iter().find(|status| status.error.is_some()) {
            bail!(
                "{} stopped: {}",
                stopped.name,
                stopped.error.as_deref().unwrap_or_default()
            );
        }
        if begin.elapsed() > SETTLE {
            bail!("views and reactors did not catch up within {} s", SETTLE.as_secs());
        }
        std::thread::sleep(POLL);
    }
}

/// Lists the events by type, then some rows of every view.
pub(super) fn show(node: &Node, backend: &Backend, format: Format) -> Result<()> {
    let mut events = Listing::stdout(format, &["type", "events"]);
    for (event_type, count) in counts(node.store.log().as_ref())? {
        events.row(&json!({ "type": event_type, "events": count }))?;
    }
    events.finish()?;
    let mut rows = Listing::stdout(format, &["view", "key", "row"]);
    for view in backend.views() {
        let Some(handle) = node.projections.view(view.name()) else {
            continue;
        };
        let page = handle.list(&ListQuery {
            limit: ROWS,
            ..ListQuery::default()
        })?;
        for (key, row) in page.rows {
            rows.row(&json!({ "view": view.name(), "key": key, "row": to_json(&row) }))?;
        }
    }
    rows.finish()?;
    Ok(())
}

fn counts(log: &dyn EventLog) -> Result<BTreeMap<String, u64>, LogError> {
    let (mut counts, mut after) = (BTreeMap::new(), Position::ZERO);
    loop {
        let blocks = log.read(after, READ_BYTES)?;
        let Some(last) = blocks.last() else { return Ok(counts) };
        for block in &blocks {
            for record in block.iter() {
                *counts.entry(record?.header.event_type.to_owned()).or_default() += 1;
            }
        }
        after = last.last();
    }
}

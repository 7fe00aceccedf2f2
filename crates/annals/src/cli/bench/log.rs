//! The log through the Rust API: appends, reads of streams, a full scan.

use super::domain::{CATEGORY, EVENT_TYPE, STREAMS, StreamIds, event_json};
use super::measure::{Measured, Worker, closed_loop, repeat};
use annals_core::{
    Append, Appender, CONTENT_TYPE_JSON, Direction, EventLog, LogError, NewEvent, Position, StreamId, Version,
};
use anyhow::Result;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of records that a scan reads at once.
const READ_BYTES: usize = 4 << 20;
/// Events that reads and rebuilds want to find: enough for a second of each.
const EVENTS_MIN: u64 = 400_000;

struct Appending {
    log: Arc<dyn Appender>,
    ids: StreamIds,
    event: NewEvent,
    events: usize,
}

impl Worker for Appending {
    async fn turn(&mut self) -> Result<u64> {
        let stream = StreamId::new(CATEGORY, &self.ids.next_id())?;
        let events = vec![self.event.clone(); self.events];
        self.log.append(Append::new(stream, events)).await?;
        Ok(self.events as u64)
    }
}

/// Appends of `events` events each, by so many tasks.
pub(super) async fn appends(
    name: &'static str,
    log: &Arc<dyn Appender>,
    tasks: usize,
    events: usize,
    time: Duration,
) -> Result<Measured> {
    let mut event = NewEvent::new(EVENT_TYPE, event_json().into_bytes());
    event.content_type = CONTENT_TYPE_JSON.into();
    let worker = |task| Appending {
        log: Arc::clone(log),
        ids: StreamIds::of(task),
        event: event.clone(),
        events,
    };
    closed_loop(name, (0..tasks).map(worker).collect(), time).await
}

/// Sees to it that there is something to read.
pub(super) async fn fill(log: &Arc<dyn Appender>) -> Result<()> {
    while log.head().get() < EVENTS_MIN {
        appends("fill", log, 8, 100, Duration::from_millis(200)).await?;
    }
    Ok(())
}

/// Reads of whole streams, or the first ten events of longer ones, by one thread.
pub(super) fn stream_reads(name: &'static str, log: &dyn EventLog, time: Duration) -> Result<Measured> {
    let mut ids = StreamIds::of(0);
    let mut missing = 0;
    repeat(name, time, || {
        let stream = StreamId::new(CATEGORY, &ids.next_id())?;
        let records = log.read_stream(&stream, Version::new(1), Direction::Forward, 10)?;
        for record in &records {
            record.view().map_err(LogError::from)?;
        }
        missing += u64::from(records.is_empty());
        anyhow::ensure!(missing < STREAMS, "there are no streams to read");
        Ok(1)
    })
}

/// The whole log again and again, every record decoded, by one thread.
pub(super) fn scan(name: &'static str, log: &dyn EventLog, time: Duration) -> Result<Measured> {
    let mut after = Position::ZERO;
    repeat(name, time, || {
        let (mut events, mut bytes) = (0, 0);
        let blocks = log.read(after, READ_BYTES)?;
        for block in &blocks {
            for record in block.iter() {
                let record = record.map_err(LogError::from)?;
                bytes += record.payload.len();
                events += 1;
            }
        }
        std::hint::black_box(bytes);
        after = blocks.last().map_or(Position::ZERO, |block| block.last());
        Ok(events)
    })
}

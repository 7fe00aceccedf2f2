//! The log through the Rust API: appends, reads of streams, scans, verification.

use super::domain::{CATEGORY, EVENT_TYPE, StreamIds};
use super::measure::{Measured, repeat};
use super::pace::{Pace, Worker, drive};
use super::payloads::Payloads;
use crate::cli::progress;
use annals_core::{
    Append, Appender, CONTENT_TYPE_JSON, Direction, EventLog, Expected, LogError, NewEvent, Position, StreamId, Version,
};
use annals_event_store::SledLog;
use anyhow::{Context, Result, ensure};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of records that a scan reads at once.
const READ_BYTES: usize = 4 << 20;
/// Category of streams that have ten events each, far apart in the log.
pub(super) const TENS_CATEGORY: &str = "bench-tens";
/// How many such streams there are.
pub(super) const TENS: usize = 2_000;
const TEN: u64 = 10;

/// One task that appends.
pub(super) struct Appending {
    log: Arc<dyn Appender>,
    ids: StreamIds,
    payloads: Payloads,
    events: usize,
}

impl Appending {
    /// The task of this number, with so many events in each append.
    pub(super) fn new(log: &Arc<dyn Appender>, task: usize, events: usize) -> Self {
        Self {
            log: Arc::clone(log),
            ids: StreamIds::of(task),
            payloads: Payloads::of(task),
            events,
        }
    }
}

impl Worker for Appending {
    async fn turn(&mut self) -> Result<u64> {
        let stream = StreamId::new(CATEGORY, &self.ids.next_id())?;
        let events = (0..self.events).map(|_| event(&mut self.payloads)).collect();
        self.log.append(Append::new(stream, events)).await?;
        Ok(self.events as u64)
    }
}

fn event(payloads: &mut Payloads) -> NewEvent {
    let mut event = NewEvent::new(EVENT_TYPE, payloads.next_json().to_vec());
    event.content_type = CONTENT_TYPE_JSON.into();
    event
}

/// Appends of `events` events each, by so many tasks.
pub(super) async fn appends(log: &Arc<dyn Appender>, tasks: usize, events: usize, pace: Pace) -> Result<Measured> {
    let workers = (0..tasks).map(|task| Appending::new(log, task, events));
    drive(workers.collect(), pace).await
}

/// Sees to it that the log has at least so many events.
pub(super) async fn fill(log: &Arc<dyn Appender>, events_min: u64) -> Result<()> {
    let pace = Pace {
        time: Duration::from_millis(200),
        rate: None,
    };
    while log.head().get() < events_min {
        appends(log, 8, 100, pace).await?;
    }
    Ok(())
}

/// Id of a stream of ten events.
pub(super) fn ten_id(number: usize) -> String {
    format!("t-{:04}", number % TENS)
}

/// Sees to it that the streams of ten events are there, no two events of one of them side by side.
pub(super) async fn fill_tens(log: &Arc<dyn Appender>) -> Result<()> {
    const TASKS: usize = 64;
    for version in 0..TEN {
        let tasks = (0..TASKS).map(|task| {
            let (log, mut payloads) = (Arc::clone(log), Payloads::of(task));
            tokio::spawn(async move {
                for number in (task..TENS).step_by(TASKS) {
                    let stream = StreamId::new(TENS_CATEGORY, &ten_id(number))?;
                    let head = log.stream_head(&stream)?.map_or(Version::ZERO, |head| head.version);
                    if head == Version::new(version) {
                        let append = Append::new(stream, vec![event(&mut payloads)]);
                        log.append(append.expecting(Expected::Exact(head))).await?;
                    }
                }
                anyhow::Ok(())
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.context("a task of the benchmark failed")??;
        }
    }
    Ok(())
}

/// Reads of whole streams of ten events, by one thread.
pub(super) fn stream_reads(log: &dyn EventLog, time: Duration) -> Result<Measured> {
    let mut number = 0;
    repeat(time, || {
        number += 1;
        let stream = StreamId::new(TENS_CATEGORY, &ten_id(number))?;
        let records = log.read_stream(&stream, Version::new(1), Direction::Forward, TEN as usize)?;
        for record in &records {
            record.view().map_err(LogError::from)?;
        }
        ensure!(
            records.len() as u64 == TEN,
            "{stream} has {} events, not {TEN}",
            records.len()
        );
        Ok(1)
    })
}

/// The whole log again and again, every record decoded, by one thread.
pub(super) fn scan(log: &dyn EventLog, time: Duration) -> Result<Measured> {
    let mut after = Position::ZERO;
    repeat(time, || {
        let (events, last) = scan_some(log, after)?;
        after = if last == log.head() { Position::ZERO } else { last };
        Ok(events)
    })
}

/// The whole log once.
pub(super) fn scan_once(log: &dyn EventLog) -> Result<u64> {
    let (mut events, mut after) = (0, Position::ZERO);
    while after < log.head() {
        let (some, last) = scan_some(log, after)?;
        (events, after) = (events + some, last);
    }
    Ok(events)
}

fn scan_some(log: &dyn EventLog, after: Position) -> Result<(u64, Position)> {
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
    Ok((events, blocks.last().map_or(log.head(), |block| block.last())))
}

/// Everything checked once.
pub(super) fn verify(log: &SledLog) -> Result<Measured> {
    let mut measured = Measured::none()?;
    let bar = progress::bar(log.head().get(), "events");
    let begin = Instant::now();
    let report = log.verify(&mut |progress| bar.set_position(progress.events))?;
    measured.elapsed = begin.elapsed();
    bar.finish_and_clear();
    measured.record(report.events, measured.elapsed);
    ensure!(
        report.problem_count == 0,
        "the log that was just written does not hold: {:?}",
        report.problems.first()
    );
    Ok(measured)
}

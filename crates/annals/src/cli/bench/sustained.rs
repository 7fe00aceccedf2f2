//! Appends until the log is large: does the rate hold?

use super::log::Appending;
use super::machine::memory_of;
use super::measure::Measured;
use super::pace::Worker;
use crate::cli::progress;
use annals_core::Appender;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

const TASKS: usize = 8;
const BATCH: usize = 100;
/// Events between two samples.
const STEP: u64 = 1_000_000;
const POLL: Duration = Duration::from_millis(10);

/// What it was like to append this million.
struct Step {
    head: u64,
    per_second: f64,
    memory_kib: u64,
}

/// Appends that filled a log.
pub(super) struct Sustained {
    pub(super) measured: Measured,
    steps: Vec<Step>,
}

impl Sustained {
    /// Rate of the last million as part of the first one's; nothing if there were not two.
    pub(super) fn last_of_first(&self) -> Option<f64> {
        match self.steps.as_slice() {
            [first, .., last] => Some(last.per_second / first.per_second),
            _ => None,
        }
    }

    /// Rate and memory of each million.
    pub(super) fn steps_json(&self) -> Value {
        let step = |step: &Step| {
            json!({
                "head": step.head,
                "per_second": step.per_second.round(),
                "memory_mib": step.memory_kib / 1024,
            })
        };
        self.steps.iter().map(step).collect()
    }
}

/// Appends until the log has `events` events; samples every million.
pub(super) async fn append_until(log: &Arc<dyn Appender>, events: u64) -> Result<Sustained> {
    let begin = (Instant::now(), log.head().get());
    let bar = progress::bar(events.saturating_sub(begin.1), "events");
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| tokio::spawn(fill(Appending::new(log, task, BATCH), Arc::clone(log), events)))
        .collect();
    let (mut steps, mut last) = (Vec::new(), begin);
    while tasks.iter().any(|task| !task.is_finished()) {
        tokio::time::sleep(POLL).await;
        let (now, head) = (Instant::now(), log.head().get());
        bar.set_position(head.saturating_sub(begin.1));
        if head - last.1 >= STEP {
            steps.push(Step {
                head,
                per_second: (head - last.1) as f64 / (now - last.0).as_secs_f64(),
                memory_kib: memory_of(std::process::id()).map_or(0, |(memory, _)| memory),
            });
            last = (now, head);
        }
    }
    bar.finish_and_clear();
    let mut measured = Measured::none()?;
    for task in tasks {
        measured.add(&task.await.context("a task of the benchmark failed")??)?;
    }
    measured.elapsed = begin.0.elapsed();
    Ok(Sustained { measured, steps })
}

async fn fill(mut worker: Appending, log: Arc<dyn Appender>, events: u64) -> Result<Measured> {
    let mut measured = Measured::none()?;
    while log.head().get() < events {
        let begin = Instant::now();
        let count = worker.turn().await?;
        measured.record(count, begin.elapsed());
    }
    Ok(measured)
}

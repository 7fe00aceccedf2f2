//! What was measured: how often, for how long, and how long each took.

use anyhow::Result;
use hdrhistogram::Histogram;
use std::time::{Duration, Instant};

/// Longest time that is told apart, nanoseconds: a minute.
const LATENCY_MAX: u64 = 60_000_000_000;

/// How fast something went.
pub(super) struct Measured {
    /// Things done: events, reads, commands.
    pub(super) count: u64,
    pub(super) elapsed: Duration,
    /// Time from request to answer, nanoseconds; in an open loop, from the scheduled time of the request.
    pub(super) latency: Histogram<u64>,
    /// What was asked of an open loop.
    pub(super) open: Option<OpenLoop>,
}

/// How an open loop kept its schedule.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenLoop {
    /// Calls a second that were scheduled.
    pub(super) asked: f64,
    /// Calls that were scheduled and never made, because the rest came so late.
    pub(super) missed: u64,
    /// Whether all were made about as fast as they were scheduled.
    pub(super) kept: bool,
}

impl Measured {
    /// Nothing yet.
    pub(super) fn none() -> Result<Self> {
        Ok(Self {
            count: 0,
            elapsed: Duration::ZERO,
            latency: Histogram::new_with_bounds(1, LATENCY_MAX, 3)?,
            open: None,
        })
    }

    /// So many things done at once.
    pub(super) fn record(&mut self, count: u64, took: Duration) {
        self.count += count;
        self.latency.saturating_record(nanoseconds(took));
    }

    /// With what another task measured in the same time.
    pub(super) fn add(&mut self, other: &Self) -> Result<()> {
        self.count += other.count;
        self.latency.add(&other.latency)?;
        Ok(())
    }

    /// Things a second.
    pub(super) fn rate(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }

    /// The time within which this part of all calls was answered, in microseconds.
    pub(super) fn micros(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1_000.0
    }
}

/// Does something blocking again and again, at least once, on this thread.
pub(super) fn repeat(time: Duration, mut turn: impl FnMut() -> Result<u64>) -> Result<Measured> {
    let mut measured = Measured::none()?;
    let begin = Instant::now();
    loop {
        let turn_begin = Instant::now();
        let count = turn()?;
        measured.record(count, turn_begin.elapsed());
        measured.elapsed = begin.elapsed();
        if measured.elapsed >= time {
            return Ok(measured);
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(LATENCY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_longer_than_its_time_is_done_once() {
        let measured = repeat(Duration::ZERO, || Ok(7)).unwrap();
        assert_eq!((measured.count, measured.latency.len()), (7, 1));
    }
}

//! Closed loops and what they measured: each task asks again when it has its answer.

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::future::Future;
use std::time::{Duration, Instant};

/// Longest time that is told apart, nanoseconds: a minute.
const LATENCY_MAX: u64 = 60_000_000_000;

/// How fast something went.
pub(super) struct Measured {
    pub(super) name: &'static str,
    /// Things done: events, reads, commands.
    pub(super) count: u64,
    pub(super) elapsed: Duration,
    /// Time from request to answer, nanoseconds.
    pub(super) latency: Histogram<u64>,
}

/// Something that is done again and again.
pub(super) trait Worker: Send + 'static {
    /// Does it once; how many things that were.
    fn turn(&mut self) -> impl Future<Output = Result<u64>> + Send;
}

/// Lets all workers go on, each on a task of its own, until the time is over.
pub(super) async fn closed_loop<W: Worker>(name: &'static str, workers: Vec<W>, time: Duration) -> Result<Measured> {
    let begin = Instant::now();
    let tasks: Vec<_> = workers
        .into_iter()
        .map(|worker| tokio::spawn(turns(worker, begin + time)))
        .collect();
    let mut all = Measured {
        name,
        count: 0,
        elapsed: Duration::ZERO,
        latency: histogram()?,
    };
    for task in tasks {
        let (count, latency) = task.await.context("a task of the benchmark failed")??;
        all.count += count;
        all.latency.add(&latency)?;
    }
    all.elapsed = begin.elapsed();
    Ok(all)
}

async fn turns(mut worker: impl Worker, end: Instant) -> Result<(u64, Histogram<u64>)> {
    let (mut count, mut latency) = (0, histogram()?);
    loop {
        let begin = Instant::now();
        if begin >= end {
            return Ok((count, latency));
        }
        count += worker.turn().await?;
        latency.saturating_record(nanoseconds(begin.elapsed()));
    }
}

/// Does something blocking again and again, at least once, on this thread.
pub(super) fn repeat(name: &'static str, time: Duration, mut turn: impl FnMut() -> Result<u64>) -> Result<Measured> {
    let mut measured = Measured {
        name,
        count: 0,
        elapsed: Duration::ZERO,
        latency: histogram()?,
    };
    let begin = Instant::now();
    loop {
        let turn_begin = Instant::now();
        measured.count += turn()?;
        measured.latency.saturating_record(nanoseconds(turn_begin.elapsed()));
        measured.elapsed = begin.elapsed();
        if measured.elapsed >= time {
            return Ok(measured);
        }
    }
}

fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LATENCY_MAX, 3)?)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(LATENCY_MAX)
}

impl Measured {
    /// Things a second.
    pub(super) fn rate(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }

    /// A row of the report; `raw` is the baseline that it is compared with.
    pub(super) fn row(&self, raw: Option<&Self>) -> Value {
        let microseconds = |quantile| round(self.latency.value_at_quantile(quantile) as f64 / 1_000.0);
        let p50 = |of: &Self| of.latency.value_at_quantile(0.5).max(1) as f64;
        json!({
            "what": self.name,
            "per_second": self.rate().round(),
            "p50_us": microseconds(0.5),
            "p99_us": microseconds(0.99),
            "p999_us": microseconds(0.999),
            "rate_of_raw": raw.map(|raw| round(self.rate() / raw.rate())),
            "p50_of_raw": raw.map(|raw| round(p50(self) / p50(raw))),
            "count": self.count,
            "seconds": round(self.elapsed.as_secs_f64()),
        })
    }
}

/// Two digits after the point.
fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sleeper;

    impl Worker for Sleeper {
        async fn turn(&mut self) -> Result<u64> {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(2)
        }
    }

    #[test]
    fn what_takes_longer_than_its_time_is_done_once() {
        let measured = repeat("once", Duration::ZERO, || Ok(7)).unwrap();
        assert_eq!((measured.count, measured.latency.len()), (7, 1));
    }

    #[tokio::test]
    async fn a_closed_loop_counts_what_its_workers_do() {
        let workers = vec![Sleeper, Sleeper];
        let measured = closed_loop("sleep", workers, Duration::from_millis(60)).await.unwrap();
        assert!((4..=52).contains(&measured.count), "{}", measured.count);
        let row = measured.row(Some(&measured));
        assert_eq!(
            (row["rate_of_raw"].as_f64(), row["p50_of_raw"].as_f64()),
            (Some(1.0), Some(1.0))
        );
        assert!(row["p50_us"].as_f64().unwrap() >= 5_000.0, "{row}");
    }
}

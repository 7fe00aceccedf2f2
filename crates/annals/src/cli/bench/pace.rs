//! How load comes. Closed loop: each client asks again when it has its answer. Open loop: calls are scheduled at a fixed
//! rate, whether or not the ones before are answered, and are timed from when they should have been made.
//!
//! A closed loop asks less of a server that is slow, and so does not see how long others would have waited (coordinated
//! omission). The open loop does.

use super::measure::{Measured, OpenLoop};
use anyhow::{Context, Result};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// How long calls that are late may go on after the last one was due, at least.
const LATE_MIN: Duration = Duration::from_secs(1);
/// Part of the asked rate that counts as kept.
const KEPT: f64 = 0.99;
/// Shortest sleep of the clock that releases calls: it then releases several at once.
const TICK: Duration = Duration::from_micros(50);

/// How load comes, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) time: Duration,
    /// Calls a second of an open loop; absent, the loop is closed.
    pub(super) rate: Option<f64>,
}

/// A client: something that is done again and again.
pub(super) trait Worker: Send + 'static {
    /// Does it once; how many things that were.
    fn turn(&mut self) -> impl Future<Output = Result<u64>> + Send;
}

/// Lets all workers go on, each on a task of its own, until the time is over. In an open loop, as many calls as there
/// are workers are under way at most; what is due beyond that waits, and its time counts.
pub(super) async fn drive<W: Worker>(workers: Vec<W>, pace: Pace) -> Result<Measured> {
    let begin = Instant::now();
    let schedule = pace
        .rate
        .map(|rate| Schedule::start(begin, rate, pace.time, workers.len()));
    let schedule = schedule.transpose()?;
    let tasks: Vec<_> = workers
        .into_iter()
        .map(|worker| match &schedule {
            None => tokio::spawn(again_and_again(worker, begin + pace.time)),
            Some(schedule) => tokio::spawn(as_scheduled(worker, Arc::clone(schedule))),
        })
        .collect();
    let mut all = Measured::none()?;
    let mut failed = Ok(());
    for task in tasks {
        match task.await.context("a task of the benchmark failed")? {
            Ok(measured) => all.add(&measured)?,
            Err(error) => failed = failed.and(Err(error)),
        }
        if let (Some(schedule), Err(_)) = (&schedule, &failed) {
            schedule.due.close();
        }
    }
    failed?;
    all.elapsed = begin.elapsed();
    if let Some(schedule) = &schedule {
        schedule.settle(&mut all);
    }
    Ok(all)
}

async fn again_and_again(mut worker: impl Worker, end: Instant) -> Result<Measured> {
    let mut measured = Measured::none()?;
    loop {
        let begin = Instant::now();
        if begin >= end {
            return Ok(measured);
        }
        let count = worker.turn().await?;
        measured.record(count, begin.elapsed());
    }
}

async fn as_scheduled(mut worker: impl Worker, schedule: Arc<Schedule>) -> Result<Measured> {
    let mut measured = Measured::none()?;
    // Closed means that another client failed.
    while let Ok(due) = schedule.due.acquire().await {
        due.forget();
        if Instant::now() > schedule.give_up {
            break;
        }
        let number = schedule.next.fetch_add(1, Ordering::Relaxed);
        if number >= schedule.calls {
            break;
        }
        let count = worker.turn().await?;
        measured.record(count, schedule.at(number).elapsed());
    }
    Ok(measured)
}

/// When each call is due.
struct Schedule {
    begin: Instant,
    rate: f64,
    calls: u64,
    give_up: Instant,
    next: AtomicU64,
    due: Semaphore,
}

impl Schedule {
    /// Calls at this rate for this time, released by a thread of its own: a runtime's timer ticks in milliseconds.
    fn start(begin: Instant, rate: f64, time: Duration, workers: usize) -> Result<Arc<Self>> {
        let schedule = Arc::new(Self {
            begin,
            rate,
            calls: ((time.as_secs_f64() * rate) as u64).max(1),
            give_up: begin + time + time.max(LATE_MIN),
            next: AtomicU64::new(0),
            due: Semaphore::new(0),
        });
        let clock = Arc::clone(&schedule);
        std::thread::Builder::new()
            .name("bench-clock".into())
            .spawn(move || clock.release(workers))
            .context("cannot start a thread")?;
        Ok(schedule)
    }

    /// When the call of this number is due, from 0.
    fn at(&self, number: u64) -> Instant {
        self.begin + Duration::from_secs_f64(number as f64 / self.rate)
    }

    fn release(&self, workers: usize) {
        let mut released = 0;
        while released < self.calls && !self.due.is_closed() {
            let due = (self.begin.elapsed().as_secs_f64() * self.rate) as u64 + 1;
            let due = due.min(self.calls);
            self.due.add_permits((due - released) as usize);
            released = due;
            let wait = self.at(released).saturating_duration_since(Instant::now());
            std::thread::sleep(wait.clamp(TICK, Duration::from_millis(100)));
        }
        // Whoever finds no call left ends.
        self.due.add_permits(workers);
    }

    /// Counts what was never made as slow as it would have been at least, and says whether the rate was kept.
    fn settle(&self, all: &mut Measured) {
        let made = all.latency.len();
        for number in made..self.calls {
            all.record(0, self.give_up.saturating_duration_since(self.at(number)));
        }
        let achieved = made as f64 / all.elapsed.as_secs_f64().max(f64::EPSILON);
        let missed = self.calls.saturating_sub(made);
        all.open = Some(OpenLoop {
            asked: self.rate,
            missed,
            kept: missed == 0 && achieved >= self.rate * KEPT,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so long, for its first call only, and does two things a call.
    struct Stalls(Duration);

    impl Worker for Stalls {
        async fn turn(&mut self) -> Result<u64> {
            tokio::time::sleep(std::mem::take(&mut self.0)).await;
            Ok(2)
        }
    }

    struct Fails;

    impl Worker for Fails {
        async fn turn(&mut self) -> Result<u64> {
            anyhow::bail!("the server is gone")
        }
    }

    fn pace(millis: u64, rate: Option<f64>) -> Pace {
        let time = Duration::from_millis(millis);
        Pace { time, rate }
    }

    fn slower_than(measured: &Measured, millis: u64) -> u64 {
        measured.latency.count_between(millis * 1_000_000, u64::MAX)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_closed_loop_does_not_see_those_who_would_have_waited() {
        let workers = vec![Stalls(Duration::from_millis(300))];
        let measured = drive(workers, pace(300, None)).await.unwrap();
        assert_eq!(measured.count, measured.latency.len() * 2);
        assert!(slower_than(&measured, 299) >= 1, "the call that stalled");
        assert!(measured.open.is_none());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_open_loop_times_calls_from_when_they_were_due() {
        let workers = vec![Stalls(Duration::from_millis(300))];
        let measured = drive(workers, pace(300, Some(100.0))).await.unwrap();
        assert_eq!(measured.latency.len(), 30, "every call that was due is counted");
        // Those due in the first 200 ms had to wait for the first one at least 100 ms.
        assert!(slower_than(&measured, 99) >= 20, "{}", slower_than(&measured, 99));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_rate_that_cannot_be_kept_is_said() {
        let workers = vec![Stalls(Duration::from_millis(2500))];
        let measured = drive(workers, pace(100, Some(1000.0))).await.unwrap();
        let open = measured.open.unwrap();
        assert!(!open.kept && open.missed > 0, "{open:?}");
        assert_eq!(measured.latency.len(), 100, "what was never made counts as slow");
        assert!(slower_than(&measured, 900) >= 99, "{}", slower_than(&measured, 900));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_client_that_fails_ends_the_loop_with_its_error() {
        for rate in [None, Some(100.0)] {
            let error = drive(vec![Fails, Fails], pace(100, rate)).await.err().unwrap();
            assert!(error.to_string().contains("server is gone"), "{error}");
        }
    }
}

//! How long things took, counted without a lock, for whoever watches.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts durations in ranges. Adding one is two additions to atomics; nothing is ever reset.
#[derive(Debug)]
pub struct Histogram {
    /// Upper ends of the ranges in microseconds, ascending.
    bounds: &'static [u64],
    /// One for each range and one for what is longer.
    counts: Box<[AtomicU64]>,
    sum_nanos: AtomicU64,
}

/// What a [`Histogram`] had counted at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HistogramSnapshot {
    /// Upper end of each range in seconds, and how many durations were at most as long.
    pub up_to: Vec<(f64, u64)>,
    /// How many durations there were.
    pub count: u64,
    /// Their sum in seconds.
    pub sum: f64,
}

impl Histogram {
    /// An empty one with ranges up to these microseconds, ascending.
    pub fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum_nanos: AtomicU64::new(0),
        }
    }

    /// Counts a duration.
    pub fn add(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let range = self.bounds.partition_point(|bound| bound.saturating_mul(1_000) < nanos);
        if let Some(count) = self.counts.get(range) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// What was counted so far. Counts that are added meanwhile may be in it or not.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let mut count = 0;
        let mut up_to = Vec::with_capacity(self.bounds.len());
        for (at, of_range) in self.counts.iter().enumerate() {
            count += of_range.load(Ordering::Relaxed);
            if let Some(bound) = self.bounds.get(at) {
                up_to.push((*bound as f64 / 1_000_000.0, count));
            }
        }
        HistogramSnapshot {
            up_to,
            count,
            sum: self.sum_nanos.load(Ordering::Relaxed) as f64 / 1_000_000_000.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_in_the_range_that_they_end_in() {
        let histogram = Histogram::new(&[100, 1_000]);
        for micros in [1, 100, 101, 5_000] {
            histogram.add(Duration::from_micros(micros));
        }
        let seen = histogram.snapshot();
        assert_eq!(seen.up_to, [(0.0001, 2), (0.001, 3)]);
        assert_eq!(seen.count, 4);
        assert!((seen.sum - 0.005_202).abs() < 1e-9, "{}", seen.sum);
    }
}

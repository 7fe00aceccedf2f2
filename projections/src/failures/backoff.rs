//! Pauses between attempts: each twice as long as the one before, spread so that not all come back at once.

use std::time::Duration;

/// How often something that fails is tried, and how long the pauses are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    pub(crate) attempts_max: u32,
    pub(crate) pause_min: Duration,
    pub(crate) pause_max: Duration,
}

impl Backoff {
    /// The pause after so many attempts; none when that was the last one.
    pub(crate) fn after(&self, attempts: u32, seed: u64) -> Option<Duration> {
        (attempts < self.attempts_max).then(|| self.pause(attempts, seed))
    }

    /// The pause after so many attempts, however many may come. Differs with the seed by a quarter up or down.
    pub(crate) fn pause(&self, attempts: u32, seed: u64) -> Duration {
        let doubled = self
            .pause_min
            .saturating_mul(1 << attempts.saturating_sub(1).min(16))
            .min(self.pause_max);
        let spread = (seed
            .wrapping_add(u64::from(attempts))
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            >> 32)
            % 50;
        doubled.mul_f64(0.75 + spread as f64 / 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_end_with_the_last_attempt() {
        let backoff = Backoff {
            attempts_max: 12,
            pause_min: Duration::from_millis(50),
            pause_max: Duration::from_secs(5),
        };
        for seed in 0..200 {
            let pauses: Vec<Duration> = (1..12).filter_map(|attempts| backoff.after(attempts, seed)).collect();
            assert_eq!(pauses.len(), 11);
            assert!(pauses[0] >= Duration::from_micros(37_500) && pauses[0] < Duration::from_micros(62_500));
            assert!(pauses.iter().all(|pause| *pause < Duration::from_millis(6_250)));
            assert!(pauses[9] >= Duration::from_millis(3_750), "{pauses:?}");
        }
        assert_eq!(backoff.after(12, 1), None);
        let spread: std::collections::HashSet<Duration> = (0..50).map(|seed| backoff.pause(3, seed)).collect();
        assert!(spread.len() > 10, "not all come back at once");
    }
}

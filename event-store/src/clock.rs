//! The log's time: the wall clock, but never backwards, and never far ahead of what the monotonic clock allows.

use annals_core::AppendError;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How far the wall clock may be ahead of the log's time and what the monotonic clock counted since.
const JUMP_MAX: Duration = Duration::from_secs(60);

/// Microseconds since 1970; zero for a clock set before that.
pub(crate) fn wall_micros() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Stamps appends. A clock that jumped ahead stays refused until the log is opened again, because times already given
/// out cannot be taken back.
pub(crate) struct LogClock {
    last: i64,
    /// The latest time that was seen, and when: a clock that was set back may be set right again.
    latest: (Instant, i64),
    jumped: Option<u64>,
    /// How far it was set ahead of the wall clock, for tests.
    ahead: i64,
}

impl LogClock {
    /// A clock that goes on after the last recorded time.
    pub(crate) fn new(last: i64) -> Self {
        Self {
            last,
            latest: (Instant::now(), wall_micros().max(last)),
            jumped: None,
            ahead: 0,
        }
    }

    /// Sets the clock ahead, as if so much time had gone by.
    pub(crate) fn advance(&mut self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.ahead = self.ahead.saturating_add(micros);
        self.latest.1 = self.latest.1.saturating_add(micros);
    }

    /// The recorded time for appends made now, microseconds since 1970.
    pub(crate) fn now(&mut self) -> Result<i64, AppendError> {
        self.at(Instant::now(), wall_micros().saturating_add(self.ahead))
    }

    fn at(&mut self, monotonic: Instant, wall: i64) -> Result<i64, AppendError> {
        let elapsed = monotonic.duration_since(self.latest.0).as_micros() as i64;
        let ahead = wall.saturating_sub(self.latest.1).saturating_sub(elapsed);
        if ahead > JUMP_MAX.as_micros() as i64 {
            self.jumped = Some(ahead as u64 / 1_000_000);
        }
        if let Some(seconds) = self.jumped {
            return Err(AppendError::ClockJumped { seconds });
        }
        if ahead >= 0 {
            self.latest = (monotonic, wall);
        }
        self.last = self.last.max(wall);
        Ok(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_runs_backwards_and_a_jump_ahead_is_refused_for_good() {
        let mut clock = LogClock::new(0);
        let (start, wall) = clock.latest;
        assert_eq!(clock.at(start, wall).unwrap(), wall);
        assert_eq!(clock.at(start, wall - 10_000_000).unwrap(), wall);
        let later = start + Duration::from_secs(5);
        assert!(clock.at(later, wall + 5_000_000).is_ok());
        assert!(matches!(
            clock.at(later, wall + 90_000_000),
            Err(AppendError::ClockJumped { seconds: 85 })
        ));
        assert!(clock.at(later, wall + 5_000_000).is_err());
    }
    #[test]
    fn a_clock_that_is_set_back_and_right_again_never_ran_ahead() {
        let mut clock = LogClock::new(0);
        let (start, wall) = clock.latest;
        let hour = 3_600_000_000;
        assert_eq!(clock.at(start, wall).unwrap(), wall);
        for second in 1..20 {
            let (later, passed) = (start + Duration::from_secs(second), second as i64 * 1_000_000);
            // Set back by an hour, and right again, every other second.
            let back = if second % 2 == 1 { hour } else { 0 };
            let time = clock.at(later, wall + passed - back).unwrap();
            assert!((wall..=wall + passed).contains(&time));
        }
        let later = start + Duration::from_secs(20);
        let jump = clock.at(later, wall + 100_000_000);
        assert!(
            matches!(jump, Err(AppendError::ClockJumped { seconds: 80 })),
            "{jump:?}"
        );
    }

    #[test]
    fn a_log_whose_time_is_ahead_waits_for_the_clock_to_catch_up() {
        let hour = 3_600_000_000;
        let ahead = wall_micros() + hour;
        let mut clock = LogClock::new(ahead);
        let start = clock.latest.0;
        assert_eq!(clock.at(start, ahead - hour).unwrap(), ahead);
        // Set to what the log says already: nothing runs ahead of it.
        assert_eq!(clock.at(start, ahead).unwrap(), ahead);
        assert!(clock.at(start, ahead + 61_000_000).is_err());
    }

    #[test]
    fn a_clock_that_was_set_ahead_goes_on_from_there() {
        let mut clock = LogClock::new(0);
        let before = clock.now().unwrap();
        let week = Duration::from_secs(7 * 24 * 60 * 60);
        clock.advance(week);
        assert!(clock.now().unwrap() >= before + week.as_micros() as i64);
    }
}

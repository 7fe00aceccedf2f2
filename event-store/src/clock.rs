//! The log's time: the wall clock, but never backwards, and never far ahead of the monotonic clock.

use annals_core::AppendError;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How far the wall clock may run ahead of the monotonic clock between two looks.
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
    seen: (Instant, i64),
    jumped: Option<u64>,
}

impl LogClock {
    /// A clock that goes on after the last recorded time.
    pub(crate) fn new(last: i64) -> Self {
        Self {
            last,
            seen: (Instant::now(), wall_micros()),
            jumped: None,
        }
    }

    /// The recorded time for appends made now, microseconds since 1970.
    pub(crate) fn now(&mut self) -> Result<i64, AppendError> {
        self.at(Instant::now(), wall_micros())
    }

    fn at(&mut self, monotonic: Instant, wall: i64) -> Result<i64, AppendError> {
        let elapsed = monotonic.duration_since(self.seen.0).as_micros() as i64;
        let ahead = wall.saturating_sub(self.seen.1).saturating_sub(elapsed);
        if ahead > JUMP_MAX.as_micros() as i64 {
            self.jumped = Some(ahead as u64 / 1_000_000);
        }
        if let Some(seconds) = self.jumped {
            return Err(AppendError::ClockJumped { seconds });
        }
        self.seen = (monotonic, wall);
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
        let (start, wall) = clock.seen;
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
}

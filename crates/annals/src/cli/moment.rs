//! Places in a history as the command line names them: a position, or a time.

use annals_core::{EventLog, Position};
use anyhow::{Result, bail};
use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use std::str::FromStr;

/// `--at`: a position, or a recorded time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// After the event at this position.
    Position(Position),
    /// After everything that was recorded up to then.
    Time(DateTime<Utc>),
}

impl Moment {
    /// The position that is meant; one beyond the end of the log is an error.
    pub(crate) fn position(self, log: &dyn EventLog) -> Result<Position> {
        match self {
            Self::Time(time) => Ok(log.position_at(time)?),
            Self::Position(position) if position > log.head() => {
                bail!(
                    "position {position} is beyond the end of the log, which is {}",
                    log.head()
                )
            }
            Self::Position(position) => Ok(position),
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text
                .parse()
                .map(Self::Position)
                .map_err(|_| format!("{text} is larger than any position"));
        }
        time(text)
            .map(Self::Time)
            .map_err(|error| format!("{error}; a position is a number"))
    }
}

/// A time: RFC 3339, or without an offset in UTC, or a date, which is its beginning.
pub(crate) fn time(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    let formats = [
        "%Y-%m-%dT%H:%M:%S%.f",
        "%Y-%m-%d %H:%M:%S%.f",
        "%Y-%m-%dT%H:%M",
        "%Y-%m-%d %H:%M",
    ];
    let local = formats
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let date = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
    local
        .or_else(date)
        .map(|time| time.and_utc())
        .ok_or_else(|| "write a time as 2017-10-02T10:56:33Z, 2017-10-02T10:56:33 (UTC) or 2017-10-02".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_position_or_a_time() {
        assert_eq!("42".parse(), Ok(Moment::Position(Position::new(42))));
        let noon: DateTime<Utc> = "2017-10-02T12:00:00Z".parse().unwrap();
        for text in [
            "2017-10-02T12:00:00Z",
            "2017-10-02T14:00:00+02:00",
            "2017-10-02 12:00:00",
            "2017-10-02T12:00",
        ] {
            assert_eq!(text.parse(), Ok(Moment::Time(noon)), "{text}");
        }
        assert_eq!(
            "2017-10-02".parse(),
            Ok(Moment::Time(noon - chrono::TimeDelta::hours(12)))
        );
        for text in ["yesterday", "", "-1", "99999999999999999999999"] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }
}

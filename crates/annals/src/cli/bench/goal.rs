//! Goals, and whether what was measured reaches them.

use super::entry::Entry;
use serde_json::{Value, json};

/// Something that a measurement is to reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Goal {
    /// At least so many things a second.
    PerSecond(f64),
    /// Half of all answers come within so many times what the raw disk takes.
    P50OfRaw(f64),
    /// 99 of 100 answers come within so many milliseconds.
    P99Millis(f64),
    /// The value is at least so much.
    AtLeast(f64),
    /// The value is at most so much.
    AtMost(f64),
}

/// What became of a goal.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Judged {
    /// The goal in words.
    pub(super) text: String,
    /// What was found, as part of the goal.
    pub(super) of_goal: f64,
    pub(super) met: bool,
}

impl Goal {
    /// Compares; `None` where the measurement does not say anything about it, such as the most that is possible when
    /// less was asked for.
    pub(super) fn judge(self, entry: &Entry) -> Option<Judged> {
        let measured = entry.measured.as_ref();
        let (found, bound, text, least) = match self {
            Self::PerSecond(bound) => {
                let measured = measured.filter(|measured| measured.open.is_none())?;
                (measured.rate(), bound, format!("≥ {bound}/s"), true)
            }
            Self::P50OfRaw(bound) => {
                let found = entry.p50_of_raw()?;
                (found, bound, format!("p50 ≤ {bound} raw"), false)
            }
            Self::P99Millis(bound) => {
                let found = measured?.micros(0.99) / 1_000.0;
                (found, bound, format!("p99 ≤ {bound} ms"), false)
            }
            Self::AtLeast(bound) => {
                let value = entry.value?;
                (value.number, bound, format!("≥ {bound} {}", value.unit), true)
            }
            Self::AtMost(bound) => {
                let value = entry.value?;
                (value.number, bound, format!("≤ {bound} {}", value.unit), false)
            }
        };
        let met = if least { found >= bound } else { found <= bound };
        let of_goal = found / bound;
        Some(Judged { text, of_goal, met })
    }
}

impl Judged {
    /// As it stands in a report.
    pub(super) fn json(&self) -> Value {
        json!({ "goal": self.text, "of_goal": round(self.of_goal), "met": self.met })
    }
}

/// Two digits after the point.
pub(super) fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

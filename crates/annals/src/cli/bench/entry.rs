//! One row of the report: what was measured, beside the raw disk and the goal.

use super::goal::{Judged, round};
use super::measure::Measured;
use super::scenario::What;
use serde_json::{Map, Value, json};

/// What is found that is not a rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Found {
    pub(super) number: f64,
    pub(super) unit: &'static str,
}

/// One row.
pub(super) struct Entry {
    name: String,
    words: String,
    what: Option<What>,
    pub(super) measured: Option<Measured>,
    pub(super) value: Option<Found>,
    raw: Option<Raw>,
    details: Map<String, Value>,
}

/// What is needed of a baseline.
#[derive(Debug, Clone, Copy)]
struct Raw {
    rate: f64,
    p50: f64,
}

impl Entry {
    fn empty(name: String, words: String, what: Option<What>) -> Self {
        Self {
            name,
            words,
            what,
            measured: None,
            value: None,
            raw: None,
            details: Map::new(),
        }
    }

    /// A row for a scenario that measured a rate.
    pub(super) fn measured(what: What, measured: Measured) -> Self {
        let mut entry = Self::empty(what.name(), what.words(), Some(what));
        entry.measured = Some(measured);
        entry
    }

    /// A row for a scenario that found a value.
    pub(super) fn found(what: What, number: f64, unit: &'static str) -> Self {
        let mut entry = Self::empty(what.name(), what.words(), Some(what));
        entry.value = Some(Found { number, unit });
        entry
    }

    /// A row that others are compared with.
    pub(super) fn baseline(name: &str, words: &str, measured: Measured) -> Self {
        let mut entry = Self::empty(name.to_owned(), words.to_owned(), None);
        entry.measured = Some(measured);
        entry
    }

    /// With a value beside the rate.
    pub(super) fn with_value(mut self, number: f64, unit: &'static str) -> Self {
        self.value = Some(Found { number, unit });
        self
    }

    /// Compared with this baseline.
    pub(super) fn beside(mut self, raw: &Measured) -> Self {
        self.raw = Some(Raw {
            rate: raw.rate(),
            p50: raw.micros(0.5),
        });
        self
    }

    /// With something more that only a report says.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// Half of the answers came within so many times what the raw disk takes.
    pub(super) fn p50_of_raw(&self) -> Option<f64> {
        let (measured, raw) = (self.measured.as_ref()?, self.raw?);
        Some(measured.micros(0.5) / raw.p50.max(0.001))
    }

    fn judged(&self) -> Vec<Judged> {
        let goals = self.what.map_or(&[][..], What::goals);
        goals.iter().filter_map(|goal| goal.judge(self)).collect()
    }

    /// What is to be said to whoever waits.
    pub(super) fn warning(&self) -> Option<String> {
        let open = self.measured.as_ref()?.open.filter(|open| !open.kept)?;
        Some(format!(
            "{}: {} calls a second could not be kept, {} were never made; they count as slow",
            self.name, open.asked, open.missed
        ))
    }

    /// The row.
    pub(super) fn json(&self) -> Value {
        let mut row = Map::new();
        let mut set = |name: &str, value: Value| {
            if !value.is_null() {
                row.insert(name.to_owned(), value);
            }
        };
        set("what", json!(self.name));
        set("words", json!(self.words));
        if let Some(measured) = &self.measured {
            let micros = |quantile| json!(round(measured.micros(quantile)));
            set("per_second", json!(measured.rate().round()));
            set("p50_us", micros(0.5));
            set("p90_us", micros(0.9));
            set("p99_us", micros(0.99));
            set("p999_us", micros(0.999));
            set("max_us", json!(round(measured.latency.max() as f64 / 1_000.0)));
            set("count", json!(measured.count));
            set("seconds", json!(round(measured.elapsed.as_secs_f64())));
            set(
                "rate_of_raw",
                json!(self.raw.map(|raw| round(measured.rate() / raw.rate))),
            );
            set("p50_of_raw", json!(self.p50_of_raw().map(round)));
            if let Some(open) = measured.open {
                set("asked_per_second", json!(open.asked));
                set("missed", json!(open.missed));
                set("rate_kept", json!(open.kept));
            }
        }
        if let Some(value) = self.value {
            set("value", json!(round(value.number)));
            set("unit", json!(value.unit));
            set("found", json!(format!("{} {}", round(value.number), value.unit)));
        }
        let judged = self.judged();
        if !judged.is_empty() {
            let joined = |part: fn(&Judged) -> String| judged.iter().map(part).collect::<Vec<_>>().join(", ");
            set("goal", json!(joined(|goal| goal.text.clone())));
            set("of_goal", json!(joined(|goal| round(goal.of_goal).to_string())));
            set("met", json!(judged.iter().all(|goal| goal.met)));
            set("goals", judged.iter().map(Judged::json).collect());
        }
        row.extend(self.details.clone());
        Value::Object(row)
    }
}

#[cfg(test)]
mod tests {
    use super::super::measure::OpenLoop;
    use super::*;
    use std::time::Duration;

    /// So many calls in a second, each of which took so long.
    fn measured(calls: u64, took: Duration) -> Measured {
        let mut measured = Measured::none().unwrap();
        (0..calls).for_each(|_| measured.record(1, took));
        measured.elapsed = Duration::from_secs(1);
        measured
    }

    #[test]
    fn a_row_stands_beside_its_baseline_and_its_goals() {
        let raw = measured(100, Duration::from_micros(100));
        let row = Entry::measured(What::Rest64, measured(50_000, Duration::from_millis(10)))
            .beside(&raw)
            .json();
        assert_eq!(
            (row["rate_of_raw"].as_f64(), row["what"].as_str()),
            (Some(500.0), Some("rest-64"))
        );
        assert!((row["p50_of_raw"].as_f64().unwrap() - 100.0).abs() < 1.0, "{row}");
        assert_eq!(row["goal"], "≥ 40000/s, p99 ≤ 5 ms");
        assert_eq!(row["met"], false, "fast, and too late: {row}");
        assert_eq!(row["goals"][0]["met"], true);
        assert_eq!(row["goals"][1]["met"], false);
    }

    #[test]
    fn a_value_is_held_against_its_bound() {
        let row = Entry::found(What::Disk, 118.0, "bytes/event").with("files", 3).json();
        assert_eq!((&row["met"], &row["found"]), (&json!(true), &json!("118 bytes/event")));
        assert_eq!(row["files"], 3);
        assert_eq!(Entry::found(What::Disk, 131.0, "bytes/event").json()["met"], false);
    }

    #[test]
    fn an_open_loop_is_not_held_against_the_most_that_is_possible() {
        let mut slow = measured(10, Duration::from_micros(100));
        slow.open = Some(OpenLoop {
            asked: 20.0,
            missed: 10,
            kept: false,
        });
        let entry = Entry::measured(What::Append64, slow);
        assert!(entry.json().get("met").is_none(), "{}", entry.json());
        let said = entry.warning().unwrap();
        assert!(
            said.contains("20 calls a second") && said.contains("10 were never made"),
            "{said}"
        );
    }

    #[test]
    fn every_scenario_has_a_name_and_words() {
        use clap::ValueEnum;
        for what in What::value_variants() {
            assert!(!what.name().is_empty() && what.words().len() > 10, "{what:?}");
        }
    }
}

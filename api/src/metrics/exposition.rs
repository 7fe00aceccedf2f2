//! The text format of Prometheus, version 0.0.4: families of samples with help and type. Knows nothing of what they mean.

use annals_core::HistogramSnapshot;
use std::fmt::{Display, Write as _};

/// Content type of the format.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A name and a value.
pub(crate) type Label<'a> = (&'a str, &'a str);

/// A text under construction. Samples of one family must follow each other.
#[derive(Default)]
pub(crate) struct Exposition(String);

impl Exposition {
    /// Begins a family of counters; by convention its name ends in `_total`.
    pub(crate) fn counters(&mut self, name: &str, help: &str) {
        self.family(name, "counter", help);
    }

    /// Begins a family of gauges.
    pub(crate) fn gauges(&mut self, name: &str, help: &str) {
        self.family(name, "gauge", help);
    }

    /// Begins a family of histograms.
    pub(crate) fn histograms(&mut self, name: &str, help: &str) {
        self.family(name, "histogram", help);
    }

    /// A family of one counter without labels.
    pub(crate) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.counters(name, help);
        self.sample(name, &[], value);
    }

    /// A family of one gauge without labels.
    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.gauges(name, help);
        self.sample(name, &[], value);
    }

    /// One sample of the family that was begun last.
    pub(crate) fn sample(&mut self, name: &str, labels: &[Label<'_>], value: impl Display) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            self.0.push(if at == 0 { '{' } else { ',' });
            self.0.push_str(label);
            self.0.push_str("=\"");
            self.escaped(text);
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        // A text takes whatever is written to it.
        let _ = writeln!(self.0, " {value}");
    }

    /// One histogram of the family that was begun last.
    pub(crate) fn histogram(&mut self, name: &str, labels: &[Label<'_>], of: &HistogramSnapshot) {
        let bucket = format!("{name}_bucket");
        let bounds = of.up_to.iter().map(|(up_to, count)| (up_to.to_string(), *count));
        for (bound, count) in bounds.chain([("+Inf".to_owned(), of.count)]) {
            let mut bounded = labels.to_vec();
            bounded.push(("le", &bound));
            self.sample(&bucket, &bounded, count);
        }
        self.sample(&format!("{name}_sum"), labels, of.sum);
        self.sample(&format!("{name}_count"), labels, of.count);
    }

    /// The whole text.
    pub(crate) fn finish(self) -> String {
        self.0
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // A text takes whatever is written to it.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn escaped(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                other => self.0.push(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_have_help_type_and_escaped_labels() {
        let mut text = Exposition::default();
        text.gauges("annals_lag_seconds", "Age.");
        text.sample("annals_lag_seconds", &[("view", "a\"b\\c\nd"), ("kind", "view")], 0.5);
        text.counter("annals_events_total", "Events.", 7);
        assert_eq!(
            text.finish(),
            "# HELP annals_lag_seconds Age.\n# TYPE annals_lag_seconds gauge\n\
             annals_lag_seconds{view=\"a\\\"b\\\\c\\nd\",kind=\"view\"} 0.5\n\
             # HELP annals_events_total Events.\n# TYPE annals_events_total counter\nannals_events_total 7\n"
        );
    }

    #[test]
    fn a_histogram_ends_with_all_sum_and_count() {
        let mut text = Exposition::default();
        let snapshot = HistogramSnapshot {
            up_to: vec![(0.001, 2), (0.01, 3)],
            count: 4,
            sum: 1.5,
        };
        text.histogram("t_seconds", &[("a", "b")], &snapshot);
        let lines = "t_seconds_bucket{a=\"b\",le=\"0.001\"} 2\nt_seconds_bucket{a=\"b\",le=\"0.01\"} 3\n\
                     t_seconds_bucket{a=\"b\",le=\"+Inf\"} 4\nt_seconds_sum{a=\"b\"} 1.5\nt_seconds_count{a=\"b\"} 4\n";
        assert_eq!(text.finish(), lines);
    }
}

//! A strict reader of the text format of Prometheus: what a scraper could stumble over is an error.

use std::collections::{BTreeMap, BTreeSet};

/// All samples of a text: name with labels as written, and value.
pub(crate) type Samples = BTreeMap<String, f64>;

/// Reads a text; panics with the line that breaks a rule.
pub(crate) fn read(text: &str) -> Samples {
    assert!(text.ends_with('\n'), "the last line has no end");
    let (mut samples, mut seen) = (Samples::new(), BTreeSet::new());
    let mut family: Option<(String, String)> = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
            assert!(help.ends_with('.'), "help is no sentence: {line}");
            let of_type = lines.next().and_then(|line| line.strip_prefix("# TYPE "));
            let (typed, kind) = of_type.and_then(|rest| rest.split_once(' ')).unwrap();
            assert_eq!(typed, name, "help and type of one family stand together");
            assert!(seen.insert(name.to_owned()), "{name} comes twice");
            let total = name.ends_with("_total");
            assert_eq!(total, kind == "counter", "{name} is a {kind}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            family = Some((name.to_owned(), kind.to_owned()));
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        let name = series.split('{').next().unwrap();
        check_labels(series);
        let (of, kind) = family.as_ref().unwrap();
        let parts = ["_bucket", "_sum", "_count"];
        let base = match kind.as_str() {
            "histogram" => parts.iter().find_map(|part| name.strip_suffix(part)).unwrap(),
            _ => name,
        };
        assert_eq!(base, of, "a sample outside its family: {line}");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        assert!(value.is_finite() && value >= 0.0, "{line}");
        assert!(samples.insert(series.to_owned(), value).is_none(), "twice: {line}");
    }
    check_histograms(&samples);
    samples
}

fn check_labels(series: &str) {
    let name = series.split('{').next().unwrap();
    let fine = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_';
    assert!(!name.is_empty() && name.chars().all(fine), "{series}");
    let Some(labels) = series.strip_prefix(name).filter(|labels| !labels.is_empty()) else {
        return;
    };
    let labels = labels
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .unwrap();
    for label in labels.split("\",") {
        let (name, value) = label.split_once("=\"").unwrap_or_else(|| panic!("{series}"));
        assert!(name.chars().all(fine), "{series}");
        assert!(!value.trim_end_matches('"').contains('\n'), "{series}");
    }
}

/// Every bucket holds those before it, and the last one all.
fn check_histograms(samples: &Samples) {
    for (series, count) in samples.iter().filter(|(series, _)| series.contains("_count")) {
        let all = series.replacen("_count", "_bucket", 1);
        let mut buckets: Vec<(f64, f64)> = samples
            .iter()
            .filter_map(|(series, count)| {
                let (labels, bound) = series.trim_end_matches("\"}").rsplit_once("le=\"")?;
                let labels = labels.trim_end_matches([',', '{']);
                let bound = if bound == "+Inf" {
                    f64::INFINITY
                } else {
                    bound.parse().unwrap()
                };
                (labels == all.trim_end_matches('}')).then_some((bound, *count))
            })
            .collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        assert!(
            buckets.is_sorted_by(|one, other| one.1 <= other.1),
            "{series}: {buckets:?}"
        );
        let (bound, last) = buckets.last().unwrap_or_else(|| panic!("{series} has no buckets"));
        assert_eq!((*bound, last), (f64::INFINITY, count), "{series}");
    }
}

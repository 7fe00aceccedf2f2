//! The benchmark measures, reports, keeps its schedule and its hands off other logs. How fast anything is, is not tested.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper that fails fails its test")]

mod common;

use common::{Served, annals, run, run_with};
use serde_json::Value;
use std::path::Path;

const SCENARIOS: [&str; 20] = [
    "append-1",
    "append-64",
    "append-batches",
    "rest-1",
    "rest-64",
    "rest-views",
    "view-lag",
    "append-sustained",
    "scan",
    "verify",
    "stream-reads",
    "rest-stream-reads",
    "rebuild",
    "rebuild-orders",
    "catch-up",
    "as-of",
    "rebuild-live",
    "open-killed",
    "rss",
    "disk",
];
const BASELINES: [&str; 6] = [
    "raw-1",
    "raw-100",
    "raw-http-64",
    "rebuild-orders-history",
    "as-of-now",
    "rebuild-live-without",
];

fn report(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn row<'a>(rows: &'a [Value], name: &str) -> &'a Value {
    let mut found = rows.iter().filter(|row| row["what"] == name);
    let row = found.next().unwrap_or_else(|| panic!("{name} is not in {rows:#?}"));
    assert!(found.next().is_none(), "{name} is there twice");
    row
}

#[test]
fn every_scenario_is_measured_beside_its_baseline_and_reported_with_its_goal() {
    let dir = tempfile::tempdir().unwrap();
    let arguments =
        "bench --data kept --seconds 0.1 --events 100000 --events-min 20000 --report bench.json --format json";
    let ran = run(dir.path(), arguments).exits(0);
    let report = report(&dir.path().join("bench.json"));
    let rows = report["scenarios"].as_array().unwrap();
    assert_eq!(&ran.lines(), rows, "what is shown is what is reported");
    for name in SCENARIOS.iter().chain(&BASELINES) {
        let row = row(rows, name);
        assert!(
            row["per_second"].as_f64().or(row["value"].as_f64()).unwrap() > 0.0,
            "{row}"
        );
    }
    assert_eq!(rows.len(), SCENARIOS.len() + BASELINES.len());
    assert_eq!(row(rows, "rest-64")["goals"].as_array().unwrap().len(), 2);
    assert!(row(rows, "append-1")["p50_of_raw"].as_f64().unwrap() > 0.0);
    for name in ["open-killed", "rss", "disk"] {
        let row = row(rows, name);
        assert!(
            row["events"].as_u64().unwrap() >= 20_000 && row["met"].is_boolean(),
            "{row}"
        );
    }
    assert!(report["machine"]["cores"].as_u64().unwrap() >= 1 && report["error"].is_null());

    let again = run(dir.path(), "bench --data kept --seconds 0.1 --only scan --format json").exits(0);
    assert_eq!(
        again.lines().len(),
        1,
        "a log that was kept can be read again: {}",
        again.out
    );
    run(dir.path(), "verify --data kept").exits(0);
}

#[test]
fn an_open_loop_makes_as_many_calls_as_were_scheduled() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = "bench --only append-64 --rate 100 --seconds 0.5 --format json";
    let lines = run(dir.path(), arguments).exits(0).lines();
    let row = row(&lines, "append-64");
    assert_eq!(row["asked_per_second"], 100.0);
    assert_eq!(
        row["count"].as_u64().unwrap() + row["missed"].as_u64().unwrap(),
        50,
        "{row}"
    );
    assert!(row.get("met").is_none(), "a rate that was asked for is no limit: {row}");
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "the temporary log is gone"
    );
}

#[test]
fn a_log_of_another_domain_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    run_with(annals(), dir.path(), "load -", &common::three_orders()).exits(0);
    let before = run(dir.path(), "events --format json").exits(0).out;
    run(dir.path(), "bench --data annals-data --only append-1")
        .exits(2)
        .says("commerce");
    assert_eq!(run(dir.path(), "events --format json").exits(0).out, before);
}

#[test]
fn what_cannot_be_measured_is_refused_with_what_to_write() {
    let dir = tempfile::tempdir().unwrap();
    for (arguments, says) in [
        ("bench --rate 0", "--rate"),
        ("bench --rate 1e99", "--rate"),
        ("bench --rate nan", "--rate"),
        ("bench --rate 1e7 --seconds 1e4", "fewer a second"),
        ("bench --seconds 1e12", "--seconds"),
        ("bench --seconds 0", "--seconds"),
        ("bench --seconds inf", "--seconds"),
        ("bench --events 0", "--events is out of bounds"),
        ("bench --events 18446744073709551615", "--events is out of bounds"),
        ("bench --report nowhere/bench.json", "cannot write the report"),
        ("bench --report .", "cannot write the report"),
        ("bench --in-flight 0", "--in-flight"),
        ("bench --in-flight 1000000", "--in-flight"),
        ("bench --only append-sustained", "--events N"),
        ("bench --only everything", "append-64"),
        ("bench --url x", "http://127.0.0.1:8080"),
        ("bench --url http://127.0.0.1:1", "no server"),
    ] {
        run(dir.path(), arguments).exits(2).says(says);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_report_is_not_written_into_a_data_directory_and_one_that_is_there_is_kept_until_the_end() {
    let dir = tempfile::tempdir().unwrap();
    run_with(annals(), dir.path(), "load -", &common::three_orders()).exits(0);
    let identity = std::fs::read(dir.path().join("annals-data/annals.json")).unwrap();
    run(dir.path(), "bench --report annals-data/annals.json")
        .exits(2)
        .says("name a file elsewhere");
    assert_eq!(
        std::fs::read(dir.path().join("annals-data/annals.json")).unwrap(),
        identity
    );
    std::fs::write(dir.path().join("bench.json"), "of yesterday").unwrap();
    run(dir.path(), "bench --url http://127.0.0.1:1 --report bench.json").exits(2);
    let report = report(&dir.path().join("bench.json"));
    assert!(report["error"].is_string(), "a run that failed says why: {report}");
}

#[test]
fn what_a_killed_run_left_is_removed_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let entries = || std::fs::read_dir(dir.path()).unwrap().count();
    let mut killed = annals()
        .args(["bench", "--only", "append-1", "--seconds", "600"])
        .current_dir(dir.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let begun = std::time::Instant::now();
    let open = || {
        let inside = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().path().join("data/log/manifest.json");
        std::fs::read_dir(dir.path())
            .unwrap()
            .any(|entry| inside(entry).exists())
    };
    while !open() {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "it did not begin");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let measure = "bench --only append-1 --seconds 0.01 --format json";
    run(dir.path(), measure).exits(0);
    assert_eq!(entries(), 1, "one that runs is left alone");
    killed.kill().unwrap();
    killed.wait().unwrap();
    run(dir.path(), measure).exits(0).says("had left");
    assert_eq!(entries(), 0, "one that was killed is not");
}

#[test]
fn a_running_server_is_measured_through_its_url() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(annals(), dir.path(), "serve");
    let arguments = format!(
        "bench --url {} --rate 200 --seconds 0.2 --format json",
        served.command_url
    );
    let lines = run(dir.path(), &arguments).exits(0).lines();
    assert_eq!(row(&lines, "rest-append-64")["asked_per_second"], 200.0);
    assert!(row(&lines, "raw-http-64")["per_second"].as_f64().unwrap() > 0.0);
}

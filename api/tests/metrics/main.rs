//! `/metrics`: what a scraper reads, and that it is true.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

#[path = "../common/mod.rs"]
mod common;
mod exposition;

use annals_api::{ApiState, command_api, query_api};
use annals_core::{Appender, EventLog};
use annals_event_store::{DataDir, LogSettings, OpenOptions, SledLog};
use annals_projections::{ProjectionSettings, Projections, ViewDefinition};
use common::*;
use exposition::Samples;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Both APIs of one backend on a log that is stored.
struct Bank {
    command: Server,
    query: Server,
    projections: Projections,
    _held: DataDir,
    _dir: tempfile::TempDir,
}

impl Drop for Bank {
    fn drop(&mut self) {
        self.projections.shutdown();
    }
}

fn bank() -> Bank {
    let dir = tempfile::tempdir().unwrap();
    let options = OpenOptions {
        create: true,
        name: Some("bank"),
        ..OpenOptions::default()
    };
    let held = DataDir::open(&dir.path().join("data"), options).unwrap();
    let log = Arc::new(SledLog::open(&held, LogSettings::default()).unwrap());
    let commands = commands_on(Arc::clone(&log) as Arc<dyn Appender>);
    let projections = Projections::start(
        Arc::clone(&log) as Arc<dyn EventLog>,
        Arc::clone(commands.catalog()),
        vec![ViewDefinition::of(Balances)],
        Vec::new(),
        None,
        ProjectionSettings::new(dir.path().join("views"), dir.path().join("reactors")),
    )
    .unwrap();
    let mut state = ApiState::new(commands);
    state.projections = Some(projections.clone());
    state.log_metrics = Some(Arc::new(move || log.metrics()));
    Bank {
        command: Server::start(state.clone(), command_api),
        query: Server::start(state, query_api),
        projections,
        _held: held,
        _dir: dir,
    }
}

fn scrape(server: &Server) -> Samples {
    let answer = server.get("/metrics");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    exposition::read(&answer.text())
}

#[track_caller]
fn value(samples: &Samples, series: &str) -> f64 {
    *samples
        .get(series)
        .unwrap_or_else(|| panic!("{series} is not in {:#?}", samples.keys()))
}

fn requests(api: &str, route: &str, method: &str, status: &str) -> String {
    format!("annals_http_requests_total{{api=\"{api}\",route=\"{route}\",method=\"{method}\",status=\"{status}\"}}")
}

#[test]
fn the_log_says_what_was_appended_refused_and_synced() {
    let bank = bank();
    let before = scrape(&bank.command);
    for name in ["appends", "events", "groups", "conflicts", "duplicates"] {
        assert_eq!(value(&before, &format!("annals_log_{name}_total")), 0.0, "{name}");
    }
    bank.command.open("acc-1");
    let again = [("idempotency-key", "k-1")];
    for _ in 0..2 {
        let path = "/v1/commands/accounts/acc-1/deposit";
        assert_eq!(bank.command.post_with(path, &again, r#"{"amount":5}"#).status, 200);
    }
    let stale = [("if-match", "\"9\"")];
    let path = "/v1/commands/accounts/acc-1/deposit";
    assert_eq!(bank.command.post_with(path, &stale, r#"{"amount":5}"#).status, 412);
    let after = scrape(&bank.command);
    assert_eq!(value(&after, "annals_log_appends_total"), 2.0);
    assert_eq!(value(&after, "annals_log_events_total"), 2.0);
    assert_eq!(value(&after, "annals_log_head_position"), 2.0);
    assert_eq!(value(&after, "annals_log_groups_total"), 2.0);
    assert_eq!(value(&after, "annals_log_sync_seconds_count"), 2.0);
    assert!(value(&after, "annals_log_sync_seconds_sum") > 0.0);
    assert!(value(&after, "annals_log_synced_bytes_total") > 100.0);
    assert_eq!(value(&after, "annals_log_queue_appends"), 0.0);
    assert_eq!(
        value(&after, "annals_log_index_lag_events"),
        2.0,
        "so few stay in memory"
    );
    assert_eq!(value(&after, "annals_log_failed"), 0.0);
    assert!(value(&after, "annals_log_volumes") >= 1.0);
    for cache in ["blocks", "stream-heads", "index"] {
        assert!(value(&after, &format!("annals_log_cache_capacity{{cache=\"{cache}\"}}")) > 0.0);
    }
    let info = after.keys().find(|series| series.starts_with("annals_info{")).unwrap();
    assert!(
        info.contains("log=\"bank\"") && info.contains("engine=\"sled\""),
        "{info}"
    );
    assert!(value(&after, "process_resident_memory_bytes") > 1_000_000.0);
    assert!(value(&after, "process_open_fds") > 3.0 && value(&after, "process_threads") > 1.0);
}

#[test]
fn a_conflict_that_the_writer_finds_is_counted() {
    let bank = bank();
    let log = bank.command.commands.log();
    let stream = annals_core::StreamId::new("notes", "n-1").unwrap();
    let append = || {
        let event = annals_core::NewEvent::new("Noted", vec![0x80]);
        annals_core::Append::new(stream.clone(), vec![event]).expecting(annals_core::Expected::None)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(log.append(append())).unwrap();
    runtime.block_on(log.append(append())).unwrap_err();
    let samples = scrape(&bank.query);
    assert_eq!(value(&samples, "annals_log_conflicts_total"), 1.0);
    assert_eq!(value(&samples, "annals_log_refused_total{reason=\"conflict\"}"), 1.0);
    assert_eq!(value(&samples, "annals_log_refused_total{reason=\"overloaded\"}"), 0.0);
}

#[test]
fn requests_are_counted_by_route_and_never_by_what_was_asked_for() {
    let bank = bank();
    for number in 0..20 {
        bank.command.open(&format!("acc-{number}"));
        assert_eq!(
            bank.command.get(&format!("/v1/streams/accounts/acc-{number}")).status,
            200
        );
        assert_eq!(bank.command.get(&format!("/nothing/{number}")).status, 404);
        assert_eq!(
            bank.command
                .request("DELETE", &format!("/gone-{number}"), &[], b"")
                .status,
            404
        );
        assert_eq!(bank.query.get(&format!("/v1/views/view-{number}/x")).status, 404);
    }
    let samples = scrape(&bank.command);
    let execute = "/v1/commands/{aggregate}/{id}/{command}";
    let stream = "/v1/streams/{category}/{id}";
    assert_eq!(value(&samples, &requests("command", execute, "POST", "2xx")), 20.0);
    assert_eq!(value(&samples, &requests("command", stream, "GET", "2xx")), 20.0);
    assert_eq!(value(&samples, &requests("command", "none", "GET", "4xx")), 20.0);
    assert_eq!(value(&samples, &requests("command", "none", "other", "4xx")), 20.0);
    assert_eq!(
        value(&samples, &requests("query", "/v1/views/{view}/{key}", "GET", "4xx")),
        20.0
    );
    let time = format!("annals_http_request_seconds_count{{api=\"command\",route=\"{execute}\",method=\"POST\"}}");
    assert_eq!(value(&samples, &time), 20.0);
    let series = samples
        .keys()
        .filter(|series| series.starts_with("annals_http_requests_total"));
    assert_eq!(series.clone().count(), 5, "{:#?}", series.collect::<Vec<_>>());
    assert_eq!(
        value(&scrape(&bank.command), &requests("command", "/metrics", "GET", "2xx")),
        1.0
    );
}

#[test]
fn views_say_how_far_they_are() {
    let bank = bank();
    bank.command.open("acc-1");
    bank.command.deposit("acc-1", 7);
    let of = |name: &str| format!("annals_projection_{name}{{projection=\"balances\",kind=\"view\"}}");
    let begin = Instant::now();
    let samples = loop {
        let samples = scrape(&bank.query);
        if value(&samples, &of("position")) == 2.0 {
            break samples;
        }
        assert!(begin.elapsed() < Duration::from_secs(30), "the view does not follow");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(value(&samples, &of("lag_events")), 0.0);
    assert_eq!(value(&samples, &of("lag_seconds")), 0.0);
    let state =
        |state: &str| format!("annals_projection_state{{projection=\"balances\",kind=\"view\",state=\"{state}\"}}");
    assert_eq!(value(&samples, &state("running")), 1.0);
    assert_eq!(value(&samples, &state("stopped")), 0.0);
}

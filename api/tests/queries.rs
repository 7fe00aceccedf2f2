//! The query API: rows, lists, waiting for one's own writes, and views that stop.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod common;

use annals_api::{ApiState, query_api};
use annals_core::{Appender, EventLog};
use annals_event_store::MemoryLog;
use annals_projections::{ProjectionSettings, Projections, ViewDefinition};
use common::*;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Command API and query API of one backend.
struct Bank {
    command: Server,
    query: Server,
    projections: Projections,
    _dir: tempfile::TempDir,
}

impl Drop for Bank {
    fn drop(&mut self) {
        self.projections.shutdown();
    }
}

fn bank() -> Bank {
    let dir = tempfile::tempdir().unwrap();
    let log: Arc<dyn Appender> = Arc::new(MemoryLog::new("bank"));
    let command = command_server_on(Arc::clone(&log));
    let settings = ProjectionSettings::new(dir.path().join("views"), dir.path().join("reactors"));
    let read: Arc<dyn EventLog> = log;
    let catalog = Arc::clone(command.commands.catalog());
    let views = vec![ViewDefinition::of(Balances)];
    let projections = Projections::start(read, catalog, views, Vec::new(), None, settings).unwrap();
    let mut state = ApiState::new(command.commands.clone());
    state.projections = Some(projections.clone());
    Bank {
        query: Server::start(state, query_api),
        command,
        projections,
        _dir: dir,
    }
}

impl Bank {
    /// An account with this balance; the position it was written at.
    fn account(&self, id: &str, owner: &str, balance: u64) -> u64 {
        let open = format!(r#"{{"owner":"{owner}","holder_name":"x"}}"#);
        assert_eq!(
            self.command
                .post(&format!("/v1/commands/accounts/{id}/open"), &open)
                .status,
            200
        );
        let answer = self.command.deposit(id, balance);
        answer.header("annals-position").unwrap().parse().unwrap()
    }

    fn keys(&self, query: &str) -> Vec<String> {
        let answer = self.query.get(&format!("/v1/views/balances?{query}"));
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        let rows = answer.json();
        rows["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["key"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[test]
fn a_row_is_read_right_after_its_command() {
    let bank = bank();
    let position = bank.account("acc-1", "ann", 50);
    let answer = bank
        .query
        .get(&format!("/v1/views/balances/acc-1?min_position={position}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json(), json!({"balance": 50, "owner": "ann", "entries": 2}));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        (answer.header("annals-position"), answer.header("annals-lag")),
        (Some("2"), Some("0"))
    );
    assert_eq!(
        answer.header("annals-epoch").unwrap(),
        bank.command.commands.log().epoch().to_string()
    );
    let etag = answer.header("etag").unwrap().to_owned();
    let again = bank
        .query
        .request("GET", "/v1/views/balances/acc-1", &[("if-none-match", &etag)], b"");
    assert_eq!(
        (again.status, again.body.len(), again.header("etag")),
        (304, 0, Some(etag.as_str()))
    );
    let position = bank
        .command
        .deposit("acc-1", 1)
        .header("annals-position")
        .unwrap()
        .to_owned();
    let path = format!("/v1/views/balances/acc-1?min_position={position}");
    let changed = bank.query.request("GET", &path, &[("if-none-match", &etag)], b"");
    assert_eq!((changed.status, &changed.json()["balance"]), (200, &json!(51)));
}

#[test]
fn what_there_is_not_is_said_with_how_far_the_view_is() {
    let bank = bank();
    let position = bank.account("acc-1", "ann", 5);
    let missing = bank
        .query
        .get(&format!("/v1/views/balances/none?min_position={position}"));
    assert_eq!(missing.is_problem(404, "unknown-row", "min_position")["position"], "2");
    assert_eq!(missing.header("annals-position"), Some("2"));
    let view = bank
        .query
        .get("/v1/views/cars/c-1")
        .is_problem(404, "unknown-view", "balances");
    assert_eq!(view["known"], json!(["balances"]));
    bank.query
        .get("/v1/views/cars")
        .is_problem(404, "unknown-view", "balances");
    bank.query
        .post("/v1/projections/cars/rebuild", "")
        .is_problem(404, "unknown-view", "balances");
    bank.query
        .get("/v1/commands")
        .is_problem(404, "not-found", "command API");
    let method = bank.query.post("/v1/views/balances", "");
    method.is_problem(405, "method-not-allowed", "GET");
    assert!(method.header("allow").unwrap().contains("GET"));
}

#[test]
fn a_view_that_does_not_get_there_in_time_says_how_far_it_is() {
    let bank = bank();
    bank.account("acc-1", "ann", 5);
    bank.query.get("/v1/views/balances/acc-1?min_position=2");
    let begun = Instant::now();
    let behind = bank.query.get("/v1/views/balances/acc-1?min_position=99&wait=100");
    let problem = behind.is_problem(503, "view-behind", "has read up to position 2");
    assert!((100..1500).contains(&begun.elapsed().as_millis()));
    assert_eq!(
        (&problem["position"], &problem["min_position"]),
        (&json!("2"), &json!("99"))
    );
    assert!(behind.header("retry-after").is_some());
    for query in [
        "min_position=x",
        "min_position=1&wait=soon",
        "min_position=1&wait=999999",
        "min=1",
    ] {
        let answer = bank.query.get(&format!("/v1/views/balances/acc-1?{query}"));
        answer.is_problem(400, "invalid-parameter", "");
    }
}

#[test]
fn lists_run_by_key_and_by_index_page_by_page() {
    let bank = bank();
    for number in 0..9 {
        bank.account(
            &format!("acc-{number}"),
            if number % 3 == 0 { "ann" } else { "bob" },
            100 - number,
        );
    }
    assert_eq!(bank.keys("min_position=18").len(), 9);
    assert_eq!(bank.keys("owner=ann"), ["acc-0", "acc-3", "acc-6"]);
    assert_eq!(bank.keys("balance=98"), ["acc-2"]);
    assert_eq!(bank.keys("balance.from=98"), ["acc-2", "acc-1", "acc-0"]);
    assert_eq!(bank.keys("balance.from=98&order=desc"), ["acc-0", "acc-1", "acc-2"]);
    assert_eq!(bank.keys("balance.from=94&balance.to=95"), ["acc-6", "acc-5"]);
    assert_eq!(bank.keys("balance.to=92"), ["acc-8"]);
    let mut found = Vec::new();
    let mut path = "/v1/views/balances?limit=4&balance.from=0".to_owned();
    loop {
        let page = bank.query.get(&path);
        let body = page.json();
        assert_eq!(body["position"], "18");
        found.extend(
            body["rows"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| row["row"]["balance"].as_u64().unwrap()),
        );
        let Some(link) = page.header("link") else {
            assert_eq!(body["next_cursor"], Value::Null);
            break;
        };
        assert!(body["next_cursor"].is_string());
        path = link.strip_prefix('<').unwrap().split_once('>').unwrap().0.to_owned();
    }
    assert_eq!(found, (92..=100).collect::<Vec<_>>());
    for (query, says) in [
        ("colour=red", "balance.from"),
        ("balance=many", "whole number"),
        ("balance=1&owner=ann", "one index at a time"),
        ("balance=1&balance.to=2", "either balance"),
        ("order=up", "asc or desc"),
        ("limit=0", "1 to 1000"),
    ] {
        bank.query
            .get(&format!("/v1/views/balances?{query}"))
            .is_problem(400, "invalid-parameter", says);
    }
    bank.query
        .get("/v1/views/balances?cursor=bad")
        .is_problem(400, "invalid-cursor", "next_cursor");
}

#[test]
fn views_and_projections_are_listed() {
    let bank = bank();
    bank.account("acc-1", "ann", 5);
    bank.query.get("/v1/views/balances/acc-1?min_position=2");
    let views = bank.query.get("/v1/views").json();
    assert_eq!(
        views["views"][0],
        json!({"name": "balances", "version": 1, "position": "2", "history": true,
            "indexes": [{"name": "balance", "kind": "number"}, {"name": "owner", "kind": "text"}]})
    );
    let status = &bank.query.get("/v1/projections").json()["projections"][0];
    assert_eq!(
        (&status["name"], &status["kind"], &status["state"]),
        (&json!("balances"), &json!("view"), &json!("running"))
    );
    assert_eq!(
        (&status["position"], &status["head"], &status["lag_events"]),
        (&json!("2"), &json!("2"), &json!(0))
    );
    assert_eq!(bank.query.get("/readyz").status, 200);
}

#[test]
fn a_rebuild_runs_beside_the_serving_view() {
    let bank = bank();
    let position = bank.account("acc-1", "ann", 5);
    let row = format!("/v1/views/balances/acc-1?min_position={position}");
    let before = bank.query.get(&row).json();
    let begun = bank.query.post("/v1/projections/balances/rebuild", "");
    assert_eq!(
        (begun.status, begun.header("location")),
        (202, Some("/v1/projections/balances/rebuild")),
        "{}",
        begun.text()
    );
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let status = bank.query.get("/v1/projections/balances/rebuild").json();
        assert_eq!(bank.query.get(&row).json(), before);
        if status["state"] == "done" && status["total"] == "2" {
            break;
        }
        assert!(Instant::now() < deadline && status["state"] != "failed", "{status}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_is_asked_of_a_rebuild_stands_in_the_query_and_not_in_a_body() {
    let bank = bank();
    let position = bank.account("acc-1", "ann", 5);
    bank.query
        .get(&format!("/v1/views/balances/acc-1?min_position={position}"));
    let untouched = |path: &str, body: &str, says: &str| {
        bank.query.post(path, body).is_problem(400, "invalid-parameter", says);
    };
    for body in [r#"{"compare":true,"swap":false}"#, r#"{"colour":"red"}"#, "zz", "[]"] {
        untouched("/v1/projections/balances/rebuild", body, "compare, swap");
        untouched("/v1/projections/rebuild", body, "views, compare, swap");
        untouched("/v1/projections/balances/swap", body, "compare");
        for verb in [
            "rollback",
            "rebuild/pause",
            "rebuild/resume",
            "rebuild/cancel",
            "rebuild/drop",
        ] {
            untouched(&format!("/v1/projections/balances/{verb}"), body, "leave it out");
        }
    }
    // None of them began.
    let status = bank.query.get("/v1/projections/balances/rebuild");
    assert!(
        status.status == 404 || status.json()["swap"] == true,
        "{}",
        status.text()
    );
    assert_eq!(bank.query.post("/v1/projections/balances/rebuild", " {} ").status, 202);
}

#[test]
fn a_node_is_ready_once_its_views_have_rows() {
    let dir = tempfile::tempdir().unwrap();
    let log = FailingLog::new();
    let command = command_server_on(log.clone());
    command.open("acc-1");
    log.reachable(false);
    let settings = ProjectionSettings::new(dir.path().join("views"), dir.path().join("reactors"));
    let catalog = Arc::clone(command.commands.catalog());
    let views = vec![ViewDefinition::of(Balances)];
    let projections = Projections::start(log.clone(), catalog, views, Vec::new(), None, settings).unwrap();
    let mut state = ApiState::new(command.commands.clone());
    state.projections = Some(projections.clone());
    let query = Server::start(state, query_api);
    query
        .get("/readyz")
        .is_problem(503, "not-ready", "balances (rebuilding)");
    query
        .get("/v1/views/balances")
        .is_problem(503, "view-unavailable", "rebuilding");
    log.reachable(true);
    let deadline = Instant::now() + Duration::from_secs(30);
    while query.get("/readyz").status != 200 {
        assert!(Instant::now() < deadline, "{}", query.get("/readyz").text());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(query.get("/v1/views/balances").status, 200);

    // What only the log can say is not to be had while it is out of reach, and everything else is.
    log.reachable(false);
    let time = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    for path in [
        format!("balances?as_of={time}"),
        format!("balances/acc-1?as_of={time}"),
        "balances/acc-1/history".into(),
    ] {
        let refused = query.get(&format!("/v1/views/{path}"));
        refused.is_problem(503, "log-unreachable", "the node of a test");
        assert!(refused.header("retry-after").is_some(), "{path}");
    }
    for path in ["balances", "balances/acc-1", "balances/acc-1?as_of=1"] {
        assert_eq!(query.get(&format!("/v1/views/{path}")).status, 200, "{path}");
    }
    projections.shutdown();
}

#[test]
fn a_cursor_goes_on_only_with_the_order_and_the_moment_of_its_page() {
    let bank = bank();
    for number in 0..4 {
        bank.account(&format!("acc-{number}"), "ann", number + 1);
    }
    let page = |query: &str| bank.query.get(&format!("/v1/views/balances?limit=1&{query}"));
    let cursor = |query: &str| page(query).json()["next_cursor"].as_str().unwrap().to_owned();
    let refused = |query: &str| {
        page(query).is_problem(400, "invalid-cursor", "the same parameters");
    };
    let (up, down) = (cursor("min_position=8"), cursor("order=desc"));
    refused(&format!("order=desc&cursor={up}"));
    refused(&format!("cursor={down}"));
    refused(&format!("as_of=8&cursor={up}"));
    assert_eq!(bank.keys(&format!("limit=1&cursor={up}")), ["acc-1"]);
    assert_eq!(bank.keys(&format!("limit=1&order=desc&cursor={down}")), ["acc-2"]);
    let (up, down) = (cursor("as_of=6"), cursor("as_of=6&order=desc"));
    for other in [4, 8] {
        refused(&format!("as_of={other}&cursor={up}"));
        refused(&format!("as_of={other}&order=desc&cursor={down}"));
    }
    refused(&format!("as_of=6&order=desc&cursor={up}"));
    assert_eq!(bank.keys(&format!("limit=9&as_of=6&cursor={up}")), ["acc-1", "acc-2"]);
    assert_eq!(
        bank.keys(&format!("limit=9&as_of=6&order=desc&cursor={down}")),
        ["acc-1", "acc-0"]
    );
    let by_balance = cursor("balance.from=0&order=desc");
    refused(&format!("balance.from=0&cursor={by_balance}"));
    assert_eq!(
        bank.keys(&format!("limit=9&balance.from=0&order=desc&cursor={by_balance}")),
        ["acc-2", "acc-1", "acc-0"]
    );
}

#[test]
fn a_view_that_has_stopped_says_why() {
    let bank = bank();
    bank.account("acc-1", "ann", 666);
    let deadline = Instant::now() + Duration::from_secs(10);
    while bank.query.get("/v1/projections").json()["projections"][0]["state"] != "stopped" {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
    let stopped = bank
        .query
        .get("/v1/views/balances/acc-1")
        .is_problem(503, "view-stopped", "rebuild");
    assert!(stopped["error"].as_str().unwrap().contains("count"), "{stopped}");
    assert!(stopped["position"].is_string(), "{stopped}");
    bank.query
        .get("/v1/views/balances")
        .is_problem(503, "view-stopped", "rebuild");
    bank.query.get("/readyz").is_problem(503, "not-ready", "balances");
    assert_eq!(bank.query.get("/healthz").status, 200);
}

#[test]
fn rows_and_lists_are_answered_as_of_a_position_or_a_time() {
    let bank = bank();
    let early = bank.account("acc-1", "ann", 50);
    bank.account("acc-2", "ann", 7);
    let between = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    std::thread::sleep(Duration::from_millis(5));
    let late: u64 = bank
        .command
        .deposit("acc-1", 100)
        .header("annals-position")
        .unwrap()
        .parse()
        .unwrap();
    let balance = |query: &str| {
        let answer = bank.query.get(&format!("/v1/views/balances/acc-1?{query}"));
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        (answer.json()["balance"].as_u64().unwrap(), answer)
    };
    let (before, answer) = balance(&format!("as_of={early}"));
    assert_eq!(before, 50);
    assert_eq!(answer.header("annals-position"), Some(early.to_string().as_str()));
    assert_eq!(balance(&format!("as_of={between}")).0, 50);
    assert_eq!(
        balance(&format!("as_of={late}")).0,
        150,
        "as_of waits as min_position does"
    );
    assert_eq!(balance("").0, 150);
    let etag = answer.header("etag").unwrap().to_owned();
    let path = format!("/v1/views/balances/acc-1?as_of={early}");
    let known = bank.query.request("GET", &path, &[("if-none-match", &etag)], b"");
    assert_eq!(known.status, 304);
    assert!(bank.keys(&format!("as_of={}", early - 1)).contains(&"acc-1".to_owned()));
    assert_eq!(bank.keys(&format!("as_of={early}")), ["acc-1"]);
    assert_eq!(
        bank.keys(&format!("owner=ann&as_of={between}&order=desc")),
        ["acc-2", "acc-1"]
    );
    let page = bank
        .query
        .get(&format!("/v1/views/balances?as_of={between}&limit=1"))
        .json();
    let cursor = page["next_cursor"].as_str().unwrap();
    bank.account("acc-15", "ann", 7);
    let next = bank
        .query
        .get(&format!("/v1/views/balances?limit=5&cursor={cursor}"))
        .json();
    assert_eq!(next["rows"].as_array().unwrap().len(), 1, "{next}");
    assert_eq!(next["position"], page["position"]);
    let beyond = bank
        .query
        .get("/v1/views/balances/acc-1?as_of=9999")
        .is_problem(400, "position-in-future", "9999");
    assert!(beyond["head"].is_string(), "{beyond}");
    bank.query
        .get("/v1/views/balances?as_of=2999-01-01T00:00:00Z")
        .is_problem(400, "position-in-future", "in the future");
    bank.query
        .get("/v1/views/balances?as_of=yesterday")
        .is_problem(400, "invalid-parameter", "RFC 3339");
    bank.query
        .get("/v1/views/balances/acc-1?as_of=0")
        .is_problem(404, "unknown-row", "position 0");
}

#[test]
fn the_history_of_a_row_says_what_changed_it() {
    let bank = bank();
    bank.account("acc-1", "ann", 50);
    let last: u64 = bank
        .command
        .deposit("acc-1", 100)
        .header("annals-position")
        .unwrap()
        .parse()
        .unwrap();
    let path = format!("/v1/views/balances/acc-1/history?diff=true&min_position={last}");
    let history = bank.query.get(&path).json();
    let versions = history["versions"].as_array().unwrap();
    assert_eq!(versions.len(), 3, "{history}");
    assert_eq!(versions[0]["from"], last.to_string().as_str());
    assert_eq!(versions[0]["to"], Value::Null);
    assert_eq!(versions[0]["row"]["balance"], 150);
    assert_eq!(
        versions[1]["to"], versions[0]["from"],
        "the newest first, without a gap"
    );
    let changes = versions[0]["changes"].as_array().unwrap();
    let balance = changes.iter().find(|change| change["field"] == "balance").unwrap();
    assert_eq!((&balance["before"], &balance["after"]), (&json!(50), &json!(150)));
    for name in ["id", "type", "stream", "recordedtime"] {
        assert!(versions[0]["event"][name].is_string(), "{name}: {history}");
    }
    let mut found = Vec::new();
    let mut path = "/v1/views/balances/acc-1/history?order=asc&limit=1".to_owned();
    loop {
        let page = bank.query.get(&path).json();
        found.extend(
            page["versions"]
                .as_array()
                .unwrap()
                .iter()
                .map(|version| version["from"].clone()),
        );
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/views/balances/acc-1/history?order=asc&limit=1&cursor={cursor}"),
            None => break,
        }
    }
    let expected: Vec<_> = versions.iter().rev().map(|version| version["from"].clone()).collect();
    assert_eq!(found, expected);
    bank.query
        .get("/v1/views/balances/nobody/history")
        .is_problem(404, "unknown-row", "never had a row");
    bank.query
        .get("/v1/views/balances/acc-1/history?diff=perhaps")
        .is_problem(400, "invalid-parameter", "true or false");
}

#[test]
fn what_comes_later_says_so() {
    let bank = bank();
    for path in ["/openapi.json", "/docs"] {
        bank.query
            .get(path)
            .is_problem(501, "not-implemented", "not implemented");
    }
}

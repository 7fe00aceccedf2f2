//! Dead letters over HTTP: listed, shown with event and row, retried and skipped, and views paused and resumed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod common;

use annals_api::{ApiState, query_api};
use annals_core::{Appender, EventLog, FailurePolicy};
use annals_event_store::MemoryLog;
use annals_projections::{ProjectionSettings, Projections, ViewDefinition};
use common::*;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A bank whose view cannot count deposits of 666.
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

fn bank(policy: FailurePolicy) -> Bank {
    let dir = tempfile::tempdir().unwrap();
    let log: Arc<dyn Appender> = Arc::new(MemoryLog::new("bank"));
    let command = command_server_on(Arc::clone(&log));
    let mut settings = ProjectionSettings::new(dir.path().join("views"), dir.path().join("reactors"));
    settings.attempts_max = 2;
    settings.retry_pause_min = Duration::from_millis(1);
    settings.on_failure.insert("balances".into(), policy);
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
    fn open(&self, id: &str) {
        let open = r#"{"owner":"ann","holder_name":"x"}"#;
        let opened = self.command.post(&format!("/v1/commands/accounts/{id}/open"), open);
        assert_eq!(opened.status, 200);
    }

    fn deposit(&self, id: &str, amount: u64) -> String {
        let answer = self.command.deposit(id, amount);
        answer.header("annals-position").unwrap().to_owned()
    }

    fn letters(&self) -> Vec<Value> {
        let answer = self.query.get("/v1/dead-letters");
        answer.json()["dead_letters"].as_array().unwrap().clone()
    }

    /// The letters once there are so many and none is tried again by itself.
    fn dead(&self, count: usize) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let letters = self.letters();
            if letters.len() == count && letters.iter().all(|letter| letter["state"] != "retrying") {
                return letters;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{letters:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn decide(&self, path: &str, reason: &str) -> String {
        let headers = [
            ("annals-actor", "ops@example.com"),
            ("content-type", "application/json"),
        ];
        let body = json!({ "reason": reason }).to_string();
        let answer = self.query.request("POST", path, &headers, body.as_bytes());
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.header("annals-position").unwrap().to_owned()
    }

    fn state(&self) -> (String, u64) {
        let body = self.query.get("/v1/projections").json();
        let status = &body["projections"][0];
        (
            status["state"].as_str().unwrap().to_owned(),
            status["dead_letters"].as_u64().unwrap(),
        )
    }
}

#[test]
fn a_parked_row_says_so_and_its_letter_tells_the_whole_story() {
    let bank = bank(FailurePolicy::Park);
    bank.open("a");
    bank.open("b");
    bank.deposit("a", 5);
    let poison = bank.deposit("a", 666);
    bank.deposit("a", 7);
    let last = bank.deposit("b", 1);
    let letter = bank.dead(1).remove(0);
    let row = bank.query.get(&format!("/v1/views/balances/a?min_position={last}"));
    assert_eq!(
        (row.status, row.header("annals-parked").unwrap()),
        (200, poison.as_str())
    );
    assert_eq!(row.json()["balance"], 5, "as it stands");
    assert!(bank.query.get("/v1/views/balances/b").header("annals-parked").is_none());
    let list = bank.query.get("/v1/views/balances").json();
    assert_eq!(
        (&list["rows"][0]["parked"], list["rows"][1].get("parked")),
        (&json!(poison), None)
    );
    assert_eq!(bank.state(), ("running".to_owned(), 1));

    assert_eq!(
        (&letter["projection"], &letter["key"], &letter["version"]),
        (&json!("balances"), &json!("a"), &json!(1))
    );
    assert_eq!(
        (&letter["position"], &letter["waiting"], &letter["attempts"]),
        (&json!(poison), &json!(2), &json!(2))
    );
    assert!(
        letter["error"].as_str().unwrap().contains("cannot count that far"),
        "{letter}"
    );
    let whole = bank
        .query
        .get(&format!("/v1/dead-letters/{}", letter["id"].as_str().unwrap()))
        .json();
    assert_eq!(
        (&whole["row"]["balance"], &whole["event"]["type"]),
        (&json!(5), &json!("Deposited"))
    );
    assert_eq!(
        (&whole["event"]["subject"], &whole["event"]["data"]["amount"]),
        (&json!("accounts/a"), &json!(666))
    );
    let metrics = bank.query.get("/metrics").text();
    assert!(
        metrics.contains("annals_projection_dead_letters{projection=\"balances\",kind=\"view\"} 1"),
        "{metrics}"
    );
}

#[test]
fn a_skip_is_recorded_with_actor_and_reason_and_the_row_is_live_again() {
    let bank = bank(FailurePolicy::Park);
    bank.open("a");
    bank.deposit("a", 666);
    bank.deposit("a", 7);
    let id = bank.dead(1)[0]["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/dead-letters/{id}");
    bank.query
        .post(&format!("{path}/skip"), "")
        .is_problem(400, "invalid-decision", "needs a reason");
    bank.query
        .post(&format!("{path}/skip"), "{\"why\":1}")
        .is_problem(400, "invalid-decision", "reason");
    bank.query
        .post("/v1/dead-letters/balances:1:9/retry", "")
        .is_problem(404, "unknown-dead-letter", "dead-letters");
    bank.decide(&format!("{path}/retry"), "");
    let at = bank.decide(&format!("{path}/skip"), "a joke");
    let row = bank.query.get(&format!("/v1/views/balances/a?min_position={at}"));
    assert_eq!(
        (row.json()["balance"].clone(), row.header("annals-parked")),
        (json!(7), None)
    );
    assert_eq!(bank.state(), ("running".to_owned(), 0));
    bank.query.get(&path).is_problem(404, "unknown-dead-letter", "settled");

    let events = bank.command.get("/v1/streams/$operations/balances").json();
    let said: Vec<_> = events
        .as_array()
        .unwrap()
        .iter()
        .map(|event| (&event["type"], &event["actor"]))
        .collect();
    let actor = &json!("ops@example.com");
    assert_eq!(
        said,
        [
            (&json!("DeadLetterRetried"), actor),
            (&json!("DeadLetterSkipped"), actor)
        ]
    );
    assert_eq!(events[1]["data"]["reason"], "a joke");
    let forged = r#"{"specversion":"1.0","id":"1","source":"x","type":"DeadLetterSkipped"}"#;
    bank.command
        .post("/v1/streams/$operations/balances", forged)
        .is_problem(403, "category-owned", "$");
}

#[test]
fn a_stopped_view_goes_on_when_it_is_told_to() {
    let bank = bank(FailurePolicy::Stop);
    bank.open("a");
    bank.deposit("a", 666);
    let last = bank.deposit("a", 7);
    let letter = bank.dead(1).remove(0);
    // The letter is there a moment before the view says that it has stopped.
    let begun = Instant::now();
    while bank.state().0 != "stopped" {
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(
        (&letter["state"], bank.state()),
        (&json!("stopped"), ("stopped".to_owned(), 1))
    );
    let stopped = bank.query.get("/v1/views/balances/a");
    stopped.is_problem(503, "view-stopped", "/v1/dead-letters?view=balances");
    let at = bank.decide(
        &format!("/v1/dead-letters/{}/skip", letter["id"].as_str().unwrap()),
        "a joke",
    );
    let begun = Instant::now();
    while bank.state().0 != "running" {
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(2));
    }
    let row = bank
        .query
        .get(&format!("/v1/views/balances/a?min_position={at}&wait=30000"));
    assert_eq!(row.json()["balance"], 7, "up to {last}");
}

#[test]
fn many_letters_are_listed_page_by_page() {
    let bank = bank(FailurePolicy::Park);
    for n in 0..25 {
        let id = format!("k/{n}").replace('/', "-");
        bank.open(&id);
        bank.deposit(&id, 666);
    }
    let all: Vec<Value> = bank.dead(25).into_iter().map(|letter| letter["key"].clone()).collect();
    let (mut paged, mut path) = (Vec::new(), "/v1/dead-letters?limit=10&view=balances".to_owned());
    loop {
        let page = bank.query.get(&path);
        paged.extend(
            page.json()["dead_letters"]
                .as_array()
                .unwrap()
                .iter()
                .map(|letter| letter["key"].clone()),
        );
        match page.json()["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/dead-letters?limit=10&view=balances&cursor={cursor}"),
            None => break,
        }
        assert!(page.header("link").unwrap().contains("rel=\"next\""));
    }
    assert_eq!(paged, all);
    bank.query
        .get("/v1/dead-letters?view=nothing")
        .is_problem(404, "unknown-view", "balances");
}

#[test]
fn a_view_is_paused_and_resumed() {
    let bank = bank(FailurePolicy::Stop);
    bank.open("a");
    let before = bank.deposit("a", 5);
    assert_eq!(
        bank.query
            .get(&format!("/v1/views/balances/a?min_position={before}"))
            .json()["balance"],
        5
    );
    bank.query
        .post("/v1/projections/nothing/pause", "")
        .is_problem(404, "unknown-projection", "balances");
    bank.decide("/v1/projections/balances/pause", "moving house");
    let begun = Instant::now();
    while bank.state().0 != "paused" {
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(2));
    }
    let after = bank.deposit("a", 7);
    let behind = bank
        .query
        .get(&format!("/v1/views/balances/a?min_position={after}&wait=20"));
    behind.is_problem(503, "view-behind", "position");
    assert_eq!(bank.query.get("/v1/views/balances/a").json()["balance"], 5);
    bank.decide("/v1/projections/balances/resume", "");
    let row = bank
        .query
        .get(&format!("/v1/views/balances/a?min_position={after}&wait=30000"));
    assert_eq!((row.status, &row.json()["balance"]), (200, &json!(12)));
}

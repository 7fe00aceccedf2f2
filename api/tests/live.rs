//! Live queries: a row and a list as they are, and then with every change.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod common;

use annals_api::{ApiBounds, ApiState, query_api};
use annals_core::{Appender, EventLog};
use annals_event_store::MemoryLog;
use annals_projections::{ProjectionSettings, Projections, ViewDefinition};
use common::*;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Live queries that this bank takes at a time.
const LIVE_MAX: usize = 3;

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
    state.bounds = ApiBounds {
        live_queries_max: LIVE_MAX,
        ..ApiBounds::default()
    };
    Bank {
        query: Server::start(state, query_api),
        command,
        projections,
        _dir: dir,
    }
}

impl Bank {
    /// Opens an account and pays this in.
    fn account(&self, id: &str, owner: &str, balance: u64) {
        let open = format!(r#"{{"owner":"{owner}","holder_name":"x"}}"#);
        let opened = self.command.post(&format!("/v1/commands/accounts/{id}/open"), &open);
        assert_eq!(opened.status, 200, "{}", opened.text());
        self.deposit(id, balance);
    }

    fn deposit(&self, id: &str, amount: u64) {
        assert_eq!(self.command.deposit(id, amount).status, 200);
    }

    fn live(&self, path: &str) -> Live {
        Live::open(self.query.address, path, None)
    }
}

#[test]
fn a_row_is_told_as_it_is_and_then_with_every_change() {
    let bank = bank();
    bank.account("acc-2", "bob", 1);
    let mut live = bank.live("/v1/views/balances/acc-1?min_position=2");
    assert_eq!(live.status(), "200", "{}", live.head);
    assert!(live.head.contains("text/event-stream"), "{}", live.head);
    let nothing = live.expect("deleted");
    assert_eq!((nothing.position(), nothing.data), (2, Value::Null));
    bank.account("acc-1", "ann", 50);
    let mut event = live.expect("row");
    // Opening and paying in may be told together or one by one.
    while event.data["balance"] != 50 {
        event = live.expect("row");
    }
    assert_eq!(event.data, json!({"balance": 50, "owner": "ann", "entries": 2}));
    assert_eq!(event.id, format!("{}:4", bank.command.commands.log().epoch()));
    bank.deposit("acc-2", 5);
    bank.deposit("acc-1", 1);
    let event = live.expect("row");
    assert_eq!(
        (event.position(), &event.data["balance"]),
        (6, &json!(51)),
        "of no other row"
    );
}

#[test]
fn a_list_tells_which_rows_come_in_change_and_leave() {
    let bank = bank();
    bank.account("acc-1", "ann", 50);
    bank.account("acc-2", "bob", 5);
    let mut live = bank.live("/v1/views/balances?balance.from=10&min_position=4");
    let all = live.expect("list");
    assert_eq!((all.keys(), all.position()), (vec!["acc-1".to_owned()], 4));
    assert_eq!(all.data["rows"][0]["row"]["balance"], 50);
    assert_eq!(all.data["position"], "4");

    bank.deposit("acc-2", 10);
    let entered = live.expect("changes");
    assert_eq!((entered.keys(), entered.position()), (vec!["acc-2".to_owned()], 5));
    let withdraw = |id: &str, amount: u64| {
        let path = format!("/v1/commands/accounts/{id}/withdraw");
        assert_eq!(
            bank.command.post(&path, &format!("{{\"amount\":{amount}}}")).status,
            200
        );
    };
    withdraw("acc-1", 45);
    assert_eq!(live.expect("changes").keys(), ["(acc-1)"]);
    // What happens outside of the list is not told.
    bank.deposit("acc-1", 1);
    bank.deposit("acc-2", 1);
    let changed = live.expect("changes");
    assert_eq!((changed.keys(), changed.position()), (vec!["acc-2".to_owned()], 8));
    assert_eq!(changed.data["rows"][0]["row"]["balance"], 16);
}

#[test]
fn a_page_that_is_watched_stays_as_long_as_it_was_asked_for() {
    let bank = bank();
    for (id, balance) in [("acc-1", 10), ("acc-2", 20), ("acc-3", 30)] {
        bank.account(id, "ann", balance);
    }
    let mut live = bank.live("/v1/views/balances?balance.from=0&order=desc&limit=2&min_position=6");
    assert_eq!(live.expect("list").keys(), ["acc-3", "acc-2"]);
    bank.deposit("acc-1", 100);
    let mut changes = live.expect("changes").keys();
    changes.sort();
    assert_eq!(changes, ["(acc-2)", "acc-1"], "the highest two");
}

#[test]
fn who_comes_back_is_told_only_what_changed_meanwhile() {
    let bank = bank();
    bank.account("acc-1", "ann", 50);
    let row = "/v1/views/balances/acc-1?min_position=2";
    let seen = bank.live(row).expect("row").id;
    bank.account("acc-2", "bob", 1);
    let mut again = Live::open(
        bank.query.address,
        "/v1/views/balances/acc-1?min_position=4",
        Some(&seen),
    );
    bank.deposit("acc-1", 1);
    assert_eq!(again.expect("row").data["balance"], 51, "the row had not changed");
    drop(again);
    let mut again = Live::open(
        bank.query.address,
        "/v1/views/balances/acc-1?min_position=5",
        Some(&seen),
    );
    assert_eq!(again.expect("row").data["balance"], 51, "it has changed since");
    drop(again);

    let list = "/v1/views/balances?owner=bob&min_position=5";
    let seen = bank.live(list).expect("list").id;
    let mut again = Live::open(bank.query.address, list, Some(&seen));
    bank.deposit("acc-2", 1);
    assert_eq!(again.expect("changes").keys(), ["acc-2"], "nothing was read meanwhile");
    let other = format!("{}:5", annals_core::Epoch::random());
    let mut again = Live::open(bank.query.address, list, Some(&other));
    assert_eq!(again.expect("list").keys(), ["acc-2"], "of another epoch");
}

#[test]
fn a_slow_client_gets_the_latest_state_and_never_an_older_one() {
    let bank = bank();
    bank.account("acc-1", "ann", 1);
    let mut live = bank.live("/v1/views/balances/acc-1?min_position=2");
    for _ in 0..300 {
        bank.deposit("acc-1", 1);
    }
    let (mut last, mut told) = (0, 0);
    while last < 301 {
        let event = live.expect("row");
        let balance = event.data["balance"].as_u64().unwrap();
        assert!(balance > last, "{balance} after {last}");
        assert_eq!(event.position(), balance + 1, "a row is as of its position");
        (last, told) = (balance, told + 1);
    }
    assert!(told <= 301, "{told} events");
}

#[test]
fn no_more_live_queries_are_taken_than_there_may_be() {
    let bank = bank();
    bank.account("acc-1", "ann", 1);
    let path = "/v1/views/balances/acc-1?min_position=2";
    let mut open: Vec<Live> = (0..LIVE_MAX).map(|_| bank.live(path)).collect();
    open.iter_mut().for_each(|live| drop(live.expect("row")));
    let headers = [("accept", "text/event-stream")];
    let refused = bank.query.request("GET", path, &headers, b"");
    refused.is_problem(503, "overloaded", "live queries");
    assert!(refused.header("retry-after").is_some());
    open.pop();
    let deadline = Instant::now() + Duration::from_secs(60);
    while bank.live(path).status() != "200" {
        assert!(Instant::now() < deadline, "no place was given back");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_live_query_ends_when_its_server_is_stopped() {
    let mut bank = bank();
    bank.account("acc-1", "ann", 1);
    let mut row = bank.live("/v1/views/balances/acc-1?min_position=2");
    row.expect("row");
    let mut list = bank.live("/v1/views/balances?min_position=2");
    list.expect("list");
    bank.query.stop();
    assert_eq!(list.next(), None, "the server does not wait for its clients");
    assert_eq!(row.next(), None);
    bank.query.stopped();
}

#[test]
fn a_live_query_of_a_view_that_stops_says_why() {
    let bank = bank();
    bank.account("acc-1", "ann", 1);
    let mut live = bank.live("/v1/views/balances/acc-1?min_position=2");
    live.expect("row");
    bank.deposit("acc-1", 666);
    let problem = live.expect("problem");
    assert_eq!(problem.data["type"], "urn:annals:problem:view-stopped", "{problem:?}");
    assert!(
        problem.data["detail"].as_str().unwrap().contains("count"),
        "{problem:?}"
    );
    assert_eq!(live.next(), None);
}

#[test]
fn only_rows_and_lists_are_live() {
    let bank = bank();
    let headers = [("accept", "text/event-stream")];
    for path in ["/v1/views", "/v1/projections"] {
        bank.query
            .request("GET", path, &headers, b"")
            .is_problem(406, "not-acceptable", "application/json");
    }
    bank.query
        .request("GET", "/v1/views/cars/c-1", &headers, b"")
        .is_problem(404, "unknown-view", "balances");
}

//! Appends under a condition, and the rule of one address for one user, over real TCP.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use common::{Answer, Server, command_server};
use serde_json::{Value, json};
use std::sync::Barrier;

const CONDITION: &str = "annals-append-condition";

fn seat(id: &str, tags: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/hall", "type": "SeatTaken", "tags": tags, "data": {}})
}

fn take(server: &Server, guest: &str, id: &str, tags: &str, condition: &str) -> Answer {
    server.post_with(
        &format!("/v1/streams/guests/{guest}"),
        &[(CONDITION, condition)],
        &seat(id, tags).to_string(),
    )
}

fn taken(tag: &str, after: &str) -> String {
    json!({"types": ["SeatTaken"], "tags": [tag], "after": after}).to_string()
}

#[test]
fn a_seat_is_taken_once_and_the_refusal_says_where() {
    let server = command_server();
    let free = server.get("/v1/events?tag=seat%3D12a&type=SeatTaken");
    assert_eq!(
        (free.text().as_str(), free.header("annals-position")),
        ("[]", Some("0"))
    );
    assert_eq!(
        take(&server, "ann", "e-1", "seat=12a,hall=1", &taken("seat=12a", "0")).status,
        200
    );
    let refused = take(&server, "bob", "e-2", "seat=12a,hall=1", &taken("seat=12a", "0"));
    let problem = refused.is_problem(412, "append-condition-failed", "position 1");
    assert_eq!((&problem["position"], &problem["after"]), (&json!("1"), &json!("0")));
    assert_eq!(
        take(&server, "bob", "e-2", "seat=12b,hall=1", &taken("seat=12b", "0")).status,
        200
    );
    // Repeated, it answers as the first time, whatever its condition says by now.
    let again = take(&server, "ann", "e-1", "seat=12a,hall=1", &taken("seat=12a", "0"));
    assert_eq!((again.status, again.header("annals-duplicate")), (200, Some("true")));
    // What was read is where the next condition begins.
    let hall = server.get("/v1/events?tag=hall%3D1");
    assert_eq!(hall.json().as_array().unwrap().len(), 2);
    let reached = hall.header("annals-position").unwrap().to_owned();
    assert_eq!(
        take(&server, "zoe", "e-3", "seat=12a", &taken("seat=12a", &reached)).status,
        200
    );
}

#[test]
fn events_are_listed_by_all_of_their_tags() {
    let server = command_server();
    for (number, tags) in ["seat=1,hall=1", "seat=2,hall=1", "seat=1,hall=2"].iter().enumerate() {
        assert_eq!(
            take(&server, "ann", &format!("e-{number}"), tags, &taken("none=x", "0")).status,
            200
        );
    }
    let ids = |query: &str| -> Vec<String> {
        let page = server.get(&format!("/v1/events?{query}"));
        let page = page.json();
        page.as_array()
            .unwrap()
            .iter()
            .map(|event| event["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids("tag=seat%3D1"), ["e-0", "e-2"]);
    assert_eq!(ids("tag=seat%3D1&tag=hall%3D2"), ["e-2"]);
    assert_eq!(ids("tag=seat%3D1&type=Other"), [""; 0]);
    assert_eq!(ids("tag=hall%3D1&stream=guests/ann&after=1"), ["e-1"]);
    let first = server.get("/v1/events?tag=seat%3D1&limit=1");
    assert_eq!(first.header("annals-position"), Some("1"));
    assert!(
        first.header("link").unwrap().contains("tag=seat%3D1"),
        "{:?}",
        first.headers
    );
    server
        .get("/v1/events?tag=seat")
        .is_problem(400, "invalid-parameter", "key=value");
}

#[test]
fn a_condition_that_cannot_be_read_is_refused() {
    let server = command_server();
    for (condition, says) in [
        ("{}", "after"),
        (r#"{"after":"0"}"#, "at least one"),
        (r#"{"tags":["seat"],"after":"0"}"#, "key=value"),
        (r#"{"tags":["a=b"],"after":"x"}"#, "a position"),
        (r#"[["Thing"],["email=a"],"0"]"#, "a JSON object"),
        (r#"{"types":[""],"after":"0"}"#, "no type of events"),
        (r#"{"tags":["a=b "],"after":"0"}"#, "a space"),
        (r#"{"tags":[" a=b"],"after":"0"}"#, "key=value"),
    ] {
        let answer = take(&server, "ann", "e-1", "seat=1", condition);
        answer.is_problem(400, "invalid-header", says);
    }
    take(&server, "ann", "e-1", "seat=1", &taken("seat=1", "7")).is_problem(400, "invalid-append", "ends at 0");
    assert_eq!(server.get("/v1/log").json()["head"], "0");
}

#[test]
fn a_condition_at_a_command_is_refused_and_says_where_it_belongs() {
    let server = command_server();
    let command = r#"{"owner":"ann","holder_name":"Ann"}"#;
    let condition = taken("seat=1", "0");
    let headers = [(CONDITION, condition.as_str())];
    let refused = server.post_with("/v1/commands/accounts/acc-1/open", &headers, command);
    refused.is_problem(400, "invalid-header", "/v1/streams/");
    let headers = [
        ("content-type", "application/x-ndjson"),
        (CONDITION, condition.as_str()),
    ];
    let refused = server.request("POST", "/v1/commands", &headers, b"{}\n");
    refused.is_problem(400, "invalid-header", "/v1/streams/");
    assert_eq!(server.get("/v1/log").json()["head"], "0");
}

#[test]
fn of_clients_that_read_the_same_one_gets_the_seat() {
    let server = command_server();
    for round in 0..8 {
        let head = server.get("/v1/log").json()["head"].as_str().unwrap().to_owned();
        let barrier = Barrier::new(8);
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..8)
                .map(|client| {
                    let (server, barrier, head) = (&server, &barrier, &head);
                    scope.spawn(move || {
                        barrier.wait();
                        let id = format!("e-{round}-{client}");
                        take(server, &format!("g-{client}"), &id, "seat=1", &taken("seat=1", head)).status
                    })
                })
                .collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        assert_eq!(
            statuses.iter().filter(|status| **status == 200).count(),
            1,
            "round {round}: {statuses:?}"
        );
        assert_eq!(
            statuses.iter().filter(|status| **status == 412).count(),
            7,
            "round {round}: {statuses:?}"
        );
    }
}

//! Events as server-sent events: those that there are, then every new one, in order and without a gap.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod common;

use annals_api::{ApiBounds, ApiState, command_api};
use annals_event_store::MemoryLog;
use common::*;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

const LIVE_MAX: usize = 3;

fn server() -> Server {
    let mut state = ApiState::new(commands_on(Arc::new(MemoryLog::new("bank"))));
    state.bounds = ApiBounds {
        live_queries_max: LIVE_MAX,
        ..ApiBounds::default()
    };
    Server::start(state, command_api)
}

fn epoch(server: &Server) -> String {
    server.commands.log().epoch().to_string()
}

/// Appends a note to a stream; `data` as it stands in the body.
fn note(server: &Server, stream: &str, id: &str, kind: &str, data: &str) -> u64 {
    let body = format!(r#"{{"specversion":"1.0","id":"{id}","source":"/notes","type":"{kind}","data":{data}}}"#);
    let answer = server.post(&format!("/v1/streams/{stream}"), &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("annals-position").unwrap().parse().unwrap()
}

fn live(server: &Server, path: &str) -> Live {
    let live = Live::open(server.address, path, None);
    assert_eq!(live.status(), "200", "{}", live.head);
    live
}

fn ids(live: &mut Live, count: usize) -> Vec<String> {
    let event = |_| live.expect("").data["id"].as_str().unwrap().to_owned();
    (0..count).map(event).collect()
}

#[test]
fn what_there_is_comes_first_and_then_every_new_event() {
    let server = server();
    note(&server, "notes/a", "1", "Noted", "{}");
    note(&server, "notes/b", "2", "Noted", "{\"text\":\"two\"}");
    let mut all = live(&server, "/v1/events");
    let mut rest = live(&server, "/v1/events?after=2");
    assert!(all.head.contains(&epoch(&server)), "{}", all.head);
    assert_eq!(ids(&mut all, 1), ["1"]);
    let second = all.expect("");
    assert_eq!(
        (second.id.clone(), second.position()),
        (format!("{}:2", epoch(&server)), 2)
    );
    let page = server.get("/v1/events?after=1").json();
    assert_eq!(second.data, page[0], "as a page shows it");
    note(&server, "notes/a", "3", "Noted", "{}");
    note(&server, "notes/a", "4", "Noted", "{}");
    assert_eq!(ids(&mut all, 2), ["3", "4"]);
    assert_eq!(ids(&mut rest, 2), ["3", "4"]);
}

#[test]
fn filters_hold_for_what_is_new_and_a_stream_is_live_too() {
    let server = server();
    let mut kind = live(&server, "/v1/events?type=Wanted");
    let mut category = live(&server, "/v1/events?category=others");
    let mut stream = live(&server, "/v1/streams/notes/a?from_version=2");
    note(&server, "notes/a", "1", "Noted", "{}");
    note(&server, "notes/a", "2", "Wanted", "{}");
    note(&server, "others/a", "3", "Noted", "{}");
    note(&server, "notes/a", "4", "Noted", "{}");
    note(&server, "others/a", "5", "Wanted", "{}");
    assert_eq!(ids(&mut kind, 2), ["2", "5"]);
    // Their places were given back.
    drop(kind);
    assert_eq!(ids(&mut category, 2), ["3", "5"]);
    assert_eq!(ids(&mut stream, 2), ["2", "4"]);
    let time = server.get("/v1/events?after=3").json()[0]["recordedtime"]
        .as_str()
        .unwrap()
        .to_owned();
    drop(category);
    let later = server.get("/v1/events?after=4").json()[0]["recordedtime"] != time.as_str();
    let expected = if later { 4 } else { 5 };
    // What is asked for has an end, which is in the past by now unless the clock stood still.
    let mut ended = live(&server, &format!("/v1/events?until={time}"));
    assert_eq!(ids(&mut ended, expected), ["1", "2", "3", "4", "5"][..expected]);
    assert!(!later || ended.next().is_none());
}

#[test]
fn a_client_that_comes_back_goes_on_where_it_was() {
    let server = server();
    for number in 1..=3 {
        note(&server, "notes/a", &number.to_string(), "Noted", "{}");
    }
    let last = {
        let mut live = live(&server, "/v1/events");
        live.expect("");
        live.expect("").id
    };
    note(&server, "notes/a", "4", "Noted", "{}");
    // The browser asks the same URL again.
    let mut again = Live::open(server.address, "/v1/events?after=1", Some(&last));
    assert_eq!(ids(&mut again, 2), ["3", "4"]);
    let back = |id: &str| {
        let headers = [("accept", "text/event-stream"), ("last-event-id", id)];
        server.request("GET", "/v1/events", &headers, b"")
    };
    let other = "0190a5c4-7d2e-7000-8000-000000000000:2";
    back(other).is_problem(409, "other-epoch", "begin anew, without Last-Event-ID");
    back("2").is_problem(400, "invalid-header", "epoch:position");
    back(&format!("{}:99", epoch(&server))).is_problem(400, "position-beyond-head", "99");
}

#[test]
fn data_with_line_breaks_is_one_line() {
    let server = server();
    note(
        &server,
        "notes/a",
        "1",
        "Noted",
        "{\n  \"text\": \"one\\ntwo\",\r\n  \"more\": [1,\n 2]\n}",
    );
    let data = live(&server, "/v1/events").expect("").data["data"].clone();
    assert_eq!(data, json!({ "text": "one\ntwo", "more": [1, 2] }));
    let headers = [("accept", "application/x-ndjson")];
    let lines = server.request("GET", "/v1/events", &headers, b"").lines();
    assert_eq!((lines.len(), &lines[0]["data"]), (1, &data));
}

#[test]
fn who_takes_nothing_holds_up_nobody_and_misses_nothing() {
    let server = server();
    let slow = live(&server, "/v1/events");
    let mut prompt = live(&server, "/v1/events?type=Small");
    // More than what the sockets between the two ends hold.
    let large = Value::from("x".repeat(400_000)).to_string();
    for number in 0..40 {
        note(&server, "notes/large", &number.to_string(), "Large", &large);
    }
    note(&server, "notes/a", "last", "Small", "{}");
    assert_eq!(ids(&mut prompt, 1), ["last"]);
    let mut slow = slow;
    for number in 0..40 {
        assert_eq!(ids(&mut slow, 1), [number.to_string()]);
    }
    assert_eq!(ids(&mut slow, 1), ["last"]);
}

#[test]
fn there_are_no_more_than_there_may_be_and_all_end_with_the_server() {
    let mut server = server();
    note(&server, "notes/a", "1", "Noted", "{}");
    let mut open: Vec<Live> = (0..LIVE_MAX).map(|_| live(&server, "/v1/events")).collect();
    for live in &mut open {
        live.expect("");
    }
    let headers = [("accept", "text/event-stream")];
    let refused = server.request("GET", "/v1/events", &headers, b"");
    refused.is_problem(503, "overloaded", "live");
    open.pop();
    let deadline = Instant::now() + Duration::from_secs(60);
    while Live::open(server.address, "/v1/events", None).status() != "200" {
        assert!(Instant::now() < deadline, "no place was given back");
        std::thread::sleep(Duration::from_millis(20));
    }
    server.stop();
    for mut live in open {
        assert_eq!(live.next(), None, "the server does not wait for its clients");
    }
    server.stopped();
}

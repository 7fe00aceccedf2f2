//! Events over HTTP: appended as CloudEvents, read back by stream, by filter and one by one, and the log itself.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod common;

use annals_event_store::decode_frame;
use common::*;
use serde_json::{Value, json};

const STREAM: &str = "/v1/streams/notes/n-1";

fn event(id: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/pen", "type": "Noted", "data": {"text": "hello"}})
}

fn append(server: &Server, headers: &[(&str, &str)], body: &Value) -> Answer {
    server.post_with(STREAM, headers, &body.to_string())
}

#[test]
fn an_event_comes_back_as_it_was_sent() {
    let server = command_server();
    let sent = r#"{"specversion":"1.0","id":"e-1","source":"/pen","type":"Noted","subject":"notes/n-1",
        "time":"2017-10-02T10:56:33.5Z","dataschema":"urn:note","datacontenttype":"application/json; charset=utf-8",
        "tags":"pen=blue,page=7","weight":7,"heavy":false,"mood":"good","nothing":null,
        "data":{"exact": 1.10, "b":[1,  2], "a":12345678901234567890123}}"#;
    let answer = server.post(STREAM, sent);
    assert_eq!(
        (answer.status, answer.header("etag")),
        (200, Some("\"1\"")),
        "{}",
        answer.text()
    );
    assert_eq!(
        answer.json()["events"][0],
        json!({"id": "e-1", "type": "Noted", "position": "1"})
    );
    let read = server.get("/v1/events/e-1");
    assert!(
        read.text()
            .contains(r#""data":{"exact": 1.10, "b":[1,  2], "a":12345678901234567890123}"#),
        "{}",
        read.text()
    );
    let read = read.json();
    for (name, value) in [
        ("specversion", json!("1.0")),
        ("source", json!("/pen")),
        ("subject", json!("notes/n-1")),
        ("time", json!("2017-10-02T10:56:33.500Z")),
        ("dataschema", json!("urn:note")),
        ("datacontenttype", json!("application/json; charset=utf-8")),
        ("tags", json!("pen=blue,page=7")),
        ("weight", json!(7)),
        ("heavy", json!(false)),
        ("mood", json!("good")),
        ("position", json!("1")),
        ("streamversion", json!("1")),
        ("actor", json!("anonymous")),
        ("nothing", json!(null)),
    ] {
        assert_eq!(read[name], value, "{name}");
    }
}

#[test]
fn texts_and_bytes_come_back_as_they_were_sent() {
    let server = command_server();
    let mut text = event("text");
    text["datacontenttype"] = json!("text/plain");
    text["data"] = json!("two\nlines");
    let mut bytes = event("bytes");
    bytes.as_object_mut().unwrap().remove("data");
    bytes["datacontenttype"] = json!("image/png");
    bytes["data_base64"] = json!("/9gA");
    let mut empty = event("empty");
    empty.as_object_mut().unwrap().remove("data");
    assert_eq!(append(&server, &[], &json!([text, bytes, empty])).status, 200);
    let read = server.get(STREAM).json();
    assert_eq!(
        (&read[0]["data"], &read[1]["data_base64"]),
        (&json!("two\nlines"), &json!("/9gA"))
    );
    assert!(read[2].get("data").is_none() && read[2].get("data_base64").is_none());
}

#[test]
fn bytes_that_happen_to_be_text_come_back_as_bytes() {
    let server = command_server();
    let mut bytes = event("bytes");
    bytes.as_object_mut().unwrap().remove("data");
    bytes["datacontenttype"] = json!("application/octet-stream");
    bytes["data_base64"] = json!("aGVsbG8=");
    let mut text = bytes.clone();
    text["id"] = json!("text");
    text["datacontenttype"] = json!("text/csv; charset=utf-8");
    let mut json = bytes.clone();
    json["id"] = json!("json");
    json["datacontenttype"] = json!("application/vnd.note+json");
    json["data_base64"] = json!("eyJhIjoxfQ==");
    assert_eq!(append(&server, &[], &json!([bytes, text, json])).status, 200);
    let read = server.get(STREAM).json();
    for (event, data, base64) in [
        (&read[0], None, Some(json!("aGVsbG8="))),
        (&read[1], Some(json!("hello")), None),
        (&read[2], Some(json!({"a": 1})), None),
    ] {
        assert_eq!(
            (event.get("data"), event.get("data_base64")),
            (data.as_ref(), base64.as_ref())
        );
    }
}

#[test]
fn the_same_event_again_is_answered_as_the_first_time() {
    let server = command_server();
    let first = append(&server, &[], &event("e-1"));
    let again = append(&server, &[("if-none-match", "*")], &event("e-1"));
    assert_eq!((again.status, again.body), (200, first.body));
    let keyed = append(&server, &[("idempotency-key", "k")], &event("e-2"));
    let mut spaced = serde_json::to_string_pretty(&event("e-2")).unwrap();
    spaced = spaced.replace("{\n    \"text\": \"hello\"\n  }", "{\"text\":\"hello\"}");
    let again = server.post_with(STREAM, &[("idempotency-key", "k")], &spaced);
    assert_eq!((again.status, again.body), (200, keyed.body));
    append(&server, &[("idempotency-key", "k")], &event("e-3")).is_problem(422, "key-reused", "new key");
    append(&server, &[("if-match", "\"1\"")], &event("e-3")).is_problem(412, "precondition-failed", "version 2");
    assert_eq!(server.commands.log().head().get(), 2);
}

#[test]
fn what_is_no_cloud_event_is_refused_with_the_remedy() {
    let server = command_server();
    let with = |name: &str, value: Value| {
        let mut event = event("e-1");
        event[name] = value;
        event
    };
    let without = |name: &str| {
        let mut event = event("e-1");
        event.as_object_mut().unwrap().remove(name);
        event
    };
    for (body, says) in [
        (without("id"), "id is missing"),
        (without("source"), "source is missing"),
        (without("type"), "type is missing"),
        (without("specversion"), "specversion is missing"),
        (with("specversion", json!("0.3")), "only \"1.0\""),
        (with("id", json!("x".repeat(129))), "1 to 128 bytes"),
        (with("id", json!("")), "id has 1 to 128 bytes"),
        (with("id", json!("x".repeat(2000))), "id has 1 to 128 bytes"),
        (with("id", json!(5)), "in quotes"),
        (with("subject", json!("notes/other")), "the stream is notes/n-1"),
        (with("time", json!("yesterday")), "RFC 3339"),
        (with("position", json!("7")), "belongs to Annals"),
        (with("correlationid", json!("c")), "Annals-Correlation-Id"),
        (with("traceparent", json!("t")), "header traceparent"),
        (with("Mixed", json!("x")), "a-z and 0-9"),
        (with("morethantwentyletters", json!("x")), "a-z and 0-9"),
        (with("nested", json!({"a": 1})), "a text, a number"),
        (with("tags", json!("no-value")), "key=value"),
        (with("data_base64", json!("aGk=")), "exclude each other"),
        (with("datacontenttype", json!("text/plain")), "data_base64"),
        (json!([]), "at least one"),
        (json!([event("a"), 5]), "CloudEvent"),
        (json!([event("a"), without("id")]), "event 1 of the batch"),
        (json!("text"), "CloudEvent"),
    ] {
        append(&server, &[], &body).is_problem(400, "invalid-cloudevent", says);
    }
    let deep = event("e").to_string().replace(
        r#"{"text":"hello"}"#,
        &format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
    );
    server
        .post(STREAM, &deep)
        .is_problem(400, "invalid-cloudevent", "recursion limit");
    let huge = event("e").to_string().replace(r#"{"text":"hello"}"#, "1e999");
    server
        .post(STREAM, &huge)
        .is_problem(400, "invalid-cloudevent", "out of range");
    let twice = event("e").to_string().replace(r#""id":"#, r#""id":"f","id":"#);
    server
        .post(STREAM, &twice)
        .is_problem(400, "invalid-cloudevent", "twice");
    append(&server, &[], &json!([event("a"), event("a")])).is_problem(400, "invalid-append", "twice in one append");
    assert_eq!(server.commands.log().head().get(), 0);
}

#[test]
fn appends_have_their_owners_types_and_limits() {
    let server = command_server();
    let body = event("e-1").to_string();
    server
        .post("/v1/streams/accounts/a", &body)
        .is_problem(403, "category-owned", "/v1/commands/accounts");
    server
        .post("/v1/streams/$operations/a", &body)
        .is_problem(403, "category-owned", "reserved");
    server
        .post("/v1/streams/Notes/a", &body)
        .is_problem(400, "invalid-id", "a-z");
    let many: Vec<Value> = (0..1001).map(|number| event(&number.to_string())).collect();
    let problem = append(&server, &[], &json!(many)).is_problem(413, "too-large", "1001 events");
    assert_eq!(problem["limit_events"], 1000);
    assert_eq!(append(&server, &[], &json!(many[..1000])).status, 200);
    let large =
        json!({"specversion": "1.0", "id": "l", "source": "/pen", "type": "Noted", "data": "x".repeat(1024 * 1024)});
    append(&server, &[], &large).is_problem(413, "too-large", "1048576");
    for (content_type, body, status) in [
        ("application/cloudevents+json", event("s-1"), 200),
        (
            "application/cloudevents-batch+json; charset=utf-8",
            json!([event("s-2")]),
            200,
        ),
        ("application/cloudevents+json", json!([event("s-3")]), 400),
        ("application/cloudevents-batch+json", event("s-4"), 400),
        ("text/plain", event("s-5"), 415),
    ] {
        let headers = [("content-type", content_type)];
        let answer = server.request("POST", STREAM, &headers, body.to_string().as_bytes());
        assert_eq!(answer.status, status, "{content_type}: {}", answer.text());
    }
}

/// Follows `Link: rel="next"` from this path on; the pages.
fn pages(server: &Server, path: &str) -> Vec<Vec<Value>> {
    let mut pages = Vec::new();
    let mut next = Some(path.to_owned());
    while let Some(path) = next {
        let answer = server.get(&path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        pages.push(answer.json().as_array().unwrap().clone());
        let link = answer.header("link").map(str::to_owned);
        next = link.map(|link| {
            link.strip_prefix('<')
                .unwrap()
                .split_once(">; rel=\"next\"")
                .unwrap()
                .0
                .to_owned()
        });
        assert!(pages.len() < 100);
    }
    pages
}

fn versions(page: &[Value]) -> Vec<u64> {
    page.iter()
        .map(|event| event["streamversion"].as_str().unwrap().parse().unwrap())
        .collect()
}

#[test]
fn a_stream_is_read_page_by_page_in_both_directions() {
    let server = command_server();
    server.open("acc-1");
    server.post("/v1/commands/accounts/acc-1/deposit-often", "{\"times\":24}");
    let path = "/v1/streams/accounts/acc-1";
    let whole = server.get(path);
    assert_eq!(
        (whole.header("etag"), whole.header("annals-position")),
        (Some("\"25\""), Some("25"))
    );
    assert_eq!(whole.header("content-type"), Some("application/cloudevents-batch+json"));
    assert_eq!(versions(whole.json().as_array().unwrap()), (1..=25).collect::<Vec<_>>());
    let forward = pages(&server, &format!("{path}?limit=10"));
    assert_eq!(
        forward.iter().map(|page| versions(page)).collect::<Vec<_>>().concat(),
        (1..=25).collect::<Vec<_>>()
    );
    assert_eq!(forward.len(), 3);
    let backward = pages(&server, &format!("{path}?limit=10&direction=backward"));
    assert_eq!(
        backward.iter().map(|page| versions(page)).collect::<Vec<_>>().concat(),
        (1..=25).rev().collect::<Vec<_>>()
    );
    assert_eq!(
        versions(&pages(&server, &format!("{path}?from_version=24"))[0]),
        [24, 25]
    );
    assert_eq!(
        versions(&pages(&server, &format!("{path}?from_version=2&direction=backward"))[0]),
        [2, 1]
    );
    assert_eq!(server.get(&format!("{path}?from_version=99")).json(), json!([]));
    let lines = server.request("GET", path, &[("accept", "application/x-ndjson")], b"");
    assert_eq!(
        (lines.header("content-type"), lines.lines().len()),
        (Some("application/x-ndjson"), 25)
    );
    assert_eq!(
        server.request("GET", path, &[("if-none-match", "\"25\"")], b"").status,
        304
    );
    server
        .get("/v1/streams/accounts/none")
        .is_problem(404, "unknown-stream", "no events");
    server
        .request("GET", path, &[("accept", "text/html")], b"")
        .is_problem(406, "not-acceptable", "x-ndjson");
    for (query, says) in [
        ("limit=0", "1 to 1000"),
        ("limit=1001", "1 to 1000"),
        ("limit=many", "1 to 1000"),
        ("from_version=-1", "a version"),
        ("direction=up", "forward or backward"),
        ("form_version=1", "from_version"),
        ("limit=1&limit=2", "more than once"),
        ("limit=%FF", "UTF-8"),
    ] {
        server
            .get(&format!("{path}?{query}"))
            .is_problem(400, "invalid-parameter", says);
    }
}

#[test]
fn the_log_is_read_by_filter() {
    let server = command_server();
    server.open("acc-1");
    server.open("acc-2");
    for amount in 1..=5 {
        server.deposit("acc-1", amount);
        server.deposit("acc-2", amount);
    }
    let correlated = [("annals-correlation-id", "corr & more"), ("annals-actor", "clerk")];
    server.post_with(STREAM, &correlated, &json!([event("e-1"), event("e-2")]).to_string());
    let count = |query: &str| pages(&server, &format!("/v1/events?{query}")).concat().len();
    for (query, expected) in [
        ("", 14),
        ("limit=3", 14),
        ("after=12", 2),
        ("after=14", 0),
        ("category=accounts&limit=5", 12),
        ("category=notes", 2),
        ("type=Deposited&limit=4", 10),
        ("type=Deposited&type=Opened&limit=4", 12),
        ("type=Noted&type=Opened", 4),
        ("type=Deposited,Opened", 0),
        ("stream=accounts/acc-2", 6),
        ("stream=accounts%2Facc-2&after=8&limit=1", 2),
        ("stream=accounts/acc-2&type=Opened", 1),
        ("stream=accounts/none", 0),
        ("actor=clerk", 2),
        ("actor=anonymous&category=accounts", 12),
        ("correlation=corr+%26%20more&limit=1", 2),
        ("since=2020-01-01T00:00:00Z", 14),
        ("until=2020-01-01T00:00:00Z", 0),
        ("since=2100-01-01T00:00:00Z", 0),
        ("until=2100-01-01T00:00:00%2B01:00", 14),
    ] {
        assert_eq!(count(query), expected, "{query}");
    }
    let third = server.get("/v1/events?limit=3").json()[2].clone();
    let time = third["recordedtime"].as_str().unwrap();
    let at = server.get(&format!("/v1/events?since={time}&until={time}")).json();
    assert!(at.as_array().unwrap().contains(&third), "{at}");
    let own_id = third["id"].as_str().unwrap();
    assert_eq!(count(&format!("correlation={own_id}")), 1);
    let end = server.get("/v1/events?after=12");
    assert_eq!((end.header("annals-position"), end.header("link")), (Some("14"), None));
    for (query, status, name) in [
        ("after=x", 400, "invalid-parameter"),
        ("since=yesterday", 400, "invalid-parameter"),
        ("category=Bad", 400, "invalid-id"),
        ("stream=bad", 400, "invalid-id"),
        ("typ=x", 400, "invalid-parameter"),
        ("actor=a&actor=b", 400, "invalid-parameter"),
    ] {
        server.get(&format!("/v1/events?{query}")).is_problem(status, name, "");
    }
}

#[test]
fn a_position_that_the_log_has_not_reached_is_no_place_to_read_on_from() {
    let server = command_server();
    server.open("acc-1");
    server.deposit("acc-1", 1);
    for path in ["/v1/events", "/v1/log/blocks"] {
        let at_head = server.get(&format!("{path}?after=2"));
        assert_eq!((at_head.status, at_head.header("annals-position")), (200, Some("2")));
        for after in ["3", "999999", &u64::MAX.to_string()] {
            let answer = server.get(&format!("{path}?after={after}"));
            let problem = answer.is_problem(400, "position-beyond-head", "restored");
            assert_eq!((&problem["after"], &problem["head"]), (&json!(after), &json!("2")));
            assert_eq!(answer.header("annals-position"), Some("2"));
        }
    }
    assert_eq!(server.get("/v1/events?after=2").json(), json!([]));
    assert!(server.get("/v1/log/blocks?after=2").body.is_empty());
}

#[test]
fn one_event_is_found_by_its_id() {
    let server = command_server();
    append(&server, &[], &event("with/slash and space"));
    let read = server.get("/v1/events/with%2Fslash%20and%20space");
    assert_eq!((read.status, &read.json()["source"]), (200, &json!("/pen")));
    assert_eq!(read.header("annals-position"), Some("1"));
    server
        .get("/v1/events/none")
        .is_problem(404, "unknown-event", "GET /v1/events");
    server
        .get(&format!("/v1/events/{}", "x".repeat(129)))
        .is_problem(400, "invalid-id", "128 bytes");
}

#[test]
fn a_follower_reads_the_log_block_by_block() {
    let server = command_server();
    server.open("acc-1");
    server.post("/v1/commands/accounts/acc-1/deposit-often", "{\"times\":999}");
    let about = server.get("/v1/log").json();
    assert_eq!(
        (&about["name"], &about["engine"], &about["head"]),
        (&json!("bank"), &json!("memory"), &json!("1000"))
    );
    let (mut after, mut events) = (0, 0);
    loop {
        let answer = server.get(&format!("/v1/log/blocks?after={after}&limit_bytes=10000"));
        assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
        let mut bytes = answer.body.as_slice();
        if bytes.is_empty() {
            break;
        }
        while !bytes.is_empty() {
            let (meta, block, used) = decode_frame(bytes).unwrap();
            assert_eq!(
                (meta.epoch.to_string(), meta.first.get()),
                (about["epoch"].as_str().unwrap().to_owned(), after + 1)
            );
            events += block.iter().map(Result::unwrap).count();
            after = block.last().get();
            bytes = &bytes[used..];
        }
        assert_eq!(answer.header("annals-position"), Some(after.to_string().as_str()));
    }
    assert_eq!((after, events), (1000, 1000));
    server
        .get("/v1/log/blocks?limit_bytes=0")
        .is_problem(400, "invalid-parameter", "limit_bytes");
}

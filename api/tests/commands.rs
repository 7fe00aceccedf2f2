//! One command over HTTP: what it answers when it is accepted, and each way it can fail.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod common;

use annals_core::{AppendError, CONTENT_TYPE_JSON, LogError, Position};
use common::*;
use std::time::Duration;

#[test]
fn a_command_is_answered_with_its_events() {
    let server = command_server();
    server.open("acc-1");
    let answer = server.deposit("acc-1", 50);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some(CONTENT_TYPE_JSON));
    assert_eq!(answer.header("etag"), Some("\"2\""));
    assert_eq!(answer.header("annals-position"), Some("2"));
    assert_eq!(
        answer.header("annals-epoch").unwrap(),
        server.commands.log().epoch().to_string()
    );
    let body = answer.json();
    assert_eq!(
        (&body["stream"], &body["version"], &body["position"]),
        (&"accounts/acc-1".into(), &2.into(), &"2".into())
    );
    assert_eq!(
        (&body["events"][0]["type"], &body["events"][0]["position"]),
        (&"Deposited".into(), &"2".into())
    );
    let id = body["events"][0]["id"].as_str().unwrap().to_owned();
    let event = server.get(&format!("/v1/events/{id}"));
    assert_eq!(event.header("content-type"), Some("application/cloudevents+json"));
    assert_eq!(event.json()["data"], serde_json::json!({"amount": 50}));
}

#[test]
fn a_command_that_changes_nothing_names_the_last_version() {
    let server = command_server();
    server.open("acc-1");
    let answer = server.open("acc-1");
    assert_eq!(answer.json()["events"], serde_json::json!([]));
    assert_eq!(
        (answer.header("etag"), answer.header("annals-position")),
        (Some("\"1\""), Some("1"))
    );
}

#[test]
fn a_command_sent_again_under_its_key_gets_its_first_answer() {
    let server = command_server();
    server.open("acc-1");
    let deposit = |headers: &[(&str, &str)], amount: u64| {
        let path = "/v1/commands/accounts/acc-1/deposit";
        server.post_with(path, headers, &format!("{{\"amount\":{amount}}}"))
    };
    let first = deposit(&[("idempotency-key", "k-1")], 5);
    server.deposit("acc-1", 1);
    let again = deposit(&[("idempotency-key", "\"k-1\""), ("if-match", "\"1\"")], 5);
    assert_eq!((again.status, again.body), (200, first.body));
    assert_eq!(
        (
            first.headers.iter().any(|(name, _)| name == "annals-duplicate"),
            again.headers.iter().any(|(name, _)| name == "annals-duplicate")
        ),
        (false, true)
    );
    let reused = deposit(&[("idempotency-key", "k-1")], 6).is_problem(422, "key-reused", "use a new key");
    assert_eq!(reused["position"], "2");
    for bad in ["", "\"\"", "\"", "\"k-1", "k-1\"", &"k".repeat(256)] {
        deposit(&[("idempotency-key", bad)], 5).is_problem(400, "invalid-header", "255 printable ASCII");
    }
}

#[test]
fn a_version_is_expected_with_if_match() {
    let server = command_server();
    server.open("acc-1");
    let path = "/v1/commands/accounts/acc-1/deposit";
    let deposit = |header: (&str, &str)| server.post_with(path, &[header], "{\"amount\":5}");
    assert_eq!(deposit(("if-match", "\"1\"")).status, 200);
    let stale = deposit(("if-match", "\"1\"")).is_problem(412, "precondition-failed", "read it again");
    assert_eq!(
        (&stale["expected_version"], &stale["actual_version"]),
        (&1.into(), &2.into())
    );
    let exists = deposit(("if-none-match", "*")).is_problem(412, "precondition-failed", "version 0");
    assert_eq!(
        (&exists["stream"], &exists["instance"]),
        (&"accounts/acc-1".into(), &path.into())
    );
    for bad in ["2", "\"03\"", "\"00\""] {
        deposit(("if-match", bad)).is_problem(400, "invalid-header", "If-Match: \"2\"");
    }
    deposit(("if-none-match", "\"2\"")).is_problem(400, "invalid-header", "only *");
    let new = "/v1/commands/accounts/acc-2/open";
    let answer = server.post_with(new, &[("if-none-match", "*")], r#"{"owner":"a","holder_name":"A"}"#);
    assert_eq!(answer.status, 200);
}

#[test]
fn who_when_and_why_reach_the_event() {
    let server = command_server();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let answer = server.post_with(
        "/v1/commands/accounts/acc-1/open",
        &[
            ("annals-actor", "clerk"),
            ("annals-correlation-id", "corr"),
            ("annals-causation-id", "cause"),
            ("annals-occurred-at", "2017-10-02T12:56:33+02:00"),
            ("traceparent", trace),
        ],
        r#"{"owner":"ann","holder_name":"Ann"}"#,
    );
    assert_eq!(answer.status, 200);
    let event = &server.get("/v1/streams/accounts/acc-1").json()[0];
    for (name, value) in [
        ("actor", "clerk"),
        ("correlationid", "corr"),
        ("causationid", "cause"),
        ("time", "2017-10-02T10:56:33Z"),
        ("traceparent", trace),
        ("tags", "owner=ann"),
        ("source", "annals/bank"),
        ("subject", "accounts/acc-1"),
    ] {
        assert_eq!(event[name], value, "{event}");
    }
    for (header, value, says) in [
        ("annals-occurred-at", "yesterday", "RFC 3339"),
        ("annals-actor", "", "1 to 256"),
        ("annals-correlation-id", &"x".repeat(300), "1 to 256"),
    ] {
        server
            .post_with("/v1/commands/accounts/acc-1/open", &[(header, value)], "")
            .is_problem(400, "invalid-header", says);
    }
    // A trace context that is not valid is nobody's mistake.
    let untraced = server.post_with(
        "/v1/commands/accounts/acc-1/deposit",
        &[("traceparent", "x")],
        "{\"amount\":1}",
    );
    assert_eq!(untraced.status, 200);
}

#[test]
fn a_rejection_has_its_code() {
    let server = command_server();
    let problem = server
        .deposit("acc-1", 5)
        .is_problem(422, "rejected", "open the account first");
    assert_eq!(problem["code"], "account-not-open");
    let comma = server.post(
        "/v1/commands/accounts/acc-1/open",
        r#"{"owner":"a,b","holder_name":"x"}"#,
    );
    assert_eq!(comma.is_problem(422, "rejected", "key=value")["code"], "invalid-tag");
}

#[test]
fn bad_bodies_are_malformed_and_nothing_breaks() {
    let server = command_server();
    let deep = format!("{}{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    let nested = format!("{{\"amount\":{}", "[".repeat(100_000));
    for (body, says) in [
        ("{", "EOF"),
        ("[1]", "JSON object"),
        ("{\"amount\":\"5\"}", "invalid type"),
        ("{\"amount\":-5}", "invalid value"),
        ("{\"amount\":1e999}", "out of range"),
        ("{\"amount\":99999999999999999999999999}", "invalid"),
        ("{\"amount\":5,\"more\":1}", "more"),
        ("", "missing field `amount`"),
        (&deep, "unknown field"),
        (&nested, "invalid type"),
    ] {
        server
            .post("/v1/commands/accounts/acc-1/deposit", body)
            .is_problem(400, "invalid-command", says);
    }
    let headers = [("content-type", "application/json")];
    let bytes = server.request(
        "POST",
        "/v1/commands/accounts/acc-1/open",
        &headers,
        b"{\"owner\":\"\xff\xfe\",\"holder_name\":\"x\"}",
    );
    bytes.is_problem(400, "invalid-command", "unicode");
    assert_eq!(server.commands.log().head(), Position::ZERO);
}

#[test]
fn what_there_is_not_is_named_with_what_there_is() {
    let server = command_server();
    let aggregate = server.post("/v1/commands/cars/c-1/drive", "{}");
    assert_eq!(
        aggregate.is_problem(404, "unknown-aggregate", "accounts")["known"][0],
        "accounts"
    );
    server
        .post("/v1/commands/accounts/a/fly", "{}")
        .is_problem(404, "unknown-command", "withdraw");
    for id in ["a%2Fb", "..%2e", "%20", "%C3%A9", &"x".repeat(201)] {
        let problem = server.post(&format!("/v1/commands/accounts/{id}/open"), "{}");
        if id != "..%2e" {
            problem.is_problem(400, "invalid-id", "1 to 200 characters");
        }
    }
    server
        .post("/v1/commands/accounts/%FF/open", "{}")
        .is_problem(400, "invalid-id", "UTF-8");
    server.get("/v1/nowhere").is_problem(404, "not-found", "/v1/commands");
    let method = server.get("/v1/commands/accounts/a/open");
    assert_eq!(method.header("allow"), Some("POST"));
    method.is_problem(405, "method-not-allowed", "POST");
    let method = server.request("DELETE", "/v1/streams/notes/n-1", &[], b"");
    method.is_problem(405, "method-not-allowed", "POST");
    assert!(method.header("allow").unwrap().contains("GET"));
    server
        .post("/v1/commands/accounts/a/open?dry=1", "{}")
        .is_problem(400, "invalid-parameter", "takes no parameters");
}

#[test]
fn sizes_and_types_have_their_limits() {
    let server = command_server();
    let path = "/v1/commands/accounts/acc-1/open";
    let large = format!("{{\"owner\":\"{}\",\"holder_name\":\"x\"}}", "o".repeat(1024 * 1024));
    server
        .post(path, &large)
        .is_problem(413, "too-large", "at most 1048576");
    let form = [("content-type", "application/x-www-form-urlencoded")];
    server
        .request("POST", path, &form, b"{}")
        .is_problem(415, "unsupported-media-type", "application/json");
    server
        .post_with(path, &[("accept", "text/html")], "{}")
        .is_problem(406, "not-acceptable", "application/json");
    server
        .get(&format!("/v1/{}", "x".repeat(9_000)))
        .is_problem(414, "uri-too-long", "shorten");
    server
        .request("GET", "/v1/log", &[("x-large", &"x".repeat(17_000))], b"")
        .is_problem(431, "headers-too-large", "fewer");
    server.open("acc-1");
    server
        .post("/v1/commands/accounts/acc-1/deposit-often", "{\"times\":1001}")
        .is_problem(400, "invalid-append", "1 to 1000 events");
    let gzip = [("content-type", "application/json"), ("content-encoding", "gzip")];
    let compressed = server.request("POST", path, &gzip, b"\x1f\x8b");
    compressed.is_problem(415, "unsupported-content-encoding", "without Content-Encoding");
    assert_eq!(compressed.header("accept-encoding"), Some("identity"));
    for path in ["/v1/commands", "/v1/streams/notes/n-1"] {
        let gzip = [("content-encoding", "gzip")];
        let compressed = server.request("POST", path, &gzip, b"\x1f\x8b");
        compressed.is_problem(415, "unsupported-content-encoding", "without Content-Encoding");
    }
    let identity = [("content-encoding", "identity")];
    assert_eq!(
        server
            .post_with(path, &identity, r#"{"owner":"a","holder_name":"A"}"#)
            .status,
        200
    );
    // No content type at all is JSON.
    assert_eq!(
        server
            .request("POST", "/v1/commands/accounts/acc-1/deposit", &[], b"{\"amount\":1}")
            .status,
        200
    );
}

#[test]
fn what_the_storage_cannot_do_is_said_with_the_remedy() {
    let log = FailingLog::new();
    let server = command_server_on(log.clone());
    server.open("acc-1");
    let fail = |error| {
        log.fail(error);
        server.deposit("acc-1", 1)
    };
    let overloaded = fail(AppendError::Overloaded {
        retry_after: Duration::from_secs(2),
    });
    overloaded.is_problem(503, "overloaded", "try again");
    assert_eq!(overloaded.header("retry-after"), Some("2"));
    let full =
        fail(AppendError::StorageFull { free: 1, reserve: 2 }).is_problem(507, "storage-full", "free some space");
    assert_eq!((&full["free_bytes"], &full["reserve_bytes"]), (&1.into(), &2.into()));
    fail(AppendError::ClockJumped { seconds: 90 }).is_problem(503, "clock-jumped", "restart");
    fail(AppendError::Closed("shutting down".into())).is_problem(503, "log-closed", "shutting down");
    let unreadable = AppendError::Log(LogError::Damaged {
        position: Position::new(9),
        detail: "x".into(),
    });
    let damaged = fail(unreadable).is_problem(500, "log-damaged", "annals verify");
    assert_eq!(damaged["position"], "9");
    let unknown = fail(AppendError::OutcomeUnknown("secret of the inside".into()));
    unknown.is_problem(500, "outcome-unknown", "Idempotency-Key");
    assert!(!unknown.text().contains("secret"));
    let damaged = server.get("/v1/streams/accounts/damaged");
    assert_eq!(damaged.is_problem(500, "log-damaged", "annals verify")["position"], "7");
    assert!(!damaged.text().contains("secret"));
    // It serves again.
    assert_eq!(server.deposit("acc-1", 1).status, 200);
}

#[test]
fn a_panic_of_the_domain_is_a_problem_that_tells_nothing() {
    let server = command_server();
    let answer = server.post("/v1/commands/accounts/acc-1/explode", "");
    let problem = answer.is_problem(500, "internal", "its own log says why");
    assert!(
        problem["request"].is_u64() && !answer.text().contains("secret"),
        "{problem}"
    );
    server.open("acc-1");
}

#[test]
fn what_comes_later_or_is_not_kept_here_says_so() {
    let server = command_server();
    server.open("acc-1");
    for path in [
        "/checkpoint",
        "/tile/0/000",
        "/v1/checkpoints",
        "/v1/proofs/inclusion?position=1",
    ] {
        server.get(path).is_problem(404, "no-notary", "keeps no Merkle tree");
    }
    for path in ["/v1/schemas", "/v1/schemas/Opened/1"] {
        server
            .get(path)
            .is_problem(501, "not-implemented", "not implemented in this release");
    }
    server
        .post("/v1/backup", "")
        .is_problem(501, "not-implemented", "backup");
    for path in ["/openapi.json", "/docs"] {
        server
            .get(path)
            .is_problem(501, "not-implemented", "not implemented in this release");
    }
    assert_eq!(
        (server.get("/healthz").status, server.get("/readyz").status),
        (200, 200)
    );
}

#[test]
fn requests_under_way_are_finished_at_a_shutdown() {
    let mut server = command_server_on(FailingLog::slow(Duration::from_millis(300)));
    let address = server.address;
    let waiting = std::thread::spawn(move || {
        let body = br#"{"owner":"ann","holder_name":"Ann"}"#;
        request(
            address,
            "POST",
            "/v1/commands/accounts/acc-1/open",
            &[("content-type", "application/json")],
            body,
        )
    });
    std::thread::sleep(Duration::from_millis(100));
    server.stop();
    server.stopped();
    assert_eq!(waiting.join().unwrap().status, 200);
    assert!(std::net::TcpStream::connect(address).is_err());
}

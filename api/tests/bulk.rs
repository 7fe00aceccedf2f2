//! Commands line by line: answers in order, bad lines among good ones, and callers that are slow.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod common;

use common::*;
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

fn bulk(server: &Server, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut all = vec![("content-type", "application/x-ndjson")];
    all.extend_from_slice(headers);
    server.request("POST", "/v1/commands", &all, body.as_bytes())
}

fn open(id: &str) -> String {
    format!(
        "{}\n",
        json!({"aggregate": "accounts", "id": id, "command": "open", "data": {"owner": "ann", "holder_name": "Ann"}})
    )
}

fn deposit(id: &str, amount: u64) -> String {
    format!(
        "{}\n",
        json!({"aggregate": "accounts", "id": id, "command": "deposit", "data": {"amount": amount}})
    )
}

#[test]
fn each_line_is_answered_in_order_and_bad_ones_stop_nothing() {
    let server = command_server();
    let lines = [
        open("acc-1"),
        "not json\n".into(),
        deposit("acc-2", 5),
        format!("{}\n", json!({"aggregate": "cars", "id": "c", "command": "drive"})),
        "\n".into(),
        format!(
            "{}\n",
            json!({"aggregate": "accounts", "id": "acc-1", "command": "deposit", "data": {"amount": 5}, "unknown": 1})
        ),
        format!(
            "{}\n",
            json!({"aggregate": "accounts", "id": "acc-1", "command": "deposit", "data": {"amount": 5}, "expected_version": 7})
        ),
        format!(
            "{}\n",
            json!({"aggregate": "accounts", "id": "acc-1", "command": "deposit", "data": {"amount": 5}, "occurred_at": "soon"})
        ),
        format!("{}{}\n", " ".repeat(1024 * 1024), "x"),
        deposit("acc-1", 5),
    ];
    let answer = bulk(&server, &[], &lines.concat());
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("application/x-ndjson"))
    );
    let seen: Vec<_> = answer
        .lines()
        .iter()
        .map(|line| (line["line"].as_u64().unwrap(), line["status"].as_u64().unwrap()))
        .collect();
    assert_eq!(
        seen,
        [
            (1, 200),
            (2, 400),
            (3, 422),
            (4, 404),
            (5, 400),
            (6, 400),
            (7, 409),
            (8, 400),
            (9, 413),
            (10, 200)
        ]
    );
    let lines = answer.lines();
    assert_eq!(
        (&lines[0]["stream"], &lines[0]["version"]),
        (&json!("accounts/acc-1"), &json!(1))
    );
    assert_eq!(lines[0]["events"][0]["type"], "Opened");
    assert_eq!(
        (&lines[2]["type"], &lines[2]["code"]),
        (&json!("urn:annals:problem:rejected"), &json!("account-not-open"))
    );
    assert_eq!(
        (&lines[6]["type"], &lines[6]["actual_version"]),
        (&json!("urn:annals:problem:version-conflict"), &json!(1))
    );
    assert_eq!(lines[9]["version"], 2);
}

#[test]
fn a_blank_line_is_answered_too_and_a_final_line_end_is_none() {
    let server = command_server();
    for (body, statuses) in [
        (open("a"), &[200][..]),
        (open("a").trim_end().to_owned(), &[200]),
        (format!("\n \r\n{}\n", open("a")), &[400, 400, 200, 400]),
        ("\n".to_owned(), &[400]),
        (String::new(), &[]),
    ] {
        let lines = bulk(&server, &[], &body).lines();
        let seen: Vec<_> = lines.iter().map(|line| line["status"].as_u64().unwrap()).collect();
        assert_eq!(seen, statuses, "{body:?}");
        for (number, line) in (1..).zip(&lines) {
            assert_eq!(line["line"], number);
            if line["status"] == 400 {
                assert_eq!(line["type"], "urn:annals:problem:invalid-line");
                assert!(
                    line["detail"].as_str().unwrap().contains("blank: leave it out"),
                    "{line}"
                );
            }
        }
    }
}

#[test]
fn lines_of_one_stream_are_done_in_their_order() {
    let server = command_server_on(FailingLog::slow(Duration::from_millis(1)));
    let mut body = String::new();
    for round in 0..10 {
        for account in 0..20 {
            let id = format!("acc-{account}");
            body.push_str(&if round == 0 { open(&id) } else { deposit(&id, round) });
        }
    }
    let lines = bulk(&server, &[], &body).lines();
    assert_eq!(lines.len(), 200);
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(
            (&line["line"], &line["status"]),
            (&json!(index + 1), &json!(200)),
            "{line}"
        );
        assert_eq!(line["version"], index / 20 + 1);
    }
}

#[test]
fn events_stand_in_the_log_in_the_order_of_the_lines() {
    let server = command_server();
    let mut body = String::new();
    for account in 0..200 {
        // Twice each: the second line of a stream must wait for the first, and the lines after it for the second.
        let id = format!("acc-{account}");
        body.push_str(&open(&id));
        body.push_str(&deposit(&id, 1));
    }
    let lines = bulk(&server, &[], &body).lines();
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(line["position"], (index + 1).to_string().as_str(), "{line}");
    }
    assert_eq!(lines.len(), 400);
}

#[test]
fn lines_with_a_key_may_be_sent_again() {
    let server = command_server();
    let line = |id: &str, key: &str| {
        let data = json!({"owner": "ann", "holder_name": "Ann"});
        format!(
            "{}\n",
            json!({"aggregate": "accounts", "id": id, "command": "open", "data": data, "key": key})
        )
    };
    let body = line("acc-1", "k-1") + &line("acc-1", "k-1") + &line("acc-2", "k-1");
    let first = bulk(&server, &[], &body).lines();
    let again = bulk(&server, &[], &body).lines();
    assert_eq!(
        first.iter().map(|line| &line["duplicate"]).collect::<Vec<_>>(),
        [&json!(null), &json!(true), &json!(null)]
    );
    assert!(again.iter().all(|line| line["duplicate"] == true));
    assert_eq!(server.commands.log().head().get(), 2);
    assert_eq!(again[2]["events"], first[2]["events"]);
}

#[test]
fn who_is_said_for_all_lines_and_never_in_a_line() {
    let server = command_server();
    let mine = json!({"aggregate": "accounts", "id": "acc-1", "command": "deposit", "data": {"amount": 1}, "occurred_at": "2017-10-02T10:56:33Z"});
    let mut forged = mine.clone();
    forged["actor"] = json!("boss");
    let body = format!("{}{forged}\n{mine}", open("acc-1"));
    let headers = [("annals-actor", "clerk"), ("annals-correlation-id", "batch-7")];
    let answers = bulk(&server, &headers, &body).lines();
    assert_eq!(
        answers.iter().map(|line| &line["status"]).collect::<Vec<_>>(),
        [&json!(200), &json!(400), &json!(200)]
    );
    let detail = answers[1]["detail"].as_str().unwrap();
    assert!(
        detail.contains("actor") && detail.contains("Annals-Actor"),
        "the field and the remedy: {detail}"
    );
    let events = server.get("/v1/streams/accounts/acc-1").json();
    assert_eq!(
        (&events[0]["actor"], &events[1]["actor"]),
        (&json!("clerk"), &json!("clerk"))
    );
    assert_eq!(
        (&events[0]["correlationid"], &events[1]["correlationid"]),
        (&json!("batch-7"), &json!("batch-7"))
    );
    assert_eq!(events[1]["time"], "2017-10-02T10:56:33Z");
}

#[test]
fn a_line_that_is_a_list_of_values_is_no_command() {
    let server = command_server();
    let list = r#"["accounts","acc-1","open",{"owner":"ann","holder_name":"Ann"},null,null,null,null]"#;
    let answers = bulk(&server, &[], &format!("{list}\n5\n{{\"aggregate\":5}}\n")).lines();
    for (answer, says) in answers
        .iter()
        .zip(["a JSON object", "a JSON object", "expected a string"])
    {
        assert_eq!(answer["status"], 400, "{answer}");
        let detail = answer["detail"].as_str().unwrap();
        assert!(detail.contains(says) && !detail.contains("struct"), "{detail}");
    }
    assert_eq!(server.get("/v1/log").json()["head"], "0");
}

#[test]
fn what_holds_for_a_line_is_not_said_for_all() {
    let server = command_server();
    for (header, value, says) in [
        ("idempotency-key", "k", "say key in each line"),
        ("if-match", "\"1\"", "say expected_version"),
        ("annals-occurred-at", "2017-10-02T10:56:33Z", "say occurred_at"),
    ] {
        bulk(&server, &[(header, value)], &open("a")).is_problem(400, "invalid-header", says);
    }
    let json = [("content-type", "application/json")];
    server.request("POST", "/v1/commands", &json, b"{}").is_problem(
        415,
        "unsupported-media-type",
        "application/x-ndjson",
    );
}

fn begin(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let head = "POST /v1/commands HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

#[test]
fn a_line_is_answered_while_the_next_ones_are_still_to_come() {
    let server = command_server();
    let mut stream = begin(&server);
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    for round in 0..3 {
        let line = if round == 0 { open("acc-1") } else { deposit("acc-1", 1) };
        stream.write_all(chunk(&line).as_bytes()).unwrap();
        let mut answer = String::new();
        while !answer.contains("\"line\"") {
            answer.clear();
            assert!(answers.read_line(&mut answer).unwrap() > 0);
        }
        assert!(
            answer.contains(&format!("\"line\":{},\"status\":200", round + 1)),
            "{answer}"
        );
    }
    // The body breaks off: what was answered stays so.
    drop((stream, answers));
    assert_eq!(server.commands.log().head().get(), 3);
}

#[test]
fn a_caller_that_reads_no_answers_is_read_no_further_and_holds_nobody_up() {
    let server = command_server();
    let mut stream = begin(&server);
    stream.write_all(chunk(&open("acc-1")).as_bytes()).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(1500))).unwrap();
    let lines: String = std::iter::repeat_n(deposit("acc-1", 1), 500).collect();
    let lines = chunk(&lines);
    let mut sent = 0_usize;
    while sent < 200 * lines.len() && stream.write_all(lines.as_bytes()).is_ok() {
        sent += lines.len();
    }
    assert!(
        sent < 200 * lines.len(),
        "everything was taken in, although no answer was read"
    );
    // Another caller's command to the same stream is not kept waiting.
    assert_eq!(server.deposit("acc-1", 1).status, 200);
    drop(stream);
}

#[test]
fn a_body_that_breaks_off_in_the_middle_is_said() {
    let server = command_server();
    let mut stream = begin(&server);
    stream.write_all(chunk(&open("acc-1")).as_bytes()).unwrap();
    stream.write_all(b"zzz\r\n").unwrap();
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    assert!(
        text.contains("\"line\":1,\"status\":200") && text.contains("broken-body"),
        "{text}"
    );
}

//! Connections: where requests may come from, and how long one that says nothing is kept.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod common;

use annals_api::{ApiState, ServeLimits, command_api, query_api};
use annals_event_store::MemoryLog;
use common::*;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

const OPEN: &str = "/v1/commands/accounts/acc-1/open";
const BODY: &str = r#"{"owner":"ann","holder_name":"Ann"}"#;

#[test]
fn a_page_of_another_site_cannot_write() {
    let server = command_server();
    for origin in [
        "https://example.org",
        "http://localhost.example.org:8080",
        "http://192.168.0.7",
        "null",
    ] {
        let answer = server.post_with(OPEN, &[("origin", origin)], BODY);
        let problem = answer.is_problem(403, "origin-refused", "from a program without Origin");
        assert_eq!(problem["header"], "origin");
    }
    // As a form or a script sends it that asks nobody first: without a content type that would need a permission.
    let simple = server.request("POST", "/v1/commands", &[("origin", "https://example.org")], b"{}");
    simple.is_problem(403, "origin-refused", "example.org");
    assert_eq!(server.commands.log().head().get(), 0);
    for origin in ["http://localhost:3000", "http://127.0.0.1", "http://[::1]:8080"] {
        assert_eq!(
            server.post_with(OPEN, &[("origin", origin)], BODY).status,
            200,
            "{origin}"
        );
    }
}

fn raw(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_foreign_name_of_this_machine_reaches_neither_api() {
    let command = command_server();
    let state = ApiState::new(commands_on(Arc::new(MemoryLog::new("bank"))));
    let query = Server::start(state, query_api);
    for (server, request) in [
        (&command, "POST /v1/commands/accounts/acc-1/open"),
        (&command, "GET /v1/events"),
        (&query, "GET /v1/views"),
    ] {
        let send = |host: &str| {
            raw(
                server,
                &format!("{request} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"),
            )
        };
        for host in [
            "example.org",
            "rebound.example.org:8080",
            "10.0.0.1",
            "127.0.0.1.example.org",
        ] {
            let answer = send(host);
            assert!(
                answer.starts_with("HTTP/1.1 403") && answer.contains("origin-refused"),
                "{answer}"
            );
            assert!(answer.contains("address the server as 127.0.0.1"), "{answer}");
        }
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080"] {
            assert!(!send(host).contains("origin-refused"), "{request} {host}");
        }
    }
}

const SHORT: Duration = Duration::from_millis(400);

fn impatient_server() -> Server {
    let limits = ServeLimits {
        head_time_max: SHORT,
        ..ServeLimits::default()
    };
    let state = ApiState::new(commands_on(Arc::new(MemoryLog::new("bank"))));
    Server::start_within(limits, state, command_api)
}

/// Reads until the server closes, which it must do soon.
fn is_closed(mut stream: TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => answer,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => answer,
        Err(error) => panic!("still open: {error}"),
    }
}

#[test]
fn a_connection_that_does_not_finish_a_head_is_closed() {
    let server = impatient_server();
    for begun in [
        "",
        "POST /v1/comm",
        "GET /healthz HTTP/1.1\r\nhost: loc",
        "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\nGET /hea",
    ] {
        let since = Instant::now();
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(begun.as_bytes()).unwrap();
        let answer = is_closed(stream);
        assert!(since.elapsed() >= SHORT / 2, "{begun:?} was closed at once");
        let answered = answer.starts_with(b"HTTP/1.1 200");
        assert_eq!(answered, begun.contains("\r\n\r\n"), "{begun:?}");
    }
}

#[test]
fn idle_connections_make_room_for_others() {
    let limits = ServeLimits {
        connections_max: 8,
        head_time_max: SHORT,
        ..ServeLimits::default()
    };
    let state = ApiState::new(commands_on(Arc::new(MemoryLog::new("bank"))));
    let server = Server::start_within(limits, state, command_api);
    let idle: Vec<TcpStream> = (0..30).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    assert_eq!(server.get("/healthz").status, 200);
    drop(idle);
}

#[test]
fn a_body_that_takes_longer_than_a_head_may_is_waited_for() {
    let server = impatient_server();
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = format!(
        "POST {OPEN} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        BODY.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    std::thread::sleep(2 * SHORT);
    stream.write_all(BODY.as_bytes()).unwrap();
    assert!(is_closed(stream).starts_with(b"HTTP/1.1 200"));
}

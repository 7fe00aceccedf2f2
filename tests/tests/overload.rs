//! The overload suite: far more is asked of a server than it can do. Its memory stays within a bound, what it refuses
//! it refuses with 503 and when to come again, what it acknowledged is in the log and nothing else is, and the first
//! request after the storm is answered as if there had been none.
//!
//! No test here measures time. What is waited for is waited for generously.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use annals_tests::events;
use annals_tests::http::{Answer, Client};
use annals_tests::process::{memory_mib, memory_peak_mib, raise_open_files};
use annals_tests::server::{Launch, Server};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// Most memory that the server may take; what is asked of it would take several times as much.
const MEMORY_MAX_MIB: u64 = 400;
/// The same for readers: an answer that is being made takes a multiple of what is sent of it.
const READERS_MEMORY_MAX_MIB: u64 = 640;
const WAIT_MAX: Duration = Duration::from_secs(60);

fn connect(client: &Client) -> Result<TcpStream> {
    let stream = TcpStream::connect(client.address())?;
    stream.set_read_timeout(Some(WAIT_MAX))?;
    stream.set_write_timeout(Some(WAIT_MAX))?;
    Ok(stream)
}

/// Reads one answer whose length is declared.
fn answer(stream: &mut TcpStream) -> Result<(u16, String)> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut piece)?;
        bytes.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_lowercase();
            let len = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let len: usize = len.context("no length")?.trim().parse()?;
            if body.len() >= len || read == 0 {
                let status = head.split(' ').nth(1).context("no status")?.parse()?;
                return Ok((status, text));
            }
        }
        ensure!(read > 0, "closed after {:?}", String::from_utf8_lossy(&bytes));
    }
}

/// A CloudEvent; its id is unique as long as nothing is said twice in its stream.
fn note(stream: &str, text: &str) -> Value {
    let id = format!("{stream}-{}", text.get(..16).unwrap_or(text));
    json!({ "specversion": "1.0", "id": id, "source": "overload", "type": "Noted", "data": { "text": text } })
}

fn append(client: &Client, stream: &str, text: &str) -> Result<Answer> {
    client.post(&format!("/v1/streams/{stream}"), &[], &note(stream, text))
}

/// Checks that a refusal says what it should; true if the request was accepted.
fn accepted(answer: &Answer) -> Result<bool> {
    if answer.status == 200 {
        return Ok(true);
    }
    answer.problem(503, "overloaded")?;
    let seconds: u64 = answer.header("retry-after").parse().context("no Retry-After")?;
    ensure!((1..=60).contains(&seconds), "Retry-After: {seconds}");
    Ok(false)
}

/// Every stream that was acknowledged is in the log with one event, and no other stream is.
fn only_acknowledged(server: &Server, acknowledged: &[String]) -> Result<()> {
    let mut stored: HashMap<String, u64> = HashMap::new();
    for event in events::all(&server.command)? {
        *stored.entry(event.stream).or_default() += 1;
    }
    for stream in acknowledged {
        ensure!(stored.remove(stream) == Some(1), "{stream} was acknowledged");
    }
    ensure!(stored.is_empty(), "refused, and yet in the log: {stored:?}");
    Ok(())
}

#[test]
fn an_append_queue_that_is_full_refuses_at_once_and_takes_again_at_once() -> Result<()> {
    const CLIENTS: usize = 64;
    const APPENDS: usize = 60;
    let directory = tempfile::tempdir()?;
    let config = directory.path().join("annals.toml");
    std::fs::write(&config, "[log]\nqueue_appends_max = 2\n")?;
    let launch = Launch::on(&directory.path().join("data"))?;
    let server = launch.argument("--config").argument(&config).start()?;
    let asked: Vec<(String, bool)> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let url = server.command.url();
                scope.spawn(move || -> Result<Vec<(String, bool)>> {
                    let client = Client::new(url);
                    let one = |round| {
                        let stream = format!("notes/{number}-{round}");
                        Ok((stream.clone(), accepted(&append(&client, &stream, "x")?)?))
                    };
                    (0..APPENDS).map(one).collect()
                })
            })
            .collect();
        let joined = clients
            .into_iter()
            .map(|client| client.join().map_err(|_| anyhow::anyhow!("panicked"))?);
        joined
            .collect::<Result<Vec<_>>>()
            .map(|all| all.into_iter().flatten().collect())
    })?;
    let mut acknowledged: Vec<String> = asked
        .iter()
        .filter(|(_, done)| *done)
        .map(|(stream, _)| stream.clone())
        .collect();
    ensure!(!acknowledged.is_empty(), "nothing was accepted");
    ensure!(
        acknowledged.len() < asked.len(),
        "nothing was refused: that proves nothing"
    );
    ensure!(
        append(&server.command, "notes/after", "x")?.status == 200,
        "the first append after the storm"
    );
    acknowledged.push("notes/after".into());
    only_acknowledged(&server, &acknowledged)?;
    server.stop()
}

/// The head and the first part of an append with a large body.
fn begin_large(server: &Server, stream: &str, body: &str, first: usize) -> Result<TcpStream> {
    let mut connection = connect(&server.command)?;
    let head = format!(
        "POST /v1/streams/{stream} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes())?;
    connection.write_all(&body.as_bytes()[..first])?;
    Ok(connection)
}

#[test]
fn two_thousand_large_bodies_at_once_do_not_exhaust_memory() -> Result<()> {
    const CALLERS: usize = 2_000;
    const BEGUN: usize = 256 * 1024;
    raise_open_files()?;
    let directory = tempfile::tempdir()?;
    let server = Server::start(&directory.path().join("data"))?;
    let body = note("large", &"x".repeat(300 * 1024)).to_string();
    let mut connections = Vec::new();
    for caller in 0..CALLERS {
        let connection = begin_large(&server, &format!("large/{caller}"), &body, BEGUN);
        connections.push(connection.with_context(|| format!("caller {caller}"))?);
    }
    // All of them together are half a gigabyte under way; and yet who asks for little is answered.
    ensure!(append(&server.command, "notes/meanwhile", "x")?.status == 200);
    let (mut acknowledged, mut refused) = (vec!["notes/meanwhile".to_owned()], 0);
    for (caller, mut connection) in connections.into_iter().enumerate() {
        connection.write_all(&body.as_bytes()[BEGUN..]).or_else(closed_early)?;
        let (status, text) = answer(&mut connection).with_context(|| format!("caller {caller}"))?;
        match status {
            200 => acknowledged.push(format!("large/{caller}")),
            503 => {
                let said = text.to_lowercase();
                ensure!(
                    said.contains("retry-after: ") && said.contains("urn:annals:problem:overloaded"),
                    "{text}"
                );
                refused += 1;
            }
            // On a slow machine the first ones have waited for longer than a body may take.
            408 => refused += 1,
            _ => anyhow::bail!("status {status}: {text}"),
        }
    }
    ensure!(refused > 0, "nothing was refused: that proves nothing");
    let peak = memory_peak_mib(server.pid())?;
    ensure!(
        peak <= MEMORY_MAX_MIB,
        "the server took {peak} MiB, at most {MEMORY_MAX_MIB}"
    );
    let first = begin_large(&server, "large/after", &body, body.len()).and_then(|mut after| answer(&mut after))?;
    ensure!(first.0 == 200, "the first large body after the storm: {}", first.1);
    acknowledged.push("large/after".into());
    only_acknowledged(&server, &acknowledged)?;
    server.stop()
}

/// A server that has given up on a body may have closed the connection; its answer is there all the same.
fn closed_early(error: std::io::Error) -> Result<()> {
    match error.kind() {
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Ok(()),
        _ => Err(error.into()),
    }
}

/// Text that does not compress.
fn noise(seed: u64, len: usize) -> String {
    let (mut state, mut text) = (
        seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        String::with_capacity(len + 16),
    );
    while text.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Writing to a String cannot fail.
        let _ = write!(text, "{state:016x}");
    }
    text
}

#[test]
fn five_hundred_readers_that_do_not_read_neither_slow_the_writer_nor_grow_memory() -> Result<()> {
    const READERS: usize = 500;
    const APPENDS: usize = 300;
    raise_open_files()?;
    let directory = tempfile::tempdir()?;
    let server = Server::start(&directory.path().join("data"))?;
    for number in 0..40 {
        append(&server.command, "history/long", &noise(number, 400 * 1024))?.expect(200)?;
    }
    let before = memory_mib(server.pid())?;
    let mut readers = Vec::new();
    for reader in 0..READERS {
        let (path, form) = match reader % 3 {
            0 => ("/v1/log/blocks?after=0&limit_bytes=4000000", "application/octet-stream"),
            1 => ("/v1/events?limit=1000", "application/x-ndjson"),
            _ => ("/v1/streams/history/long?limit=1000", "application/json"),
        };
        let mut connection = connect(&server.command)?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: {form}\r\n\r\n");
        connection.write_all(request.as_bytes())?;
        readers.push(connection);
    }
    for number in 0..APPENDS {
        append(&server.command, &format!("notes/{number}"), "x")?
            .expect(200)
            .with_context(|| format!("append {number}"))?;
        if let Some(reader) = readers.get_mut(number) {
            // A byte now and then, from those who have something to read.
            reader.set_read_timeout(Some(Duration::from_millis(1)))?;
            let _ = reader.read(&mut [0]);
        }
    }
    let peak = memory_peak_mib(server.pid())?;
    ensure!(
        peak <= READERS_MEMORY_MAX_MIB,
        "{READERS} readers took the server from {before} to {peak} MiB, at most {READERS_MEMORY_MAX_MIB}"
    );
    drop(readers);
    // Once they are gone, whoever does read gets everything.
    let begun = Instant::now();
    loop {
        let page = server.command.get("/v1/log/blocks?after=0&limit_bytes=4000000")?;
        if accepted(&page)? {
            break;
        }
        ensure!(
            begun.elapsed() < WAIT_MAX,
            "readers that are gone still take the room of others"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    ensure!(events::all(&server.command)?.len() == 40 + APPENDS);
    server.stop()
}

#[test]
fn requests_of_many_lines_that_go_on_for_ever_are_bounded_in_number() -> Result<()> {
    const CALLERS: usize = 100;
    let directory = tempfile::tempdir()?;
    let server = Server::start(&directory.path().join("data"))?;
    let mut refused = 0;
    let mut open = Vec::new();
    for _ in 0..CALLERS {
        let mut connection = connect(&server.command)?;
        let head = "POST /v1/commands HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
        connection.write_all(head.as_bytes())?;
        let mut begin = [0; 12];
        connection.read_exact(&mut begin)?;
        match &begin {
            b"HTTP/1.1 200" => open.push(connection),
            b"HTTP/1.1 503" => refused += 1,
            other => anyhow::bail!("answered {:?}", String::from_utf8_lossy(other)),
        }
    }
    ensure!(
        !open.is_empty() && refused > 0,
        "{} open, {refused} refused",
        open.len()
    );
    ensure!(
        append(&server.command, "notes/1", "x")?.status == 200,
        "single requests go on"
    );
    drop(open);
    let begun = Instant::now();
    let lines =
        br#"{"aggregate":"users","id":"ann","command":"register","data":{"email":"ann@example.com","name":"Ann"}}"#;
    loop {
        let headers = [("content-type", "application/x-ndjson")];
        let answer = server.command.send("POST", "/v1/commands", &headers, Some(lines))?;
        if accepted(&answer)? {
            ensure!(answer.text().contains("\"status\":200"), "{}", answer.text());
            break;
        }
        ensure!(begun.elapsed() < WAIT_MAX, "requests that are gone still count");
        std::thread::sleep(Duration::from_millis(20));
    }
    server.stop()
}

//! Load over HTTP/1.1: a client of our own, as lean as can be, one connection a task, so that the server is what is
//! measured and not the client beside it. Knows just enough of the protocol for the answers of this server.

use super::calls::{Call, Calls};
use super::measure::Measured;
use super::pace::{Pace, Worker, drive};
use annals_core::Position;
use anyhow::{Context, Result, bail, ensure};
use std::net::{SocketAddr, ToSocketAddrs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 16 << 20;
const HEAD_END: &[u8] = b"\r\n\r\n";

/// One connection and what it asks.
pub(super) struct Connection<C> {
    stream: TcpStream,
    host: String,
    request: Vec<u8>,
    answer: Vec<u8>,
    calls: C,
}

/// Calls over so many connections; `calls` says what the connection of a number asks.
pub(super) async fn load<C: Calls>(
    address: SocketAddr,
    connections: usize,
    pace: Pace,
    calls: impl Fn(usize) -> C,
) -> Result<Measured> {
    let mut workers = Vec::with_capacity(connections);
    for number in 0..connections {
        workers.push(Connection::open(address, calls(number)).await?);
    }
    drive(workers, pace).await
}

impl<C: Calls> Connection<C> {
    pub(super) async fn open(address: SocketAddr, calls: C) -> Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("no server at {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            host: address.to_string(),
            request: Vec::with_capacity(1024),
            answer: Vec::with_capacity(4096),
            calls,
        })
    }

    /// Where the log was, as the last answer says.
    pub(super) fn position(&self) -> Result<Position> {
        let text = String::from_utf8_lossy(&self.answer);
        let values = text.lines().filter_map(|line| line.split_once(':'));
        let mut found = values.filter(|(name, _)| name.eq_ignore_ascii_case("annals-position"));
        let (_, value) = found.next().context("an answer does not say its position")?;
        Ok(value.trim().parse()?)
    }

    /// Reads one answer and checks that it is a success.
    async fn read_answer(&mut self) -> Result<()> {
        self.answer.clear();
        let mut end = None;
        loop {
            if let Some(end) = end
                && self.answer.len() >= end
            {
                break;
            }
            let read = self.stream.read_buf(&mut self.answer).await?;
            ensure!(read > 0, "the server closed a connection");
            if end.is_none() {
                end = answer_len(&self.answer)?;
            }
        }
        let success = self.answer.starts_with(b"HTTP/1.1 2");
        ensure!(
            success,
            "the server answered: {}",
            String::from_utf8_lossy(&self.answer)
        );
        Ok(())
    }
}

impl<C: Calls> Worker for Connection<C> {
    async fn turn(&mut self) -> Result<u64> {
        self.calls.next_call()?.write(&self.host, &mut self.request);
        self.stream.write_all(&self.request).await?;
        self.read_answer().await?;
        Ok(1)
    }
}

impl Call {
    /// The request as it goes over the wire.
    fn write(&self, host: &str, out: &mut Vec<u8>) {
        out.clear();
        for part in [self.method, " ", &self.path, " HTTP/1.1\r\nhost: ", host, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        if let Some((content_type, body)) = &self.body {
            let head = format!("content-type: {content_type}\r\ncontent-length: {}\r\n\r\n", body.len());
            out.extend_from_slice(head.as_bytes());
            out.extend_from_slice(body);
        } else {
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// How long the answer is that begins here; `None` until its head is there.
fn answer_len(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(head) = bytes.windows(HEAD_END.len()).position(|window| window == HEAD_END) else {
        ensure!(bytes.len() < ANSWER_BYTES_MAX, "the head of an answer does not end");
        return Ok(None);
    };
    let name = b"content-length:";
    for line in bytes[..head].split(|byte| *byte == b'\n') {
        if let Some((found, value)) = line.split_at_checked(name.len())
            && found.eq_ignore_ascii_case(name)
        {
            let len: usize = std::str::from_utf8(value)?.trim().parse()?;
            ensure!(len < ANSWER_BYTES_MAX, "an answer has {len} bytes");
            return Ok(Some(head + HEAD_END.len() + len));
        }
    }
    bail!(
        "an answer does not say its length: {}",
        String::from_utf8_lossy(&bytes[..head])
    )
}

/// The address in the URL of a server.
pub(super) fn resolve(url: &str) -> Result<SocketAddr> {
    let rest = url
        .strip_prefix("http://")
        .with_context(|| format!("{url} is no URL: write it as http://127.0.0.1:8080"))?;
    let host = rest.trim_end_matches('/');
    let said = || format!("{url} does not name a host and port: write it as http://127.0.0.1:8080");
    host.to_socket_addrs().with_context(said)?.next().with_context(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_head_says() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nx: y\r\n\r\nbodyHTTP/1.1";
        assert_eq!(answer_len(answer).unwrap(), Some(answer.len() - 8));
        assert_eq!(answer_len(&answer[..20]).unwrap(), None);
        assert!(answer_len(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn a_request_names_host_type_and_length() {
        let mut out = Vec::new();
        Call::post("/a".into(), "text/plain", "hello".into()).write("h:1", &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "POST /a HTTP/1.1\r\nhost: h:1\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello"
        );
    }
}

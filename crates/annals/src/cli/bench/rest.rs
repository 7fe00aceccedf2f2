//! Load over HTTP: a client as lean as can be, one connection a task, so that the server is what is measured.

use super::calls::{Call, Calls};
use super::measure::Measured;
use super::pace::{Pace, Worker, drive};
use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use std::net::{SocketAddr, ToSocketAddrs};
use tokio::net::TcpStream;

struct Connection<C> {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
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
    async fn open(address: SocketAddr, calls: C) -> Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("no server at {address}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // How the connection ended is said by the request that it fails.
        tokio::spawn(async move { drop(connection.await) });
        let host = HeaderValue::try_from(address.to_string())?;
        Ok(Self { sender, host, calls })
    }

    fn next_call(&mut self) -> Result<Call> {
        let mut call = self.calls.next_call()?;
        call.headers_mut().insert(HOST, self.host.clone());
        Ok(call)
    }
}

impl<C: Calls> Worker for Connection<C> {
    async fn turn(&mut self) -> Result<u64> {
        let call = self.next_call()?;
        self.sender.ready().await.context("the server closed a connection")?;
        let response = self
            .sender
            .send_request(call)
            .await
            .context("the server closed a connection")?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(
            status.is_success(),
            "the server answered {status}: {}",
            String::from_utf8_lossy(&body)
        );
        Ok(1)
    }
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

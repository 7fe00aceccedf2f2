//! Commands over HTTP: a client as lean as can be, one connection a task, so that the server is what is measured.

use super::domain::{Bench, CATEGORY, EVENT_TYPE, StreamIds, event_json};
use super::measure::{Measured, Worker, closed_loop};
use annals_core::Aggregate as _;
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Call {
    /// Commands of the benchmark's own aggregate.
    Command,
    /// Events appended to streams, which any server takes.
    Append,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    ids: StreamIds,
    call: Call,
    body: Bytes,
}

/// Calls over so many connections.
pub(super) async fn calls(
    name: &'static str,
    address: SocketAddr,
    call: Call,
    connections: usize,
    time: Duration,
) -> Result<Measured> {
    let mut workers = Vec::with_capacity(connections);
    for number in 0..connections {
        workers.push(Connection::open(address, call, number).await?);
    }
    closed_loop(name, workers, time).await
}

impl Connection {
    async fn open(address: SocketAddr, call: Call, number: usize) -> Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("no server at {address}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // How the connection ended is said by the request that it fails.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self {
            sender,
            host: address.to_string(),
            ids: StreamIds::of(number),
            call,
            body: Bytes::from(event_json()),
        })
    }

    fn request(&mut self) -> Result<Request<Full<Bytes>>> {
        let id = self.ids.next_id();
        let (path, content_type, body) = match self.call {
            Call::Command => (
                format!("/v1/commands/{}/{id}/write", Bench::CATEGORY),
                "application/json",
                self.body.clone(),
            ),
            Call::Append => (
                format!("/v1/streams/{CATEGORY}/{id}"),
                "application/cloudevents+json",
                Bytes::from(cloud_event(&self.body)),
            ),
        };
        let request = Request::post(path)
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, content_type);
        Ok(request.body(Full::new(body))?)
    }
}

fn cloud_event(data: &Bytes) -> Vec<u8> {
    let id = uuid::Uuid::now_v7();
    let mut event = format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"annals-bench","type":"{EVENT_TYPE}","datacontenttype":"application/json","data":"#
    )
    .into_bytes();
    event.extend_from_slice(data);
    event.push(b'}');
    event
}

impl Worker for Connection {
    async fn turn(&mut self) -> Result<u64> {
        let request = self.request()?;
        self.sender.ready().await.context("the server closed a connection")?;
        let response = self
            .sender
            .send_request(request)
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

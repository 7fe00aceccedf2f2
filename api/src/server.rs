//! The HTTP/1.1 server under an API: bounded connections and heads, and a shutdown that lets requests finish.

use crate::middleware::Api;
use crate::patient::Patient;
use crate::unread::{Asked, Asking, Unread};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Bounds of a server.
#[derive(Debug, Clone, Copy)]
pub struct ServeLimits {
    /// Most connections at a time; further ones wait in the backlog.
    pub connections_max: u32,
    /// Most bytes of a request's head.
    pub head_bytes_max: usize,
    /// How long a connection may go without a whole head of a request: before its first one, between two, or in the
    /// middle of one. Then it is closed.
    pub head_time_max: Duration,
    /// How long an answer may go without any of it being taken by its caller. Then the connection is closed.
    pub write_time_max: Duration,
    /// How long requests may go on after the shutdown has begun.
    pub drain_time_max: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            connections_max: 4_096,
            head_bytes_max: 32 * 1024,
            head_time_max: Duration::from_secs(30),
            write_time_max: Duration::from_secs(30),
            drain_time_max: Duration::from_secs(30),
        }
    }
}

/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How many accepts may fail one after the other before the server gives up: half a minute of them.
const ACCEPT_FAILURES_MAX: u32 = 600;

/// An address that is not of this machine alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} can be reached from outside, and there is no authentication yet: use an address of this machine, such as \
     127.0.0.1:{port}, and a proxy or tunnel that authenticates in front of it", port = .0.port()
)]
pub struct NotLoopback(pub SocketAddr);

/// Checks that an address is reached from this machine only, as long as there is no authentication.
pub fn check_loopback(address: SocketAddr) -> Result<(), NotLoopback> {
    if address.ip().to_canonical().is_loopback() {
        Ok(())
    } else {
        Err(NotLoopback(address))
    }
}

/// What the server is doing, as its connections see it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Phase {
    Serving,
    Draining,
    Cutting,
}

/// Serves the API within the default limits, see [`serve_within`].
pub async fn serve(listener: TcpListener, api: Api, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    serve_within(ServeLimits::default(), listener, api, shutdown).await
}

/// Serves the API until `shutdown` resolves, then lets the requests under way finish, within the limits. An error if
/// the listener accepts no connections any more.
pub async fn serve_within(
    limits: ServeLimits,
    listener: TcpListener,
    api: Api,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let connections = Arc::new(Semaphore::new(limits.connections_max as usize));
    let (phase, phases) = watch::channel(Phase::Serving);
    let mut shutdown = std::pin::pin!(shutdown);
    let mut failed = 0;
    let ended = loop {
        let (accepted, permit) = tokio::select! {
            () = &mut shutdown => break Ok(()),
            accepted = accept(&listener, &connections) => accepted,
        };
        match accepted {
            Ok(stream) => {
                failed = 0;
                let (api, phases) = (api.clone(), phases.clone());
                tokio::spawn(async move {
                    connection(stream, api, limits, phases).await;
                    drop(permit);
                });
            }
            Err(error) if failed == ACCEPT_FAILURES_MAX => break Err(error),
            Err(error) => {
                // Usually too many open files: connections that end give some back.
                tracing::warn!(%error, "a connection could not be accepted");
                failed += 1;
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    };
    drop(listener);
    api.closing().begin();
    phase.send_replace(Phase::Draining);
    let all = connections.acquire_many(limits.connections_max);
    if tokio::time::timeout(limits.drain_time_max, all).await.is_err() {
        phase.send_replace(Phase::Cutting);
        let cut = limits.connections_max as usize - connections.available_permits();
        tracing::warn!(
            connections = cut,
            "connections were cut, because their requests did not finish in time"
        );
    }
    ended
}

type Accepted = (io::Result<TcpStream>, Option<OwnedSemaphorePermit>);

async fn accept(listener: &TcpListener, connections: &Arc<Semaphore>) -> Accepted {
    // The semaphore is never closed, so there always is a permit in the end.
    let permit = Arc::clone(connections).acquire_owned().await.ok();
    (listener.accept().await.map(|(stream, _)| stream), permit)
}

async fn connection(stream: TcpStream, api: Api, limits: ServeLimits, mut phases: watch::Receiver<Phase>) {
    // An answer is often smaller than a packet, and must not wait for the next one.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time_max)
        .max_buf_size(limits.head_bytes_max.max(8 * 1024))
        .max_headers(64)
        // An answer is small: its head and body in one piece cost one copy, and two pieces cost the system more.
        .writev(false);
    let asked = Asked::default();
    let patient = Unread::new(Patient::new(stream, limits.write_time_max), asked.clone());
    let served = builder.serve_connection(TokioIo::new(patient), Asking { api, asked });
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = reached(&mut phases, Phase::Draining) => {
            served.as_mut().graceful_shutdown();
            tokio::select! {
                ended = served.as_mut() => ended,
                () = reached(&mut phases, Phase::Cutting) => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}

/// Waits for a phase. A server that is gone cuts nothing: its connections then go on to their own end.
async fn reached(phases: &mut watch::Receiver<Phase>, wanted: Phase) {
    if phases.wait_for(|phase| *phase >= wanted).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_this_machine_are_served() {
        for fine in ["127.0.0.1:8080", "127.9.9.9:1", "[::1]:8080"] {
            assert!(check_loopback(fine.parse().unwrap()).is_ok(), "{fine}");
        }
        for outside in ["0.0.0.0:8080", "192.168.0.1:8080", "[::]:8080"] {
            let error = check_loopback(outside.parse().unwrap()).unwrap_err().to_string();
            assert!(error.contains("127.0.0.1:8080"), "{error}");
        }
    }
}

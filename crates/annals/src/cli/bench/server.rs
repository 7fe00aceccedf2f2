//! A command API on a free port: in this process, and on request of another one.

use super::domain;
use crate::cli::verdict::{Outcome, Verdict};
use crate::node::Store;
use annals_api::{Api, ApiState, command_api};
use annals_commands::Commands;
use annals_core::Appender;
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// An API in this process.
pub(super) struct CommandServer {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
}

impl CommandServer {
    /// A command API.
    pub(super) async fn start(commands: Commands) -> Result<Self> {
        Self::serve(command_api(ApiState::new(commands))).await
    }

    /// Any API.
    pub(super) async fn serve(api: Api) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("cannot listen on 127.0.0.1")?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            annals_api::serve(listener, api, stopped).await
        });
        Ok(Self { address, stop, served })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) async fn stop(self) -> Result<()> {
        // A server that has ended by itself says why when it is awaited.
        let _ = self.stop.send(());
        self.served.await.context("the server failed")??;
        Ok(())
    }
}

/// Is the server of another benchmark, see [`super::child`]: says its URL on stdout, ends when stdin does.
pub(super) async fn serve_as_child(dir: &Path) -> Outcome {
    let backend = domain::backend();
    let store = Store::open(dir, &backend)?;
    let commands = backend.commands(Arc::clone(store.log()) as Arc<dyn Appender>)?;
    let server = CommandServer::start(commands).await?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "http://{}", server.address())?;
    stdout.flush()?;
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    ended.await.context("cannot wait for the end of stdin")??;
    server.stop().await?;
    store.close();
    Ok(Verdict::Fine)
}

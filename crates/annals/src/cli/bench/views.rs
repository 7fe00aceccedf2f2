//! The parts of a node that the benchmark runs: a command API on a free port, and a rebuild.

use super::measure::{Measured, repeat};
use crate::backend::Backend;
use crate::node::projection_settings;
use annals_api::{ApiState, command_router};
use annals_commands::Commands;
use annals_core::EventLog;
use annals_event_store::DataDir;
use annals_projections::{RebuildOptions, rebuild_offline};
use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A command API in this process.
pub(super) struct CommandServer {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
}

impl CommandServer {
    pub(super) async fn start(commands: Commands) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("cannot listen on 127.0.0.1")?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let router = command_router(ApiState::new(commands));
        let served = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            annals_api::serve(listener, router, stopped).await
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

/// One rebuild of the backend's first view from the whole log.
pub(super) fn rebuild(name: &'static str, log: &dyn EventLog, backend: &Backend, dir: &DataDir) -> Result<Measured> {
    let view = backend.views().first().context("there is no view to rebuild")?;
    let (catalog, settings) = (backend.catalog()?, projection_settings(dir));
    let options = RebuildOptions {
        swap: true,
        compare: false,
    };
    repeat(name, Duration::from_nanos(1), || {
        let report = rebuild_offline(log, &catalog, view, &settings, options, &mut |_| {})?;
        Ok(report.position.get())
    })
}

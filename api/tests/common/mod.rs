//! A bank behind real TCP, and a client as small as a test needs.

#![allow(dead_code, unused_imports, reason = "each suite uses its part")]

mod domain;
mod failing;
mod sent;

pub(crate) use domain::*;
pub(crate) use failing::FailingLog;
pub(crate) use sent::{Event, Live};

use annals_api::{ApiState, ServeLimits, command_api, serve_within};
use annals_commands::{AggregateDefinition, Commands};
use annals_core::Appender;
use annals_event_store::MemoryLog;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A running server. Stops when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) commands: Commands,
    stop: Option<oneshot::Sender<()>>,
    runtime: Option<tokio::runtime::Runtime>,
    served: Option<tokio::task::JoinHandle<()>>,
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

pub(crate) fn commands_on(log: Arc<dyn Appender>) -> Commands {
    Commands::new(log, vec![AggregateDefinition::of::<Account>()], Default::default()).unwrap()
}

/// The command API over an empty log.
pub(crate) fn command_server() -> Server {
    command_server_on(Arc::new(MemoryLog::new("bank")))
}

pub(crate) fn command_server_on(log: Arc<dyn Appender>) -> Server {
    Server::start(ApiState::new(commands_on(log)), command_api)
}

impl Server {
    pub(crate) fn start(state: ApiState, api: fn(ApiState) -> annals_api::Api) -> Self {
        let limits = ServeLimits {
            drain_time_max: Duration::from_secs(5),
            ..ServeLimits::default()
        };
        Self::start_within(limits, state, api)
    }

    pub(crate) fn start_within(limits: ServeLimits, state: ApiState, api: fn(ApiState) -> annals_api::Api) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let commands = state.commands.clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = runtime.spawn(async move {
            let stopped = async { drop(stopped.await) };
            serve_within(limits, listener, api(state), stopped).await.unwrap();
        });
        Self {
            address,
            commands,
            stop: Some(stop),
            runtime: Some(runtime),
            served: Some(served),
        }
    }

    /// Begins the shutdown.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits for the end of the shutdown.
    pub(crate) fn stopped(&mut self) {
        let served = self.served.take().unwrap();
        self.runtime.as_ref().unwrap().block_on(served).unwrap();
    }

    pub(crate) fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        request(self.address, method, path, headers, body)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Answer {
        self.request("POST", path, &[("content-type", "application/json")], body.as_bytes())
    }

    pub(crate) fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        self.request("POST", path, &all, body.as_bytes())
    }

    pub(crate) fn open(&self, id: &str) -> Answer {
        let answer = self.post(
            &format!("/v1/commands/accounts/{id}/open"),
            r#"{"owner":"ann","holder_name":"Ann"}"#,
        );
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer
    }

    pub(crate) fn deposit(&self, id: &str, amount: u64) -> Answer {
        self.post(
            &format!("/v1/commands/accounts/{id}/deposit"),
            &format!("{{\"amount\":{amount}}}"),
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

pub(crate) fn request(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .timeout_global(Some(Duration::from_secs(20)))
        .build()
        .into();
    let mut request = ureq::http::Request::builder()
        .method(method)
        .uri(format!("http://{address}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = if body.is_empty() && method != "POST" {
        agent.run(request.body(()).unwrap())
    } else {
        agent.run(request.body(body).unwrap())
    };
    let mut response = response.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    Answer {
        status: response.status().as_u16(),
        headers,
        body: response.body_mut().with_config().limit(64 << 20).read_to_vec().unwrap(),
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The lines of an NDJSON body.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Checks that this is a problem with this status and name, whose detail says this.
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, name: &str, says: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{}",
            self.text()
        );
        let problem = self.json();
        assert_eq!(problem["type"], format!("urn:annals:problem:{name}"), "{problem}");
        assert_eq!(problem["status"], status);
        assert!(
            problem["title"].is_string() && problem["instance"].is_string(),
            "{problem}"
        );
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(says), "{detail:?} does not say {says:?}");
        problem
    }
}

//! Nodes with one API each: a command node and the query nodes that follow it. Each has an address of its own that it
//! keeps when it is killed and started again, as the others know it by that.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::cli;
use crate::http::Client;
use crate::server::Said;

/// How long a node may take to serve, to stop, or to read what there is.
const TIME_MAX: Duration = Duration::from_secs(120);
const PORT: u16 = 18_080;

/// How a node is started.
#[derive(Debug, Clone)]
pub struct Node {
    arguments: Vec<OsString>,
    data: PathBuf,
    url: String,
}

impl Node {
    /// A node for commands, at the address of this number.
    #[must_use]
    pub fn command(data: &Path, number: u8) -> Self {
        let address = address(number);
        let arguments = ["--role", "command", "--command-addr", &address].map(OsString::from);
        Self::new(arguments.to_vec(), data, &address)
    }

    /// A node for queries, at the address of this number, which follows the log of `command`.
    #[must_use]
    pub fn query(data: &Path, number: u8, command: &Self) -> Self {
        let address = address(number);
        let arguments = ["--role", "query", "--query-addr", &address, "--log", &command.url].map(OsString::from);
        Self::new(arguments.to_vec(), data, &address)
    }

    fn new(arguments: Vec<OsString>, data: &Path, address: &str) -> Self {
        Self {
            arguments,
            data: data.to_owned(),
            url: format!("http://{address}"),
        }
    }

    /// The same node with another data directory.
    #[must_use]
    pub fn on(&self, data: &Path) -> Self {
        Self {
            data: data.to_owned(),
            ..self.clone()
        }
    }

    /// The same node with further arguments.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(OsString::from));
        self
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// A client of it, also while it does not run.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(&self.url)
    }

    /// Starts it and waits until it answers.
    ///
    /// # Errors
    ///
    /// When it ends instead, or does not answer in time; the message has what it said.
    pub fn start(&self) -> Result<RunningNode> {
        let mut command = Command::new(cli::binary()?);
        command.arg("serve").arg("--data").arg(&self.data).args(&self.arguments);
        command.env("RUST_LOG", "warn");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
        let (said, (urls, banner)) = (Said::default(), mpsc::channel());
        if let Some(stderr) = child.stderr.take() {
            said.follow(stderr, urls);
        }
        let mut node = RunningNode {
            node: self.clone(),
            child,
            said,
            client: self.client(),
        };
        let begun = Instant::now();
        while banner.recv_timeout(Duration::from_millis(20)).is_err() {
            node.check_alive()?;
            ensure!(begun.elapsed() < TIME_MAX, "no banner; it said:\n{}", node.said());
        }
        node.until("it answers", |client| Ok(client.get("/healthz").is_ok()))?;
        Ok(node)
    }
}

/// An address of this machine that no other test process has.
fn address(number: u8) -> String {
    let [.., high, low] = std::process::id().to_be_bytes();
    format!("127.{}.{low}.{number}:{PORT}", 16 + high % 200)
}

/// A running node. Killed when it is dropped.
#[derive(Debug)]
pub struct RunningNode {
    node: Node,
    child: Child,
    said: Said,
    /// Its API.
    pub client: Client,
}

impl RunningNode {
    fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("the node ended with {status}; it said:\n{}", self.said()),
            None => Ok(()),
        }
    }

    /// The last lines that it said on stderr.
    #[must_use]
    pub fn said(&self) -> String {
        self.said.text()
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `holds` of it.
    ///
    /// # Errors
    ///
    /// When it ends before, or `holds` fails, or does not come to hold; the message has `what` and what the node said.
    pub fn until(&mut self, what: &str, holds: impl Fn(&Client) -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.check_alive()?;
            if holds(&self.client).with_context(|| what.to_owned())? {
                return Ok(());
            }
            if begun.elapsed() > TIME_MAX {
                let state = self.client.get("/v1/projections").map(|answer| answer.text());
                bail!(
                    "it does not come to be that {what}: {state:?}; it said:\n{}",
                    self.said()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until every view of a query node has read up to `head`.
    ///
    /// # Errors
    ///
    /// As [`RunningNode::until`].
    pub fn read_up_to(&mut self, head: u64) -> Result<()> {
        let head = head.to_string();
        self.until(&format!("all views have read up to {head}"), |client| {
            let answer = client.json("/v1/projections")?;
            let views = answer["projections"].as_array().context("no list of projections")?;
            let there = |view: &Value| view["position"] == head.as_str() && view["state"] == "running";
            Ok(!views.is_empty() && views.iter().all(there))
        })
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    ///
    /// # Errors
    ///
    /// When it had ended by itself before.
    pub fn kill(mut self) -> Result<Node> {
        self.check_alive()?;
        self.child.kill()?;
        self.child.wait()?;
        Ok(self.node.clone())
    }

    /// Stops it in order (SIGTERM).
    ///
    /// # Errors
    ///
    /// When it does not end in time with 0.
    pub fn stop(mut self) -> Result<Node> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("cannot stop the node")?;
        let code = cli::ended(&mut self.child, TIME_MAX)?;
        ensure!(
            code == 0,
            "the node, told to stop, ended with {code}; it said:\n{}",
            self.said()
        );
        Ok(self.node.clone())
    }
}

impl Drop for RunningNode {
    fn drop(&mut self) {
        let forgotten = matches!(self.child.try_wait(), Ok(None));
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if forgotten {
            let text = format!("the node of the failed test said:\n{}\n", self.said());
            let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
        }
    }
}

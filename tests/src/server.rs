//! A running `annals serve`: started on free ports, asked whether it is ready, stopped, killed, started again. Knows
//! the process and its banner, not what is served.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::cli;
use crate::http::Client;

/// How long a server may take to serve; a large log is opened meanwhile.
const READY_MAX: Duration = Duration::from_secs(60);
const STOP_MAX: Duration = Duration::from_secs(60);
/// How long views and reactors may take to read what there is.
const SETTLE_MAX: Duration = Duration::from_secs(240);
/// Lines of stderr that are kept for messages.
const LINES_MAX: usize = 200;

/// How a server is started.
#[derive(Debug, Clone)]
pub struct Launch {
    data: PathBuf,
    program: Vec<OsString>,
    arguments: Vec<OsString>,
}

impl Launch {
    /// On this data directory.
    ///
    /// # Errors
    ///
    /// When there is no binary.
    pub fn on(data: &Path) -> Result<Self> {
        let free = "127.0.0.1:0";
        let arguments = ["--command-addr", free, "--query-addr", free]
            .map(OsString::from)
            .to_vec();
        Ok(Self {
            data: data.to_owned(),
            program: vec![cli::binary()?.into()],
            arguments,
        })
    }

    /// With another program in place of the binary under test: a backend of its own, made with the same library.
    #[must_use]
    pub fn of(mut self, program: &Path) -> Self {
        self.program = vec![program.into()];
        self
    }

    /// With a further argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Through another program, which takes the binary and its arguments as its last arguments and becomes it.
    #[must_use]
    pub fn through(mut self, program: Vec<OsString>) -> Self {
        self.program.splice(0..0, program);
        self
    }

    /// Starts it and waits until both of its APIs are ready.
    ///
    /// # Errors
    ///
    /// When it ends instead, or is not ready in time; the message has what it said.
    pub fn start(&self) -> Result<Server> {
        let begun = Instant::now();
        let mut server = self.begin()?;
        server.wait_ready(begun)?;
        Ok(server)
    }

    /// Starts it and waits until it says where it serves, ready or not: one whose log is damaged is not.
    ///
    /// # Errors
    ///
    /// When it ends instead.
    pub fn begin(&self) -> Result<Server> {
        let mut child = self.spawn()?;
        let said = Said::default();
        let (urls, banner) = mpsc::channel();
        let reader = child.stderr.take().map(|stderr| said.follow(stderr, urls));
        let (command_url, query_url) = match wait_banner(&banner, &mut child) {
            Ok(urls) => urls,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                reader.map(JoinHandle::join);
                bail!("{error:#}; the server said:\n{}", said.text());
            }
        };
        Ok(Server {
            launch: self.clone(),
            child,
            said,
            reader,
            command: Client::new(&command_url),
            query: Client::new(&query_url),
            command_ready: Duration::ZERO,
            ready: Duration::ZERO,
        })
    }

    /// Starts it and kills it after this time, ready or not.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start_and_kill(&self, after: Duration) -> Result<()> {
        let mut child = self.spawn()?;
        std::thread::sleep(after);
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    fn spawn(&self) -> Result<Child> {
        let (name, first) = self.program.split_first().context("no program")?;
        let mut command = Command::new(name);
        command
            .args(first)
            .arg("serve")
            .arg("--data")
            .arg(&self.data)
            .args(&self.arguments);
        command.env(
            "RUST_LOG",
            std::env::var_os("RUST_LOG").unwrap_or_else(|| "warn".into()),
        );
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command.spawn().with_context(|| format!("cannot run {command:?}"))
    }
}

/// Waits for the two URLs that the banner names, in their order.
fn wait_banner(banner: &Receiver<String>, child: &mut Child) -> Result<(String, String)> {
    let mut next = || -> Result<String> {
        let begun = Instant::now();
        while begun.elapsed() < READY_MAX {
            if let Ok(url) = banner.recv_timeout(Duration::from_millis(100)) {
                return Ok(url);
            }
            if let Some(status) = child.try_wait()? {
                bail!("the server ended with {status}");
            }
        }
        bail!("the server did not say its URLs within {} s", READY_MAX.as_secs())
    };
    Ok((next()?, next()?))
}

/// What a server said on stderr: its last lines.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said(Arc<Mutex<Vec<String>>>);

impl Said {
    /// Reads until the end; sends the URLs of lines such as `  command API  http://127.0.0.1:8080`.
    pub(crate) fn follow(&self, stderr: impl Read + Send + 'static, urls: Sender<String>) -> JoinHandle<()> {
        let said = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some((_, url)) = line
                    .split_once(" API")
                    .filter(|(_, rest)| rest.trim().starts_with("http://"))
                {
                    // Nobody waits for a third one.
                    let _ = urls.send(url.trim().to_owned());
                }
                let mut lines = said.0.lock().unwrap_or_else(PoisonError::into_inner);
                if lines.len() == LINES_MAX {
                    lines.remove(0);
                }
                lines.push(line);
            }
        })
    }

    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }
}

/// A server under test. Killed when it is dropped.
#[derive(Debug)]
pub struct Server {
    launch: Launch,
    child: Child,
    said: Said,
    /// Reads what it says.
    reader: Option<JoinHandle<()>>,
    /// Its command API.
    pub command: Client,
    /// Its query API.
    pub query: Client,
    /// From its start until the command API was ready.
    pub command_ready: Duration,
    /// From its start until both APIs were.
    pub ready: Duration,
}

impl Server {
    /// Starts a server on this data directory.
    ///
    /// # Errors
    ///
    /// As [`Launch::start`].
    pub fn start(data: &Path) -> Result<Self> {
        Launch::on(data)?.start()
    }

    fn wait_ready(&mut self, begun: Instant) -> Result<()> {
        self.wait_for(&self.command.clone(), begun)?;
        self.command_ready = begun.elapsed();
        self.wait_for(&self.query.clone(), begun)?;
        self.ready = begun.elapsed();
        Ok(())
    }

    fn wait_for(&mut self, client: &Client, begun: Instant) -> Result<()> {
        loop {
            let answer = client.get("/readyz");
            if answer.as_ref().is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status}; it said:\n{}", self.said());
            }
            let last = answer.map_or_else(|error| format!("{error:#}"), |answer| answer.text());
            ensure!(
                begun.elapsed() < READY_MAX,
                "not ready: {last}; the server said:\n{}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(2));
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

    /// Where its data are.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.launch.data
    }

    /// Stops it in order (SIGTERM) and waits for its end.
    ///
    /// # Errors
    ///
    /// When it does not end in time or not with 0; the message has what it said.
    pub fn stop(mut self) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).context("cannot stop the server")?;
        let code = cli::ended(&mut self.child, STOP_MAX).context("the server, told to stop,")?;
        ensure!(
            code == 0,
            "the server, told to stop, ended with {code}; it said:\n{}",
            self.said()
        );
        Ok(())
    }

    /// Waits until it ends by itself; its exit code and the last lines that it said.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub fn wait_end(mut self) -> Result<(i32, String)> {
        let code = cli::ended(&mut self.child, STOP_MAX);
        let code = code.with_context(|| format!("the server goes on; it said:\n{}", self.said()))?;
        // Its last words may still be in the pipe.
        let ended = Instant::now();
        while self.reader.as_ref().is_some_and(|reader| !reader.is_finished()) && ended.elapsed() < STOP_MAX {
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok((code, self.said()))
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    ///
    /// # Errors
    ///
    /// When it had ended by itself before.
    pub fn kill(&mut self) -> Result<Launch> {
        if let Some(status) = self.child.try_wait()? {
            bail!(
                "the server had ended by itself with {status}; it said:\n{}",
                self.said()
            );
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(self.launch.clone())
    }

    /// Waits until views and reactors have read everything, and everything that reactors said is in the log. Returns
    /// the head.
    ///
    /// # Errors
    ///
    /// When one stopped, or they do not get there in time.
    pub fn settle(&self) -> Result<u64> {
        let begun = Instant::now();
        loop {
            let head = self.head()?;
            let answer = self.query.json("/v1/projections")?;
            let statuses = answer["projections"].as_array().context("no list of projections")?;
            ensure!(!statuses.is_empty(), "no projection is listed");
            if let Some(stopped) = statuses.iter().find(|status| status["state"] == "stopped") {
                bail!("a projection stopped: {stopped}");
            }
            let text = head.to_string();
            let there = |status: &Value| status["position"] == text.as_str();
            let said = |status: &Value| status["outbox"].is_null() || status["outbox"]["pending"] == 0;
            if statuses.iter().all(|status| there(status) && said(status)) && self.head()? == head {
                return Ok(head);
            }
            ensure!(
                begun.elapsed() < SETTLE_MAX,
                "not caught up in {} s: {answer}",
                SETTLE_MAX.as_secs()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Position of the last event.
    ///
    /// # Errors
    ///
    /// When the server does not say.
    pub fn head(&self) -> Result<u64> {
        let answer = self.command.json("/v1/log")?;
        let head = answer.get("head").or_else(|| answer.get("position"));
        let text = head
            .and_then(Value::as_str)
            .with_context(|| format!("no head in {answer}"))?;
        Ok(text.parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let forgotten = matches!(self.child.try_wait(), Ok(None));
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // A test that ends well stops its server: this one failed, and what the server said may tell why.
        let said = self.said();
        if forgotten && !said.is_empty() {
            let text = format!("the server of the failed test said:\n{said}\n");
            let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
        }
    }
}

//! Sends the record to a server, in its order, at a pace that others set, and again whatever was not answered: the server may
//! be killed at any time and come back at another address.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use annals_tests::http::{Answer, Client};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Lines of one request.
const CHUNK: usize = 100;
/// How long a request may go unanswered, however often it is sent.
const AWAY_MAX: Duration = Duration::from_secs(180);

/// The record on its way.
pub(crate) struct Feed {
    lines: Vec<String>,
    /// Where the server is.
    server: Mutex<Client>,
    /// Lines that were answered.
    done: AtomicUsize,
    /// Lines that may be sent so far.
    allowed: AtomicUsize,
    /// Milliseconds between two requests.
    pause: AtomicU64,
    /// Requests that were sent again.
    pub(crate) again: AtomicU64,
    stopped: AtomicBool,
    /// Orders that were placed, each with the position of that.
    placed: Mutex<Vec<(String, u64)>>,
}

impl Feed {
    /// The commands of a file, for the server of this client. Nothing may be sent yet.
    pub(crate) fn of(commands: &Path, server: &Client) -> Result<Self> {
        let text = std::fs::read_to_string(commands).with_context(|| commands.display().to_string())?;
        Ok(Self {
            lines: text.lines().map(str::to_owned).collect(),
            server: Mutex::new(server.clone()),
            done: AtomicUsize::new(0),
            allowed: AtomicUsize::new(0),
            pause: AtomicU64::new(0),
            again: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            placed: Mutex::default(),
        })
    }

    /// The server answers there from now on.
    pub(crate) fn moved(&self, server: &Client) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = server.clone();
    }

    /// Allows so many of `parts` parts of the record to be sent.
    pub(crate) fn allow(&self, part: usize, parts: usize) {
        self.allowed.store(self.lines.len() * part / parts, Ordering::SeqCst);
    }

    /// Lets so much time pass between two requests.
    pub(crate) fn pause(&self, time: Duration) {
        self.pause.store(time.as_millis() as u64, Ordering::SeqCst);
    }

    /// How many lines were answered.
    pub(crate) fn done(&self) -> usize {
        self.done.load(Ordering::SeqCst)
    }

    /// Whether all of the record was answered.
    pub(crate) fn is_done(&self) -> bool {
        self.done() == self.lines.len()
    }

    /// Whether all was answered that may be sent so far.
    pub(crate) fn is_held(&self) -> bool {
        self.done() > 0 && self.done() == self.allowed.load(Ordering::SeqCst)
    }

    /// Ends [`Feed::run`], whether all is said or not.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// An order that was placed, and the position of that; `pick` says which of so many.
    pub(crate) fn placed(&self, pick: impl FnOnce(usize) -> usize) -> Option<(String, u64)> {
        let placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        (!placed.is_empty()).then(|| placed[pick(placed.len())].clone())
    }

    /// Sends until all is answered, or it is stopped.
    pub(crate) fn run(&self) -> Result<()> {
        let mut begun = Instant::now();
        while !self.is_done() && !self.stopped.load(Ordering::SeqCst) {
            let from = self.done();
            let to = (from + CHUNK).min(self.allowed.load(Ordering::SeqCst));
            if to <= from {
                begun = Instant::now();
                std::thread::sleep(Duration::from_millis(2));
                continue;
            }
            let client = self.server.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if self.send(&client, &self.lines[from..to])? {
                self.done.store(to, Ordering::SeqCst);
                begun = Instant::now();
                std::thread::sleep(Duration::from_millis(self.pause.load(Ordering::SeqCst)));
            } else {
                self.again.fetch_add(1, Ordering::SeqCst);
                ensure!(begun.elapsed() < AWAY_MAX, "lines {from} to {to} are not answered");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }

    /// Whether all lines were answered; they are known by their keys if they are sent again.
    fn send(&self, client: &Client, lines: &[String]) -> Result<bool> {
        let body = lines.join("\n");
        let headers = [
            ("content-type", "application/x-ndjson"),
            ("accept", "application/x-ndjson"),
        ];
        let Ok(answer) = client.send("POST", "/v1/commands", &headers, Some(body.as_bytes())) else {
            return Ok(false);
        };
        if answer.status == 503 {
            return Ok(false);
        }
        let Some(answers) = whole(&answer.expect(200)?, lines.len()) else {
            return Ok(false);
        };
        let mut all = true;
        for (line, answer) in lines.iter().zip(&answers) {
            match answer["status"].as_u64() {
                Some(200) => self.note(line, answer)?,
                Some(503) => all = false,
                _ => bail!("{line} is answered {answer}"),
            }
        }
        Ok(all)
    }

    fn note(&self, line: &str, answer: &Value) -> Result<()> {
        let command: Value = serde_json::from_str(line)?;
        if command["aggregate"] == "orders" && command["command"] == "place" {
            let id = command["id"].as_str().context("no id")?.to_owned();
            let position = answer["position"].as_str().context("no position")?.parse()?;
            self.placed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((id, position));
        }
        Ok(())
    }
}

/// The answers to so many lines; none if a kill has cut them short.
fn whole(answer: &Answer, lines: usize) -> Option<Vec<Value>> {
    let text = answer.text();
    let answers: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>().ok()?;
    (answers.len() == lines).then_some(answers)
}

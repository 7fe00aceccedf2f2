//! The clients: each says its script, command by command, and asks again with the same key when no answer came. What
//! was answered is kept here, outside of the server.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use annals_tests::http::{Answer, Client};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::script::{Command, Script};

/// How long a client waits for a server that is gone to come back.
const BACK_MAX: Duration = Duration::from_secs(90);

/// An answered command.
#[derive(Debug)]
pub(crate) struct Acknowledged {
    pub(crate) key: String,
    pub(crate) stream: String,
    pub(crate) version: u64,
    pub(crate) position: u64,
    /// Id and position of its events; none if it was rejected or changed nothing.
    pub(crate) events: Vec<(String, u64)>,
    /// Whether it was asked again because the server was killed.
    pub(crate) asked_again: bool,
    /// Whether it was answered as one that had been done before.
    pub(crate) duplicate: bool,
}

/// Where the server is at the moment, and how far it has acknowledged.
pub(crate) struct Target {
    place: Mutex<(u64, String)>,
    moved: Condvar,
    acknowledged: AtomicU64,
    stop: AtomicBool,
    /// Longest pause between two commands of a client.
    pause_ms_max: u64,
}

impl Target {
    pub(crate) fn new(url: &str, pause_ms_max: u64) -> Self {
        Self {
            place: Mutex::new((1, url.to_owned())),
            moved: Condvar::new(),
            acknowledged: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            pause_ms_max,
        }
    }

    /// The highest position that any client has seen acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Says that the server is here now.
    pub(crate) fn moved(&self, url: &str) {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        *place = (place.0 + 1, url.to_owned());
        self.moved.notify_all();
    }

    /// Where it is once it has moved on from `generation`; `None` if it does not come back.
    fn after(&self, generation: u64) -> Option<(u64, String)> {
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |place: &mut (u64, String)| place.0 <= generation && !self.stop.load(Ordering::SeqCst);
        let (place, _) = self
            .moved
            .wait_timeout_while(place, BACK_MAX, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        (place.0 > generation).then(|| place.clone())
    }
}

/// Clients at work.
pub(crate) struct Clients<'scope> {
    target: &'scope Target,
    threads: Vec<ScopedJoinHandle<'scope, Result<Vec<Acknowledged>>>>,
}

impl<'scope> Clients<'scope> {
    pub(crate) fn start(scope: &'scope Scope<'scope, '_>, target: &'scope Target, count: u64, seed: u64) -> Self {
        let start = |client| scope.spawn(move || speak(target, client, seed));
        Self {
            target,
            threads: (0..count).map(start).collect(),
        }
    }

    /// Lets every client finish the command that it is at. Returns everything that was answered.
    pub(crate) fn stop(self) -> Result<Vec<Acknowledged>> {
        self.target.stop.store(true, Ordering::SeqCst);
        self.target.moved.notify_all();
        let mut all = Vec::new();
        for thread in self.threads {
            let one = thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))?;
            all.extend(one.context("a client")?);
        }
        Ok(all)
    }
}

fn speak(target: &Target, client: u64, seed: u64) -> Result<Vec<Acknowledged>> {
    let mut script = Script::new(client, seed);
    let mut line = Line {
        target,
        generation: 0,
        client: Client::new(""),
        name: format!("client-{client}"),
    };
    let mut answered = Vec::new();
    while !target.stop.load(Ordering::SeqCst) {
        let command = script.next();
        let one = line.deliver(&command).with_context(|| format!("{command:?}"))?;
        target
            .acknowledged
            .fetch_max(one.events.last().map_or(0, |(_, position)| *position), Ordering::SeqCst);
        answered.push(one);
        std::thread::sleep(Duration::from_millis(
            (client * 7 + answered.len() as u64) % (target.pause_ms_max + 1),
        ));
    }
    Ok(answered)
}

/// A client's line to wherever the server is.
struct Line<'a> {
    target: &'a Target,
    generation: u64,
    client: Client,
    name: String,
}

impl Line<'_> {
    /// Sends the command until it is answered.
    fn deliver(&mut self, command: &Command) -> Result<Acknowledged> {
        let path = command.path();
        let name = self.name.clone();
        let headers = [
            ("idempotency-key", command.key.as_str()),
            ("annals-correlation-id", &command.key),
            ("annals-actor", &name),
        ];
        let begun = Instant::now();
        let mut asked_again = false;
        loop {
            ensure!(begun.elapsed() < BACK_MAX, "no answer within {} s", BACK_MAX.as_secs());
            if self.generation == 0 {
                self.reconnect()?;
            }
            match self.client.post(&path, &headers, &command.data) {
                Ok(answer) if answer.status == 503 => std::thread::sleep(Duration::from_millis(50)),
                Ok(answer) => {
                    return Ok(Acknowledged {
                        asked_again,
                        ..acknowledged(command, &answer)?
                    });
                }
                Err(_) => {
                    asked_again = true;
                    self.reconnect()?;
                }
            }
        }
    }

    fn reconnect(&mut self) -> Result<()> {
        let Some((generation, url)) = self.target.after(self.generation) else {
            bail!("the server is gone and does not come back");
        };
        self.generation = generation;
        self.client = Client::new(&url);
        Ok(())
    }
}

fn acknowledged(command: &Command, answer: &Answer) -> Result<Acknowledged> {
    let mut found = Acknowledged {
        key: command.key.clone(),
        stream: command.stream.clone(),
        version: 0,
        position: 0,
        events: Vec::new(),
        asked_again: false,
        duplicate: answer.header("annals-duplicate") == "true",
    };
    let body = answer.json()?;
    match answer.status {
        200 => {}
        // The process was faster, or others were, in the same stream: refused, and without an event.
        409 | 422 => return Ok(found),
        _ => bail!("status {}: {body}", answer.status),
    }
    let number = |value: &Value| value.as_str().and_then(|text| text.parse().ok()).context("no position");
    found.version = body["version"].as_u64().context("no version")?;
    found.position = number(&body["position"])?;
    ensure!(body["stream"] == command.stream, "answered for another stream: {body}");
    for event in body["events"].as_array().context("no events")? {
        found.events.push((
            event["id"].as_str().context("no id")?.to_owned(),
            number(&event["position"])?,
        ));
    }
    Ok(found)
}

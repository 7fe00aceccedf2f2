//! What operators do, with real processes: dead letters, pauses, rebuilds, timers over restarts and restores. On the
//! binary itself, and on a backend that fails where it is told to (`tests/src/bin/fragile.rs`), made as users make theirs.

mod book;
mod letters;
mod reactors;
mod rebuilds;
mod rests;
mod timers;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use annals_tests::cli::{self, Run};
use annals_tests::http::Client;
use annals_tests::server::{Launch, Server};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long something may take that comes by itself.
pub(crate) const SOON: Duration = Duration::from_secs(90);
/// Few attempts, and short pauses between them.
const SETTINGS: &str = "[projections]\nattempts_max = 2\nretry_pause_seconds_max = 1\n";

/// Whether the program is the one before or after its bugs were mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Broken,
    Mended,
}

/// A data directory of the fragile backend.
pub(crate) struct Fragile {
    directory: TempDir,
}

impl Fragile {
    pub(crate) fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        std::fs::write(directory.path().join("annals.toml"), SETTINGS)?;
        Ok(Self { directory })
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn start(&self, program: Program) -> Result<Server> {
        self.start_on(&self.data(), program)
    }

    pub(crate) fn start_on(&self, data: &Path, program: Program) -> Result<Server> {
        let launch = Launch::on(data)?.of(binary());
        let launch = launch.argument("--config").argument(self.path("annals.toml"));
        match program {
            Program::Broken => launch.start(),
            Program::Mended => launch.through(vec!["env".into(), "FRAGILE_MENDED=1".into()]).start(),
        }
    }

    /// Runs a verb of the backend's command line on the data directory.
    pub(crate) fn offline(&self, arguments: &[&str]) -> Result<Run> {
        let data = self.data().into_os_string();
        verb(arguments.iter().map(OsString::from).chain(["--data".into(), data]))
    }

    /// Runs a verb against a server's query API.
    pub(crate) fn online(server: &Server, arguments: &[&str]) -> Result<Run> {
        let url = server.query.url();
        verb(arguments.iter().copied().chain(["--url", url]).map(OsString::from))
    }
}

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_fragile"))
}

/// Runs a verb of the fragile backend.
pub(crate) fn verb(arguments: impl IntoIterator<Item = OsString>) -> Result<Run> {
    let mut command = Command::new(binary());
    cli::run(command.args(arguments).env_remove("USER"))
}

/// Writes a note; the position of its event.
pub(crate) fn write(server: &Server, note: &str, text: &str, amount: i64) -> Result<u64> {
    let path = format!("/v1/commands/notes/{note}/write");
    let body = json!({ "text": text, "amount": amount });
    let answer = server.command.post(&path, &[], &body)?.expect(200)?.json()?;
    Ok(answer["position"].as_str().context("no position")?.parse()?)
}

/// Waits until something is so; what it looks at is said if it never is.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Result<Result<T, String>>) -> Result<T> {
    let begun = Instant::now();
    loop {
        match look()? {
            Ok(found) => return Ok(found),
            Err(seen) => ensure!(begun.elapsed() < SOON, "{what}: not within {SOON:?}; last seen: {seen}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The status of a view or reactor.
pub(crate) fn status(client: &Client, name: &str) -> Result<Value> {
    let all = client.json("/v1/projections")?;
    let list = all["projections"].as_array().context("no list of projections")?;
    let found = list.iter().find(|status| status["name"] == name);
    found.cloned().with_context(|| format!("no {name} in {all}"))
}

/// Waits until a view or reactor is in this state.
pub(crate) fn until_state(client: &Client, name: &str, state: &str) -> Result<Value> {
    until(&format!("{name} is {state}"), || {
        let found = status(client, name)?;
        Ok(if found["state"] == state {
            Ok(found)
        } else {
            Err(found.to_string())
        })
    })
}

/// A row as it is once the view has read up to a position.
pub(crate) fn row_at(server: &Server, view: &str, key: &str, position: u64) -> Result<annals_tests::http::Answer> {
    let path = format!("/v1/views/{view}/{key}?min_position={position}&wait=30000");
    server.query.get(&path)
}

/// The decisions about a view or reactor, as the log has them: type, actor, reason.
pub(crate) fn decisions(server: &Server, name: &str) -> Result<Vec<(String, String, String)>> {
    let answer = server.command.get(&format!("/v1/streams/$operations/{name}"))?;
    if answer.status == 404 {
        return Ok(Vec::new());
    }
    let events = answer.expect(200)?.json()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let said = |event: &Value| {
        (
            text(&event["type"]),
            text(&event["actor"]),
            text(&event["data"]["reason"]),
        )
    };
    Ok(events
        .as_array()
        .context("no list of events")?
        .iter()
        .map(said)
        .collect())
}

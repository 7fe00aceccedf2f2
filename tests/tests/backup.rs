//! A backup of a server at work, restored: every event up to its head, known keys, views built anew, reactors that wait to
//! be told from where.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use annals_tests::cli::annals;
use annals_tests::fixture::{copy, demo, verb};
use annals_tests::http::Client;
use annals_tests::server::Server;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// How long views may take to be built anew.
const BUILT_MAX: Duration = Duration::from_secs(120);
/// How many users register at most while the backup is taken.
const USERS_MAX: u64 = 3_000;

/// Registers a user under a key; the position of the event.
fn register(client: &Client, number: u64) -> Result<u64> {
    let body = json!({"email": format!("u{number}@example.com"), "name": "U"});
    let key = format!("backup-{number}");
    let path = format!("/v1/commands/users/backup-{number}/register");
    let answer = client
        .post(&path, &[("idempotency-key", &key)], &body)?
        .expect(200)?
        .json()?;
    let position = answer["position"].as_str().context("no position")?;
    Ok(position.parse()?)
}

/// The events of a log, as JSON lines.
fn events(place: &Path) -> Result<Vec<Value>> {
    let place = place.to_str().context("the path is not UTF-8")?;
    annals(["events", "--format", "json", "--log", place])?
        .exits(0)?
        .lines()
}

/// The status of every projection, once all views have read up to the head.
fn built(server: &Server) -> Result<Vec<Value>> {
    let begun = Instant::now();
    loop {
        let found = server.query.json("/v1/projections")?;
        let found = found["projections"]
            .as_array()
            .cloned()
            .context("no list of projections")?;
        let head = server.head()?.to_string();
        let is_there =
            |one: &&Value| one["kind"] == "view" && one["position"] == head.as_str() && one["state"] == "running";
        let views = found.iter().filter(|one| one["kind"] == "view").count();
        if views > 0 && found.iter().filter(is_there).count() == views {
            return Ok(found);
        }
        ensure!(begun.elapsed() < BUILT_MAX, "the views are not built: {found:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A backup of a server that users register at; its path, its summary, and how many have registered.
fn back_up(server: &Server, file: &Path) -> Result<(Value, u64)> {
    let (stop, registered) = (AtomicBool::new(false), AtomicU64::new(0));
    let file = file.to_str().context("the path is not UTF-8")?;
    let summary = std::thread::scope(|scope| -> Result<Value> {
        let users = scope.spawn(|| -> Result<()> {
            for number in 0..USERS_MAX {
                register(&server.command, number)?;
                registered.store(number + 1, Ordering::Release);
                if stop.load(Ordering::Acquire) {
                    break;
                }
            }
            Ok(())
        });
        let begun = Instant::now();
        while registered.load(Ordering::Acquire) < 20 && begun.elapsed() < BUILT_MAX {
            std::thread::sleep(Duration::from_millis(5));
        }
        let taken = annals(["backup", file, "--format", "json", "--url", server.command.url()]);
        stop.store(true, Ordering::Release);
        let Ok(registering) = users.join() else {
            bail!("a user panicked")
        };
        registering?;
        taken?.exits(0)?.lines()?.pop().context("no summary")
    })?;
    Ok((summary, registered.load(Ordering::Acquire)))
}

#[test]
fn a_backup_of_a_busy_server_is_restored_with_every_event_and_reactors_wait() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (data, restored) = (directory.path().join("data"), directory.path().join("restored"));
    let file = directory.path().join("shop.backup");
    demo(&data, 60)?;
    let mut server = Server::start(&data)?;
    server.settle()?;
    let (summary, registered) = back_up(&server, &file)?;
    let head: u64 = summary["head"].as_str().context("no head")?.parse()?;
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file)?.permissions());
    ensure!(mode & 0o777 == 0o600, "the log's secret is in it: {mode:o}");
    let again = annals(["backup", &file.to_string_lossy(), "--url", server.command.url()])?.exits(2)?;
    ensure!(again.stderr.contains("--force"), "{}", again.stderr);
    server.kill()?;

    verb_log("verify", &file)?;
    let written = events(&data)?;
    ensure!(
        written.len() as u64 >= head && head >= 20,
        "{} events, head {head}",
        written.len()
    );
    let written = &written[..usize::try_from(head)?];
    ensure!(events(&file)? == written, "the backup reads like the log");

    restore(&file, &restored, &summary)?;
    ensure!(events(&restored)? == written, "every event is restored");

    // An operator who carries along views that have read on in the old log.
    copy(&data.join("views"), &restored.join("views"))?;
    let server = Server::start(&restored)?;
    let found = built(&server)?;
    ensure!(
        server.said().contains("epoch"),
        "the views say why they are built anew: {}",
        server.said()
    );
    let reactor = found
        .iter()
        .find(|one| one["kind"] == "reactor")
        .context("no reactor")?;
    let error = reactor["error"].as_str().unwrap_or_default();
    ensure!(
        error.contains("may still be running") && error.contains("projections resume"),
        "{reactor}"
    );
    let known = registered.min(20) - 1;
    let first = written
        .iter()
        .find(|event| event["subject"] == format!("users/backup-{known}").as_str());
    let first = first.context("the first twenty were registered before the backup")?;
    let position = register(&server.command, known)?;
    ensure!(
        first["position"] == position.to_string().as_str(),
        "the key is known: {first}, {position}"
    );
    server.stop()?;

    let from = (head + 1).to_string();
    verb(&restored, &["projections", "resume", "fulfilment", "--from", &from])?.exits(0)?;
    let server = Server::start(&restored)?;
    server.settle()?;
    server.stop()?;
    verb(&restored, &["verify"])?.exits(0)?;
    verb(&restored, &["rebuild", "--all", "--compare", "--no-swap"])?.exits(0)?;
    Ok(())
}

/// Restores a backup, and checks what is said about it.
fn restore(file: &Path, target: &Path, summary: &Value) -> Result<()> {
    let said = annals([
        "restore",
        &file.to_string_lossy(),
        "--format",
        "json",
        "--data",
        &target.to_string_lossy(),
    ])?;
    let said = said.exits(0)?;
    ensure!(said.stderr.contains("projections resume"), "{}", said.stderr);
    let line = said.lines()?.pop().context("no summary")?;
    ensure!(
        line["epoch"] != summary["epoch"] && line["parent_epoch"] == summary["epoch"],
        "{line}"
    );
    Ok(())
}

fn verb_log(name: &str, file: &Path) -> Result<()> {
    annals([name, "--log", &file.to_string_lossy()])?.exits(0)?;
    Ok(())
}

#[test]
fn a_damaged_backup_is_named_by_its_position_and_nothing_is_restored() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (data, restored) = (directory.path().join("data"), directory.path().join("restored"));
    let file = directory.path().join("shop.backup");
    let name = file.to_str().context("the path is not UTF-8")?;
    demo(&data, 60)?;
    verb(&data, &["backup", name])?.exits(0)?;
    let whole = std::fs::read(&file)?;
    for at in [whole.len() / 2, whole.len() - 20] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&file, bytes)?;
        let refused = annals(["restore", name, "--data", &restored.to_string_lossy()])?.exits(1)?;
        ensure!(refused.stderr.contains("damaged at position"), "{}", refused.stderr);
        ensure!(!restored.exists(), "nothing is restored");
        annals(["verify", "--log", name])?.exits(1)?;
    }
    std::fs::write(&file, &whole)?;
    annals(["verify", "--log", name])?.exits(0)?;
    verb(&data, &["backup", name])?.exits(2)?;
    verb(&data, &["backup", name, "--force"])?.exits(0)?;
    Ok(())
}

#[test]
fn no_file_of_a_data_directory_is_written_over_by_what_a_verb_writes() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    demo(&data, 5)?;
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(data.join("log/secret"), &link)?;
    let targets = [
        data.join("annals.json"),
        data.join("log/secret"),
        data.join("new"),
        link,
    ];
    let files = || targets.iter().map(|file| std::fs::read(file).ok()).collect::<Vec<_>>();
    let before = files();
    let refused = |arguments: &[&str]| -> Result<()> {
        for target in &targets {
            let target = target.to_str().context("the path is not UTF-8")?;
            let arguments = arguments.iter().map(|word| if *word == "FILE" { target } else { word });
            let said = annals(arguments)?.exits(2)?.stderr;
            ensure!(said.contains("name a file elsewhere"), "{said}");
        }
        ensure!(files() == before, "a file was written over");
        Ok(())
    };
    let at = data.to_str().context("the path is not UTF-8")?;
    refused(&["backup", "FILE", "--force", "--data", at])?;
    refused(&["prove", "1", "--out", "FILE", "--data", at])?;
    refused(&["bench", "--only", "append-1", "--report", "FILE"])?;
    let server = Server::start(&data)?;
    refused(&["backup", "FILE", "--force", "--url", server.command.url()])?;
    server.stop()?;
    verb(&data, &["verify"])?.exits(0)?;
    Ok(())
}

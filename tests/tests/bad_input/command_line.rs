//! The command line, used wrongly or in a place where it cannot work: exit code 2, one message that names the remedy,
//! and nothing left behind.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use annals_tests::cli::{annals, binary, run};
use annals_tests::fixture::{demo, verb};
use annals_tests::namespace::with_tmpfs;
use annals_tests::server::Server;
use anyhow::{Context, Result, ensure};

/// The run fails as usage or environment, and says all of `words`.
fn refused(arguments: &[&str], words: &[&str]) -> Result<()> {
    let said = annals(arguments.iter().copied())?
        .exits(2)
        .with_context(|| arguments.join(" "))?
        .stderr;
    for word in words {
        ensure!(
            said.contains(word),
            "{}: {said:?} does not say {word:?}",
            arguments.join(" ")
        );
    }
    Ok(())
}

#[test]
fn a_data_directory_in_use_names_the_server() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    let commands = directory.path().join("commands.ndjson");
    std::fs::write(&commands, "")?;
    let server = Server::start(&data)?;
    let (at, file) = (data.to_str().context("path")?, commands.to_str().context("path")?);
    let remedy = format!("--url {}", server.command.url());
    let words = ["in use", &remedy];
    refused(&["load", file, "--data", at], &words)?;
    refused(&["verify", "--data", at], &words)?;
    refused(&["events", "--data", at], &words)?;
    refused(&["replay", "view", "orders", "--data", at], &words)?;
    refused(&["projections", "--data", at], &["in use"])?;
    refused(&["rebuild", "--all", "--data", at], &["in use"])?;
    refused(
        &[
            "serve",
            "--data",
            at,
            "--command-addr",
            "127.0.0.1:0",
            "--query-addr",
            "127.0.0.1:0",
        ],
        &["in use", server.command.url(), "stop it first"],
    )?;
    ensure!(
        annals(["verify", "--url", server.command.url()])?.code == 0,
        "the remedy does not work"
    );
    server.stop()
}

#[test]
fn a_data_directory_that_cannot_be_used() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    let at = data.to_str().context("path")?;
    refused(&["verify", "--data", at], &["no log", "annals serve"])?;
    refused(&["events", "--data", at], &["no log"])?;
    ensure!(!data.exists(), "a look at nothing left something behind");

    demo(&data, 3)?;
    let identity = data.join("annals.json");
    let whole = std::fs::read_to_string(&identity)?;
    let mut newer: serde_json::Value = serde_json::from_str(&whole)?;
    newer["format"] = 99.into();
    newer["what_nobody_knows_yet"] = true.into();
    std::fs::write(&identity, newer.to_string())?;
    refused(&["serve", "--data", at], &["format 99", "upgrade"])?;
    refused(&["verify", "--data", at], &["format 99", "upgrade"])?;
    std::fs::write(&identity, "{")?;
    refused(&["verify", "--data", at], &["annals.json", "backup"])?;
    std::fs::write(&identity, whole.replace("commerce", "banking"))?;
    refused(&["replay", "view", "orders", "--data", at], &["banking", "commerce"])?;
    ensure!(
        verb(&data, &["events", "--limit", "1"])?.code == 0,
        "events of any domain are shown"
    );
    std::fs::write(&identity, whole)?;
    verb(&data, &["verify"])?.exits(0)?;
    Ok(())
}

#[test]
fn a_data_directory_that_is_not_writable() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let commands = directory.path().join("commands.ndjson");
    std::fs::write(&commands, "")?;
    let file = commands.to_str().context("path")?;
    // Where not even root may create anything.
    refused(&["load", file, "--data", "/proc/annals"], &["/proc/annals", "writable"])?;
    let inside = commands.join("data");
    refused(
        &["load", file, "--data", inside.to_str().context("path")?],
        &["cannot be used"],
    )?;

    let place = directory.path().join("readonly");
    std::fs::create_dir(&place)?;
    let arguments = [
        "serve",
        "--command-addr",
        "127.0.0.1:0",
        "--query-addr",
        "127.0.0.1:0",
        "--data",
    ];
    for data in [place.clone(), place.join("data")] {
        let said = in_tmpfs(&place, "ro", &arguments, &data)?;
        ensure!(said.contains("Read-only") && said.contains("writable"), "{said}");
    }
    Ok(())
}

/// Runs the binary where `place` is a file system of its own; it has to fail as environment. Returns what it said.
fn in_tmpfs(place: &Path, options: &str, arguments: &[&str], data: &Path) -> Result<String> {
    let mut program = with_tmpfs(place, options)?;
    program.push(binary()?.into());
    program.extend(arguments.iter().map(OsString::from));
    program.push(data.into());
    let (name, rest) = program.split_first().context("no program")?;
    Ok(run(Command::new(name).args(rest))?.exits(2)?.stderr)
}

#[test]
fn addresses_that_cannot_be_served() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    let at = data.to_str().context("path")?;
    let free = "127.0.0.1:0";
    for outside in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:8080"] {
        refused(
            &["serve", "--data", at, "--command-addr", outside, "--query-addr", free],
            &["127.0.0.1"],
        )?;
        refused(
            &["serve", "--data", at, "--query-addr", outside, "--command-addr", free],
            &["127.0.0.1"],
        )?;
        refused(&["demo", "--data", at, "--query-addr", outside], &["127.0.0.1"])?;
    }
    let taken = TcpListener::bind(free)?;
    let address = taken.local_addr()?.to_string();
    let arguments = ["serve", "--data", at, "--command-addr", &address, "--query-addr", free];
    refused(&arguments, &["in use", "--command-addr"])?;
    refused(
        &["serve", "--data", at, "--command-addr", "nowhere"],
        &["--command-addr"],
    )
}

#[test]
fn what_is_no_command_line() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    let at = data.to_str().context("path")?;
    refused(&["fly"], &["fly", "--help"])?;
    refused(&["serve", "--wings"], &["--wings"])?;
    refused(&["load", "/no/such/file", "--data", at], &["/no/such/file"])?;
    ensure!(!data.exists(), "a file that is not there left a data directory behind");
    refused(&["load", "/dev/null", "--url", "http://127.0.0.1:1"], &[]).or_else(|_| {
        // Nothing has to be sent of an empty file.
        annals(["load", "/dev/null", "--url", "http://127.0.0.1:1"])?
            .exits(0)
            .map(drop)
    })?;
    refused(
        &["verify", "--url", "http://127.0.0.1:1"],
        &["http://127.0.0.1:1", "running"],
    )?;
    refused(&["verify", "--url", "ftp://x"], &["http://"])?;
    demo(&data, 3)?;
    refused(&["replay", "view", "rockets", "--data", at], &["rockets", "orders"])?;
    refused(
        &["replay", "stream", "rockets/r-1", "--data", at],
        &["rockets", "orders"],
    )?;
    refused(&["replay", "stream", "orders/none", "--data", at], &["orders/none"])?;
    refused(&["replay", "stream", "orders", "--data", at], &["orders"])?;
    refused(
        &["replay", "view", "orders", "--at", "yesterday", "--data", at],
        &["2017-10-02"],
    )?;
    refused(
        &["replay", "view", "orders", "--at", "999999", "--data", at],
        &["999999", "end of the log"],
    )?;
    refused(&["rebuild", "rockets", "--data", at], &["rockets", "orders"])?;
    refused(&["rebuild", "--data", at], &["--all"])?;
    verb(&data, &["verify"])?.exits(0)?;
    Ok(())
}

#[test]
fn a_bad_line_is_reported_with_its_number_and_the_rest_goes_on() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (data, commands) = (directory.path().join("data"), directory.path().join("commands.ndjson"));
    let line = |id: &str| {
        let data = crate::case::user_at(id);
        format!(
            "{{\"aggregate\":\"users\",\"id\":\"{id}\",\"command\":\"register\",\"data\":{data},\"key\":\"{id}\"}}\n"
        )
    };
    let text = [
        line("one"),
        "nonsense\n".into(),
        line("two").replace("register", "fly"),
        line("two").replace("customers.example", ""),
        line("two").replace("\"two\"", "\"t/o\""),
        line("two"),
    ];
    std::fs::write(&commands, text.concat())?;
    let file = commands.to_str().context("path")?;
    let offline = verb(&data, &["load", file, "--format", "json"])?;
    let server = Server::start(&directory.path().join("online"))?;
    let online = annals(["load", file, "--url", server.command.url(), "--format", "json"])?;
    for run in [offline, online] {
        let run = run.exits(1)?;
        for number in 2..=5 {
            ensure!(
                run.stderr.contains(&format!("line {number}: ")),
                "line {number} is not reported: {}",
                run.stderr
            );
        }
        let counts = run.lines()?.pop().context("no summary")?;
        ensure!(counts["done"] == 2 && counts["failed"] == 4, "{counts}");
    }
    ensure!(server.head()? == 2, "two lines were good");
    server.stop()
}

//! `annals salvage`: a log that does not open any more, made anew out of its files by the real binary.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use annals_event_store::decode_frame;
use annals_tests::cli::{Run, annals};
use annals_tests::fixture::{demo, verb};
use annals_tests::server::Server;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Where the storage engine keeps a volume's settings.
const SETTINGS: &str = "log/00000000000000000001/conf";

/// The events of a log, as JSON lines.
fn events(data: &Path) -> Result<Vec<Value>> {
    verb(data, &["events", "--format", "json"])?.exits(0)?.lines()
}

fn position(event: &Value) -> Result<u64> {
    Ok(event["position"].as_str().context("no position")?.parse()?)
}

fn salvage(data: &Path, into: &Path) -> Result<Run> {
    let into = into.to_str().context("the path is not UTF-8")?;
    verb(data, &["salvage", "--format", "json", "--into", into])
}

/// A log with traffic in it, closed in order, whose only volume the engine does not open; and its events.
fn broken(data: &Path) -> Result<Vec<Value>> {
    demo(data, 300)?;
    let events = events(data)?;
    std::fs::write(data.join(SETTINGS), b"nothing that the engine knows")?;
    let named = verb(data, &["verify"])?.exits(1)?;
    ensure!(named.stdout.contains("`annals salvage`"), "{}", named.stdout);
    Ok(events)
}

#[test]
fn a_log_that_does_not_open_is_whole_again_and_goes_on() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (data, new) = (directory.path().join("data"), directory.path().join("new"));
    let written = broken(&data)?;
    let said = salvage(&data, &new)?.exits(0)?;
    let line = said.lines()?.pop().context("no summary")?;
    let head = written.len().to_string();
    ensure!(line["result"] == "ok" && line["events"] == head.as_str(), "{line}");
    ensure!(line["epoch"] != line["parent_epoch"] && line["outboxes"] == 1, "{line}");
    ensure!(said.stderr.contains("projections resume"), "{}", said.stderr);
    ensure!(!directory.path().join("new.rest.ndjson").exists(), "there is no rest");
    ensure!(events(&new)? == written, "every event is there");
    verb(&new, &["verify"])?.exits(0)?;
    let from = (written.len() + 1).to_string();
    verb(&new, &["projections", "resume", "fulfilment", "--from", &from])?.exits(0)?;
    let server = Server::start(&new)?;
    server.settle()?;
    server.stop()?;
    // The damaged log is still what it was.
    verb(&data, &["verify"])?.exits(1)?;
    Ok(())
}

/// Files of the log that hold blocks.
fn raw_files(data: &Path) -> [PathBuf; 3] {
    ["journal-0", "journal-1", "00000000000000000001/db"].map(|name| data.join("log").join(name))
}

/// Flips a bit in every block that holds a position; the positions in these blocks.
fn lose(data: &Path, position: u64) -> Result<BTreeSet<u64>> {
    let mut lost = BTreeSet::new();
    for file in raw_files(data) {
        let mut bytes = std::fs::read(&file)?;
        for at in 0..bytes.len() {
            if bytes[at..].starts_with(b"ANB\x01")
                && let Ok((_, block, used)) = decode_frame(&bytes[at..])
                && (block.first().get()..=block.last().get()).contains(&position)
            {
                bytes[at + used / 2] ^= 4;
                lost.extend(block.first().get()..=block.last().get());
            }
        }
        std::fs::write(file, bytes)?;
    }
    ensure!(!lost.is_empty(), "no block holds {position}");
    Ok(lost)
}

#[test]
fn what_is_missing_is_named_and_what_stands_behind_it_is_in_a_file() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (data, new) = (directory.path().join("data"), directory.path().join("new"));
    let written = broken(&data)?;
    let lost = lose(&data, written.len() as u64 / 2)?;
    let said = salvage(&data, &new)?.exits(1)?;
    let line = said.lines()?.pop().context("no summary")?;
    ensure!(line["result"] == "incomplete", "{line}");
    let missing = line["missing"].as_array().context("nothing is missing")?;
    ensure!(
        !missing.is_empty() && said.stderr.contains("missing: "),
        "{line} {}",
        said.stderr
    );

    let salvaged = events(&new)?;
    ensure!(
        written.starts_with(&salvaged) && salvaged.len() > 100,
        "{} events came back",
        salvaged.len()
    );
    verb(&new, &["verify"])?.exits(0)?;
    let rest = std::fs::read_to_string(directory.path().join("new.rest.ndjson"))?;
    let rest: Vec<Value> = rest.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(line["rest"] == rest.len() as u64 && rest.len() > 100, "{line}");
    let mut found = salvaged;
    found.extend(rest);
    let places = found.iter().map(position).collect::<Result<BTreeSet<_>>>()?;
    ensure!(places.len() == found.len(), "no event is there twice");
    let there = |event: &&Value| position(event).is_ok_and(|position| places.contains(&position));
    let expected: Vec<&Value> = written.iter().filter(there).collect();
    ensure!(found.iter().eq(expected), "what came back is what was written");
    for event in &written {
        let position = position(event)?;
        ensure!(
            places.contains(&position) || lost.contains(&position),
            "{position} was not damaged"
        );
    }
    Ok(())
}

#[test]
fn what_cannot_be_salvaged_or_is_in_the_way_is_refused_and_nothing_is_written() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (data, new) = (directory.path().join("data"), directory.path().join("new"));
    demo(&data, 20)?;
    let server = Server::start(&data)?;
    let refused = salvage(&data, &new)?.exits(2)?;
    ensure!(refused.stderr.contains(server.command.url()), "{}", refused.stderr);
    server.stop()?;
    let refused = salvage(&data, &data.join("new"))?.exits(2)?;
    ensure!(refused.stderr.contains("must stay as it is"), "{}", refused.stderr);
    let refused = salvage(&data, directory.path())?.exits(2)?;
    ensure!(refused.stderr.contains("not empty"), "{}", refused.stderr);
    let nothing = annals(["salvage", "--data", "no/such/place", "--into", "new"])?.exits(2)?;
    ensure!(nothing.stderr.contains("there is no log"), "{}", nothing.stderr);
    for file in raw_files(&data) {
        let len = file.metadata()?.len();
        std::fs::write(file, vec![7; usize::try_from(len)?])?;
    }
    let nothing = salvage(&data, &new)?.exits(2)?;
    ensure!(nothing.stderr.contains("restore a backup"), "{}", nothing.stderr);
    ensure!(
        !new.exists() && !directory.path().join("new.salvaging").exists(),
        "something was written"
    );
    Ok(())
}

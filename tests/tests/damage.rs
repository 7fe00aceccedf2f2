//! `annals verify` on logs that are not what was written: blocks altered, missing and swapped, an index that lies. Each
//! is named by its position, and what is damaged is never served.

use std::path::Path;

use annals_tests::damage::{blocks, change, lie};
use annals_tests::fixture::{copy, demo, verb};
use annals_tests::server::Launch;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

type Damage = fn(&Path, [u64; 2]) -> Result<usize>;
type Lie = fn(&[u8], &[u64]) -> Option<Vec<u64>>;

/// A log, and the positions of two of its blocks that are neither the first nor the last.
fn written(data: &Path) -> Result<[u64; 2]> {
    demo(data, 600)?;
    let blocks = blocks(data)?;
    ensure!(
        blocks.len() > 8,
        "only {} blocks: too few to damage one in the middle",
        blocks.len()
    );
    Ok([blocks[blocks.len() / 2], blocks[blocks.len() / 2 + 2]])
}

/// What `verify` finds, line by line, and whether it holds.
fn verified(data: &Path, code: i32) -> Result<Vec<Value>> {
    verb(data, &["verify", "--format", "json"])?.exits(code)?.lines()
}

fn positions(lines: &[Value]) -> Vec<u64> {
    let number = |line: &Value| line["position"].as_str().and_then(|text| text.parse().ok());
    lines.iter().filter_map(number).collect()
}

#[test]
fn an_untouched_log_holds() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    let places = written(&data)?;
    let lines = verified(&data, 0)?;
    let last = lines.last().context("nothing was said")?;
    ensure!(
        last["result"] == "ok" && last["events"].as_u64() > Some(places[1]),
        "{last}"
    );
    ensure!(positions(&lines).is_empty(), "{lines:?}");
    // Opened by the tool that damages, and changed in nothing: the tool is not what is found.
    ensure!(
        change(&data, |_, value| Some(value.to_vec()))? == 0,
        "the tool changed something"
    );
    ensure!(
        lie(&data, |_, value| Some(value.to_vec()))? == 0,
        "the tool changed something"
    );
    verified(&data, 0)?;
    Ok(())
}

#[test]
fn damage_to_the_log_is_named_by_its_position() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let whole = directory.path().join("whole");
    let places = written(&whole)?;
    let kinds: [(&str, Damage, &[usize]); 3] = [
        ("altered", alter, &[0]),
        ("missing", remove, &[0]),
        ("swapped", swap, &[0, 1]),
    ];
    for (kind, damage, named) in kinds {
        let data = directory.path().join(kind);
        copy(&whole, &data)?;
        ensure!(damage(&data, places)? > 0, "{kind}: nothing was damaged");
        let lines = verified(&data, 1).with_context(|| kind.to_owned())?;
        for position in named.iter().map(|at| places[*at]) {
            ensure!(
                positions(&lines).contains(&position),
                "{kind}: {position} is not named in {lines:?}"
            );
        }
        let explained = lines
            .iter()
            .all(|line| line["what"].as_str().is_some_and(|what| !what.is_empty()));
        ensure!(explained, "{kind}: {lines:?}");
        let blamed = lines
            .iter()
            .any(|line| line["what"].as_str().is_some_and(|what| what.contains("index")));
        ensure!(
            !blamed && lines.len() <= 6,
            "{kind}: the cause is named, not all that follows from it: {lines:?}"
        );
        is_not_served(&data, places[0]).with_context(|| kind.to_owned())?;
    }
    Ok(())
}

fn alter(data: &Path, [at, _]: [u64; 2]) -> Result<usize> {
    change(data, |key, value| {
        let mut value = value.to_vec();
        if key == at.to_be_bytes() {
            let middle = value.len() / 2;
            value[middle] ^= 1;
        }
        Some(value)
    })
}

fn remove(data: &Path, [at, _]: [u64; 2]) -> Result<usize> {
    change(data, |key, value| (key != at.to_be_bytes()).then(|| value.to_vec()))
}

fn swap(data: &Path, places: [u64; 2]) -> Result<usize> {
    let mut stored = Vec::new();
    change(data, |key, value| {
        if places.iter().any(|place| key == place.to_be_bytes()) {
            stored.push(value.to_vec());
        }
        Some(value.to_vec())
    })?;
    change(data, |key, value| {
        let at = places.iter().position(|place| key == place.to_be_bytes());
        at.map_or_else(|| Some(value.to_vec()), |at| stored.get(1 - at).cloned())
    })
}

/// A server on the damaged log refuses to read there, with a problem that names the position.
fn is_not_served(data: &Path, position: u64) -> Result<()> {
    let server = Launch::on(data)?.begin()?;
    let answer = server
        .command
        .get(&format!("/v1/events?after={}&limit=1", position - 1))?;
    let detail = answer.problem(500, "log-damaged")?;
    ensure!(
        detail.contains(&position.to_string()) && detail.contains("annals verify"),
        "{detail}"
    );
    let ready = server.command.get("/readyz")?;
    ready.problem(503, "not-ready")?;
    ensure!(ready.json()?["reason"] == "log-damaged", "{}", ready.text());
    server.stop()
}

#[test]
fn an_index_that_lies_is_named() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let whole = directory.path().join("whole");
    written(&whole)?;
    let lies: [(&str, Lie); 4] = [
        ("another-position", another_position),
        ("no-such-stream", no_such_stream),
        ("no-command", no_command),
        ("another-command", another_command),
    ];
    for (kind, told) in lies {
        let data = directory.path().join(kind);
        copy(&whole, &data)?;
        let mut done = false;
        let told = lie(&data, |key, value| {
            let lied = if done { Some(value.to_vec()) } else { told(key, value) };
            done |= lied.as_deref() != Some(value);
            lied
        })?;
        ensure!(told == 1, "{kind}: {told} lies were told");
        let lines = verified(&data, 1).with_context(|| kind.to_owned())?;
        ensure!(
            !positions(&lines).is_empty(),
            "{kind}: no position is named in {lines:?}"
        );
        let told = lines
            .iter()
            .any(|line| line["what"].as_str().is_some_and(|what| what.contains("index")));
        ensure!(told, "{kind}: {lines:?}");
    }
    Ok(())
}

/// An event of a stream is said to be one position further on.
fn another_position(key: &[u8], positions: &[u64]) -> Option<Vec<u64>> {
    Some(moved(key.starts_with(b"sorders/"), positions))
}

fn moved(really: bool, positions: &[u64]) -> Vec<u64> {
    let mut positions = positions.to_vec();
    if let Some(last) = positions.last_mut().filter(|_| really) {
        *last += 1;
    }
    positions
}

fn no_such_stream(key: &[u8], positions: &[u64]) -> Option<Vec<u64>> {
    (!key.starts_with(b"sorders/")).then(|| positions.to_vec())
}

fn no_command(key: &[u8], positions: &[u64]) -> Option<Vec<u64>> {
    (!key.starts_with(b"k")).then(|| positions.to_vec())
}

fn another_command(key: &[u8], positions: &[u64]) -> Option<Vec<u64>> {
    Some(moved(key.starts_with(b"k"), positions))
}

#[test]
fn of_very_many_problems_the_first_hundred_are_listed_and_all_are_counted() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    written(&data)?;
    let one_further: Lie = |key, positions| {
        let further = u64::from(key.starts_with(b"s"));
        Some(positions.iter().map(|position| position + further).collect())
    };
    ensure!(lie(&data, one_further)? > 200, "too few streams");
    let lines = verified(&data, 1)?;
    let last = lines.last().context("nothing was said")?;
    ensure!(
        lines.len() == 101 && last["problems"].as_u64() > Some(100),
        "{} lines, {last}",
        lines.len()
    );
    let what = last["what"].as_str().unwrap_or_default();
    ensure!(what.contains("the first 100 are listed"), "{what}");
    Ok(())
}

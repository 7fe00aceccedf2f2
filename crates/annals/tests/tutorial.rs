//! `docs/tutorial.md` is true: its code is the example that is compiled, and its commands give what it shows.
//!
//! In what it shows, `…` stands for anything.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper that fails fails its test")]

mod common;

use common::{Served, run_with};
use std::path::{Path, PathBuf};
use std::process::Command;

const TUTORIAL: &str = include_str!("../../../docs/tutorial.md");

/// The contents of all code blocks of this language.
fn blocks(language: &str) -> Vec<String> {
    let (mut blocks, mut block) = (Vec::new(), None);
    for line in TUTORIAL.lines() {
        block = match (block, line.strip_prefix("```")) {
            (None, Some(opened)) => Some((opened == language, String::new())),
            (Some((wanted, text)), Some(_)) => {
                blocks.extend(wanted.then_some(text));
                None
            }
            (Some((wanted, text)), None) => Some((wanted, text + line + "\n")),
            (None, None) => None,
        };
    }
    blocks
}

/// The example, which cargo builds beside the tests.
fn counter() -> Command {
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    Command::new(path.join("examples/counter"))
}

/// Words of a command line, with single quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for character in line.chars() {
        match character {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty())),
            other => word.push(other),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

/// What `curl` with these words would print.
fn curl(words: &[String], server: &Served) -> String {
    let url = words.iter().find(|word| word.starts_with("http://")).unwrap();
    let url = url
        .replace("http://127.0.0.1:8080", &server.command_url)
        .replace("http://127.0.0.1:8081", &server.query_url);
    let after = |flag: &str| words.iter().skip_while(|word| *word != flag).nth(1);
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut answer = match (after("-d"), after("-H")) {
        (Some(data), Some(header)) => {
            let (name, value) = header.split_once(": ").unwrap();
            agent.post(url).header(name, value).send(data).unwrap()
        }
        _ => agent.get(url).call().unwrap(),
    };
    answer.body_mut().read_to_string().unwrap()
}

/// Whether `shown` is what came, line by line, `…` standing for anything within a line.
#[track_caller]
fn assert_shown(command: &str, shown: &str, came: &str) {
    let matches = |shown: &str, came: &str| {
        let mut rest = came.trim_end();
        let parts: Vec<&str> = shown.trim_end().split('…').collect();
        let last = parts.len() - 1;
        parts.iter().enumerate().all(|(number, part)| {
            let found = match number {
                0 if last == 0 => (rest == *part).then_some(0),
                0 => rest.starts_with(part).then_some(0),
                _ if number == last => rest.ends_with(part).then(|| rest.len() - part.len()),
                _ => rest.find(part),
            };
            found.is_some_and(|at| {
                rest = &rest[at + part.len()..];
                true
            })
        })
    };
    let same = shown.lines().count() == came.lines().count()
        && shown
            .lines()
            .zip(came.lines())
            .all(|(shown, came)| matches(shown, came));
    assert!(same, "{command}\nthe tutorial shows:\n{shown}\nbut there came:\n{came}");
}

#[test]
fn the_code_of_the_tutorial_is_the_example() {
    let example = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/counter.rs")).unwrap();
    assert_eq!(blocks("rust"), [example]);
}

#[test]
fn the_commands_of_the_tutorial_give_what_it_shows() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("commands.ndjson"), &blocks("json")[0]).unwrap();
    let mut server = None;
    let steps = blocks("console");
    assert!(steps.len() >= 9, "the tutorial shows its commands");
    for step in steps {
        let (command, shown) = step.split_once('\n').unwrap();
        let command = command.strip_prefix("$ ").unwrap();
        let came = match command.strip_prefix("cargo run -q -- ") {
            Some(arguments) => {
                let ran = run_with(counter(), dir.path(), arguments, "");
                ran.err + &ran.out
            }
            None => {
                let server = server.get_or_insert_with(|| Served::start(counter(), dir.path(), "serve"));
                curl(&words(command), server)
            }
        };
        assert_shown(command, shown, &came);
    }
}

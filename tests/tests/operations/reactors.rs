//! Commands of reactors that keep failing: parked over kills, listed offline, retried by the mended program, skipped.

use annals_tests::server::Server;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::letters::{id, letter, none_left};
use crate::{Fragile, Program, decisions, status, until, write};

/// The letters that were sent, in the order of the log.
pub(crate) fn sent(server: &Server) -> Result<Vec<Value>> {
    let answer = server.command.get("/v1/events?category=letters")?.expect(200)?.json()?;
    answer.as_array().cloned().context("no list of events")
}

/// Waits until so many letters are sent.
pub(crate) fn until_sent(server: &Server, count: usize) -> Result<Vec<Value>> {
    until("letters are sent", || {
        let found = sent(server)?;
        Ok(if found.len() == count {
            Ok(found)
        } else {
            Err(format!("{found:?}"))
        })
    })
}

#[test]
fn a_parked_command_outlives_a_kill_and_is_carried_out_once_by_the_mended_program() -> Result<()> {
    let fragile = Fragile::new()?;
    let mut server = fragile.start(Program::Broken)?;
    write(&server, "c", "post this", 1)?;
    write(&server, "c", "post that", 1)?;
    let before = until("both wait", || {
        let letter = letter(&server)?;
        Ok(if letter["waiting"] == 2 {
            Ok(letter)
        } else {
            Err(letter.to_string())
        })
    })?;
    ensure!(
        before["id"] == "postman:1:1" && before["kind"] == "reactor" && before["state"] == "parked",
        "{before}"
    );
    ensure!(
        before["command"].to_string().contains("letters/c") && before["attempts"] == 2,
        "{before}"
    );
    ensure!(
        before["error"].to_string().contains("letters"),
        "it says what is unknown: {before}"
    );
    let other = write(&server, "d", "nothing to send", 1)?;
    until("other keys go on", || {
        let found = status(&server.query, "postman")?;
        let there = found["position"] == other.to_string().as_str() && found["state"] == "running";
        Ok(if there { Ok(()) } else { Err(found.to_string()) })
    })?;

    let launch = server.kill()?;
    let server = launch.start()?;
    let after = letter(&server)?;
    ensure!(after == before, "known as before, not tried anew: {after}");
    server.stop()?;
    let offline = fragile
        .offline(&["dead-letters", "list", "--format", "json"])?
        .exits(0)?
        .lines()?;
    ensure!(offline == std::slice::from_ref(&before), "{offline:?}");

    let server = fragile.start(Program::Mended)?;
    ensure!(
        letter(&server)? == before && sent(&server)?.is_empty(),
        "a person has to say so"
    );
    retried(&server, &before)?;
    server.stop()?;
    // The decision is in the log for good, and every start reads it again.
    let server = fragile.start(Program::Mended)?;
    server.settle()?;
    ensure!(sent(&server)?.len() == 2, "nothing is sent twice");
    none_left(&server)?;
    server.stop()
}

/// By the mended program, over REST.
fn retried(server: &Server, before: &Value) -> Result<()> {
    let shown = Fragile::online(server, &["dead-letters", "show", id(before)?])?.exits(0)?;
    let shown: Value = serde_json::from_str(&shown.stdout)?;
    ensure!(shown["event"]["data"]["text"] == "post this", "{shown}");
    let path = format!("/v1/dead-letters/{}/retry", id(before)?);
    let why = json!({ "reason": "the aggregate is there" });
    server
        .query
        .post(&path, &[("annals-actor", "ops")], &why)?
        .expect(202)?;
    let letters = until_sent(server, 2)?;
    ensure!(
        letters[0]["data"]["text"] == "post this" && letters[1]["data"]["text"] == "post that",
        "in order: {letters:?}"
    );
    ensure!(letters[0]["actor"] == "reactor:postman", "{letters:?}");
    none_left(server)?;
    let found = decisions(server, "postman")?;
    let decided = (
        "DeadLetterRetried".into(),
        "ops".into(),
        "the aggregate is there".into(),
    );
    ensure!(found == [decided], "{found:?}");
    Ok(())
}

#[test]
fn a_command_is_skipped_online_and_offline_and_never_carried_out() -> Result<()> {
    let fragile = Fragile::new()?;
    let server = fragile.start(Program::Broken)?;
    write(&server, "c", "post this", 1)?;
    let first = letter(&server)?;
    Fragile::online(&server, &["dead-letters", "skip", id(&first)?, "--reason", "too late"])?.exits(0)?;
    none_left(&server)?;
    let outbox = status(&server.query, "postman")?;
    ensure!(
        outbox["outbox"]["rejected"] == 1 && outbox["outbox"]["pending"] == 0,
        "{outbox}"
    );
    write(&server, "d", "post that", 1)?;
    let second = letter(&server)?;
    server.stop()?;
    fragile
        .offline(&["dead-letters", "skip", id(&second)?, "--reason", "too late as well"])?
        .exits(0)?;
    let server = fragile.start(Program::Mended)?;
    none_left(&server)?;
    server.settle()?;
    ensure!(sent(&server)?.is_empty(), "what was skipped is never sent");
    let outbox = status(&server.query, "postman")?;
    ensure!(outbox["outbox"]["rejected"] == 2, "{outbox}");
    server.stop()
}

//! Dead letters of views: listed, shown, retried and skipped by people, over REST and on the command line, in a running
//! server and offline. What was decided stands in the log, and outlives restarts and rebuilds.

use annals_tests::server::Server;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{Fragile, Program, decisions, row_at, status, until, until_state, write};

/// The one dead letter that there is, once no attempt is left.
pub(crate) fn letter(server: &Server) -> Result<Value> {
    until("a dead letter", || {
        let all = server.query.json("/v1/dead-letters")?;
        let letters = all["dead_letters"].as_array().context("no list")?;
        let dead = |letter: &&Value| letter["state"] != "retrying";
        Ok(match letters.iter().find(dead) {
            Some(found) if letters.len() == 1 => Ok(found.clone()),
            _ => Err(all.to_string()),
        })
    })
}

pub(crate) fn none_left(server: &Server) -> Result<()> {
    until("no dead letter", || {
        let all = server.query.json("/v1/dead-letters")?;
        let none = all["dead_letters"].as_array().is_some_and(Vec::is_empty);
        Ok(if none { Ok(()) } else { Err(all.to_string()) })
    })
}

pub(crate) fn id(letter: &Value) -> Result<&str> {
    letter["id"].as_str().context("a letter without an id")
}

/// A key that is parked at its second event, with a third that waits, and another key beside it.
fn poisoned(server: &Server) -> Result<(Value, u64)> {
    write(server, "a", "one", 1)?;
    write(server, "a", "poison", 10)?;
    write(server, "a", "later", 100)?;
    let head = write(server, "b", "one", 5)?;
    let letter = until("both wait", || {
        let letter = letter(server)?;
        Ok(if letter["waiting"] == 2 {
            Ok(letter)
        } else {
            Err(letter.to_string())
        })
    })?;
    Ok((letter, head))
}

#[test]
fn a_parked_key_is_listed_shown_retried_in_vain_and_skipped_and_the_skip_outlives_kill_and_rebuild() -> Result<()> {
    let fragile = Fragile::new()?;
    let mut server = fragile.start(Program::Broken)?;
    let (letter, head) = poisoned(&server)?;
    ensure!(
        letter["projection"] == "sums" && letter["key"] == "a" && letter["position"] == "2" && letter["attempts"] == 2,
        "{letter}"
    );
    ensure!(
        letter["state"] == "parked" && letter["error"].to_string().contains("the poison works"),
        "{letter}"
    );
    let row = row_at(&server, "sums", "a", head)?.expect(200)?;
    ensure!(
        row.header("annals-parked") == "2" && row.json()?["amount"] == 1,
        "{}",
        row.text()
    );
    let other = row_at(&server, "sums", "b", head)?.expect(200)?;
    ensure!(
        other.header("annals-parked").is_empty() && other.json()?["amount"] == 5,
        "{}",
        other.text()
    );
    let list = server.query.json("/v1/views/sums")?;
    ensure!(
        list["rows"][0]["parked"] == "2" && list["rows"][1].get("parked").is_none(),
        "{list}"
    );
    let sums = status(&server.query, "sums")?;
    ensure!(sums["state"] == "running" && sums["dead_letters"] == 1, "{sums}");
    let metrics = server.query.get("/metrics")?.text();
    let counted = metrics.lines().any(|line| {
        line.starts_with("annals_projection_dead_letters{") && line.contains("\"sums\"") && line.ends_with(" 1")
    });
    ensure!(counted, "{metrics}");

    shown_and_retried_in_vain(&server, &letter)?;
    skipped(&server, id(&letter)?, head)?;

    let launch = server.kill()?;
    let server = launch.start()?;
    rebuilt_without_it(&server)?;
    let replayed = Fragile::new().and_then(|_| {
        crate::verb(
            [
                "replay",
                "view",
                "sums",
                "a",
                "--format",
                "json",
                "--log",
                server.command.url(),
            ]
            .map(Into::into),
        )
    })?;
    ensure!(
        replayed.exits(0)?.stdout.contains("101"),
        "a replay heeds the skip, too"
    );
    server.stop()
}

fn shown_and_retried_in_vain(server: &Server, letter: &Value) -> Result<()> {
    let id = id(letter)?;
    let listed = Fragile::online(server, &["dead-letters", "list", "--format", "json"])?.exits(0)?;
    ensure!(listed.lines()? == std::slice::from_ref(letter), "{}", listed.stdout);
    let none = Fragile::online(
        server,
        &["dead-letters", "list", "--view", "strict", "--format", "json"],
    )?;
    ensure!(none.exits(0)?.stdout.is_empty(), "of another view");
    Fragile::online(server, &["dead-letters", "list", "--view", "nowhere"])?.exits(2)?;
    let shown = Fragile::online(server, &["dead-letters", "show", id])?.exits(0)?;
    let shown: Value = serde_json::from_str(&shown.stdout)?;
    ensure!(
        shown["event"]["data"]["text"] == "poison" && shown["row"]["amount"] == 1 && shown["id"] == id,
        "{shown}"
    );
    let unknown = Fragile::online(server, &["dead-letters", "show", "sums:1:9:00000000"])?.exits(2)?;
    ensure!(unknown.stderr.contains("there is no dead letter"), "{}", unknown.stderr);

    let retry = [
        "dead-letters",
        "retry",
        id,
        "--reason",
        "the disk was full",
        "--actor",
        "ops@example.com",
    ];
    let said = Fragile::online(server, &retry)?.exits(0)?;
    ensure!(said.stderr.contains("recorded at position"), "{}", said.stderr);
    until("it failed anew", || {
        let again = self::letter(server)?;
        let failed = again["last_failed_at"] != letter["last_failed_at"] && again["state"] == "parked";
        Ok(if failed { Ok(()) } else { Err(again.to_string()) })
    })?;
    let found = decisions(server, "sums")?;
    let retried = (
        "DeadLetterRetried".into(),
        "ops@example.com".into(),
        "the disk was full".into(),
    );
    ensure!(found == [retried], "{found:?}");
    Ok(())
}

/// Over REST; with a reason, and not without.
fn skipped(server: &Server, id: &str, head: u64) -> Result<()> {
    let path = format!("/v1/dead-letters/{id}/skip");
    let without = server.query.post(&path, &[], &json!({}))?;
    ensure!(
        without
            .problem(400, "invalid-decision")?
            .contains("a skip needs a reason"),
        "{}",
        without.text()
    );
    let refused = Fragile::online(server, &["dead-letters", "skip", id])?.exits(2)?;
    ensure!(refused.stderr.contains("a skip needs a reason"), "{}", refused.stderr);
    let forged = json!({ "specversion": "1.0", "id": "e", "source": "/x", "type": "DeadLetterSkipped", "data": {} });
    let forged = server.command.post("/v1/streams/$operations/sums", &[], &forged)?;
    forged.problem(403, "category-owned")?;
    let who = [("annals-actor", "ann@example.com")];
    let answer = server
        .query
        .post(&path, &who, &json!({ "reason": "sent twice" }))?
        .expect(202)?
        .json()?;
    let position: u64 = answer["position"].as_str().context("no position")?.parse()?;
    ensure!(position > head, "{answer}");
    let row = row_at(server, "sums", "a", position)?.expect(200)?;
    let sum = row.json()?;
    ensure!(
        sum["amount"] == 101 && sum["notes"] == 2,
        "the event is passed by, what waited is folded: {sum}"
    );
    ensure!(row.header("annals-parked").is_empty(), "still parked");
    none_left(server)?;
    let gone = server.query.post(&path, &who, &json!({ "reason": "again" }))?;
    gone.problem(404, "unknown-dead-letter")?;
    let found = decisions(server, "sums")?;
    let skip = (
        "DeadLetterSkipped".into(),
        "ann@example.com".into(),
        "sent twice".into(),
    );
    ensure!(found.len() == 2 && found[1] == skip, "{found:?}");
    Ok(())
}

/// A rebuild of the same version passes it by, too, and finds the same rows.
fn rebuilt_without_it(server: &Server) -> Result<()> {
    let head = server.head()?;
    let row = row_at(server, "sums", "a", head)?.expect(200)?.json()?;
    ensure!(row["amount"] == 101, "after a kill: {row}");
    let report = Fragile::online(server, &["rebuild", "sums", "--compare", "--format", "json"])?.exits(0)?;
    ensure!(report.lines()?[0]["differing"] == 0, "{}", report.stdout);
    let row = row_at(server, "sums", "a", head)?.expect(200)?.json()?;
    ensure!(row["amount"] == 101 && row["notes"] == 2, "after a rebuild: {row}");
    none_left(server)
}

#[test]
fn a_letter_outlives_a_kill_and_is_seen_offline_and_the_mended_program_folds_it_when_told_to() -> Result<()> {
    let fragile = Fragile::new()?;
    let mut server = fragile.start(Program::Broken)?;
    let (before, head) = poisoned(&server)?;
    let launch = server.kill()?;
    let server = launch.start()?;
    let after = letter(&server)?;
    ensure!(
        after["id"] == before["id"] && after["position"] == "2" && after["waiting"] == 2,
        "{after}"
    );
    server.stop()?;
    let offline = fragile
        .offline(&["dead-letters", "list", "--format", "json"])?
        .exits(0)?
        .lines()?;
    ensure!(offline.len() == 1 && offline[0]["id"] == before["id"], "{offline:?}");
    let shown = fragile.offline(&["dead-letters", "show", id(&before)?])?.exits(0)?;
    let shown: Value = serde_json::from_str(&shown.stdout)?;
    ensure!(
        shown["event"]["data"]["text"] == "poison" && shown["row"]["amount"] == 1,
        "{shown}"
    );

    let server = fragile.start(Program::Mended)?;
    let still = letter(&server)?;
    ensure!(still["id"] == before["id"], "a person has to say so: {still}");
    Fragile::online(&server, &["dead-letters", "retry", id(&before)?])?.exits(0)?;
    none_left(&server)?;
    let row = row_at(&server, "sums", "a", head)?.expect(200)?.json()?;
    ensure!(row["amount"] == 111 && row["notes"] == 3, "all of it, in order: {row}");
    server.stop()
}

#[test]
fn a_letter_is_skipped_while_no_server_runs() -> Result<()> {
    let fragile = Fragile::new()?;
    let server = fragile.start(Program::Broken)?;
    let (letter, head) = poisoned(&server)?;
    let in_use = fragile.offline(&["dead-letters", "list"])?.exits(2)?;
    ensure!(in_use.stderr.contains(server.query.url()), "{}", in_use.stderr);
    server.stop()?;
    let skip = [
        "dead-letters",
        "skip",
        id(&letter)?,
        "--reason",
        "a test of the till",
        "--actor",
        "bob",
    ];
    let said = fragile.offline(&skip)?.exits(0)?;
    ensure!(said.stderr.contains("heeds it at the next `serve`"), "{}", said.stderr);
    let server = fragile.start(Program::Broken)?;
    none_left(&server)?;
    let row = row_at(&server, "sums", "a", head)?.expect(200)?.json()?;
    ensure!(row["amount"] == 101, "{row}");
    let found = decisions(&server, "sums")?;
    ensure!(
        found == [("DeadLetterSkipped".into(), "bob".into(), "a test of the till".into())],
        "{found:?}"
    );
    server.stop()
}

#[test]
fn a_view_that_stops_touches_no_other_and_goes_on_without_a_restart() -> Result<()> {
    let fragile = Fragile::new()?;
    let server = fragile.start(Program::Broken)?;
    write(&server, "a", "one", 1)?;
    write(&server, "a", "stop", 10)?;
    let head = write(&server, "b", "one", 5)?;
    let stopped = until_state(&server.query, "strict", "stopped")?;
    ensure!(stopped["error"].to_string().contains("here it stops"), "{stopped}");
    let answer = server.query.get("/v1/views/strict/a")?;
    answer.problem(503, "view-stopped")?;
    let ready = server.query.json("/readyz")?;
    ensure!(
        ready["stopped"] == json!(["strict"]),
        "the others go on being asked: {ready}"
    );
    ensure!(server.command.get("/readyz")?.status == 200, "commands go on");
    let row = row_at(&server, "sums", "a", head)?.expect(200)?.json()?;
    ensure!(row["amount"] == 11, "no other view is touched: {row}");

    let resumed = Fragile::online(&server, &["projections", "resume", "strict"])?.exits(2)?;
    ensure!(
        resumed.stderr.contains("was not paused, it has stopped"),
        "{}",
        resumed.stderr
    );
    let resumed = server.query.post("/v1/projections/strict/resume", &[], &json!({}))?;
    resumed.problem(409, "not-paused")?;
    ensure!(decisions(&server, "strict")?.is_empty(), "nothing was recorded");

    let letter = letter(&server)?;
    ensure!(
        letter["state"] == "stopped" && letter["projection"] == "strict",
        "{letter}"
    );
    let skip = ["dead-letters", "skip", id(&letter)?, "--reason", "a slip"];
    Fragile::online(&server, &skip)?.exits(0)?;
    until_state(&server.query, "strict", "running")?;
    let row = row_at(&server, "strict", "a", head)?.expect(200)?.json()?;
    ensure!(row["amount"] == 1, "{row}");
    ensure!(server.query.json("/readyz")?["stopped"].is_null(), "all go on again");
    none_left(&server)?;
    server.stop()?;
    let report = fragile
        .offline(&["rebuild", "strict", "--compare", "--format", "json"])?
        .exits(0)?;
    ensure!(report.lines()?[0]["differing"] == 0, "{}", report.stdout);
    Ok(())
}

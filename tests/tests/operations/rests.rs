//! Views and reactors that are told to rest, and reactors that wait to be told from where to go on.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::reactors::{sent, until_sent};
use crate::{Fragile, Program, decisions, row_at, status, until_state, verb, write};

#[test]
fn a_view_rests_over_a_kill_and_serves_what_it_has_until_it_is_resumed() -> Result<()> {
    let fragile = Fragile::new()?;
    let mut server = fragile.start(Program::Mended)?;
    let first = write(&server, "a", "one", 1)?;
    row_at(&server, "sums", "a", first)?.expect(200)?;
    let pause = [
        "projections",
        "pause",
        "sums",
        "--reason",
        "the disk is moved",
        "--actor",
        "ann",
    ];
    let said = Fragile::online(&server, &pause)?.exits(0)?;
    ensure!(said.stderr.contains("recorded at position"), "{}", said.stderr);
    until_state(&server.query, "sums", "paused")?;
    let second = write(&server, "a", "two", 10)?;
    let strict = row_at(&server, "strict", "a", second)?.expect(200)?.json()?;
    ensure!(strict["amount"] == 11, "no other view rests: {strict}");

    let launch = server.kill()?;
    let server = launch.start()?;
    until_state(&server.query, "sums", "paused")?;
    let row = server.query.get("/v1/views/sums/a")?.expect(200)?;
    ensure!(row.json()?["amount"] == 1, "as it stands: {}", row.text());
    ensure!(row.header("annals-lag") != "0", "and it says so: {:?}", row.headers);
    let behind = server
        .query
        .get(&format!("/v1/views/sums/a?min_position={second}&wait=50"))?;
    behind.problem(503, "view-behind")?;

    let who = [("annals-actor", "bob")];
    let answer = server
        .query
        .post("/v1/projections/sums/resume", &who, &json!({ "reason": "moved" }))?;
    answer.expect(202)?;
    let row = row_at(&server, "sums", "a", second)?.expect(200)?.json()?;
    ensure!(row["amount"] == 11, "{row}");
    let found = decisions(&server, "sums")?;
    let said = |kind: &str, who: &str, why: &str| (kind.to_owned(), who.to_owned(), why.to_owned());
    ensure!(
        found
            == [
                said("ProjectionPaused", "ann", "the disk is moved"),
                said("ProjectionResumed", "bob", "moved")
            ],
        "{found:?}"
    );
    Fragile::online(&server, &["projections", "pause", "nothing"])?.exits(2)?;
    server
        .query
        .post("/v1/projections/nothing/pause", &[], &json!({}))?
        .problem(404, "unknown-projection")?;
    let body = server
        .query
        .post("/v1/projections/sums/pause", &[], &json!({ "why": "x" }))?;
    body.problem(400, "invalid-decision")?;
    server.stop()
}

#[test]
fn a_reactor_rests_offline_and_online_and_sends_what_it_missed_once() -> Result<()> {
    let fragile = Fragile::new()?;
    let server = fragile.start(Program::Mended)?;
    write(&server, "a", "post one", 1)?;
    until_sent(&server, 1)?;
    server.stop()?;
    fragile
        .offline(&["projections", "pause", "postman", "--reason", "holidays"])?
        .exits(0)?;
    let server = fragile.start(Program::Mended)?;
    until_state(&server.query, "postman", "paused")?;
    let head = write(&server, "a", "post two", 1)?;
    row_at(&server, "sums", "a", head)?.expect(200)?;
    ensure!(sent(&server)?.len() == 1, "it rests");
    Fragile::online(&server, &["projections", "resume", "postman"])?.exits(0)?;
    until_sent(&server, 2)?;
    server.settle()?;
    ensure!(sent(&server)?.len() == 2, "once");
    let found: Vec<String> = decisions(&server, "postman")?
        .into_iter()
        .map(|(kind, ..)| kind)
        .collect();
    ensure!(found == ["ProjectionPaused", "ProjectionResumed"], "{found:?}");
    server.stop()
}

#[test]
fn after_a_restore_a_reactor_goes_on_only_from_where_it_is_told_online_or_offline() -> Result<()> {
    let fragile = Fragile::new()?;
    let server = fragile.start(Program::Mended)?;
    write(&server, "a", "post one", 1)?;
    until_sent(&server, 1)?;
    server.settle()?;
    let (file, restored) = (fragile.path("shop.backup"), fragile.path("restored"));
    let (file, restored) = (file.to_str().context("path")?, restored.to_str().context("path")?);
    verb(["backup", file, "--url", server.command.url()].map(Into::into))?.exits(0)?;
    server.stop()?;
    verb(["restore", file, "--data", restored].map(Into::into))?.exits(0)?;

    let offline = verb(["projections", "resume", "postman", "--data", restored].map(Into::into))?.exits(2)?;
    ensure!(offline.stderr.contains("--from POSITION"), "{}", offline.stderr);
    let server = fragile.start_on(restored.as_ref(), Program::Mended)?;
    until_state(&server.query, "postman", "stopped")?;
    let head = write(&server, "a", "post two", 1)?;
    let refused = Fragile::online(&server, &["projections", "resume", "postman"])?.exits(2)?;
    ensure!(
        refused.stderr.contains("was not paused") && refused.stderr.contains("--from POSITION"),
        "{}",
        refused.stderr
    );
    let resume = |body| {
        server
            .query
            .post("/v1/projections/postman/resume", &[("annals-actor", "ann")], &body)
    };
    ensure!(
        resume(json!({}))?.problem(409, "not-paused")?.contains("\"from\""),
        "the remedy over REST"
    );
    resume(json!({ "from": "soon" }))?.problem(400, "invalid-decision")?;
    resume(json!({ "from": (head + 9).to_string() }))?.problem(400, "position-beyond-head")?;
    let view = server
        .query
        .post("/v1/projections/sums/resume", &[], &json!({ "from": "1" }))?;
    view.problem(404, "unknown-projection")?;
    ensure!(decisions(&server, "postman")?.is_empty(), "nothing was recorded");
    ensure!(sent(&server)?.len() == 1, "nothing was sent");

    // From the first event on: what was sent before has its key in the log.
    let resumed = resume(json!({ "from": "1", "reason": "the old server is gone" }))?.expect(202)?;
    ensure!(
        resumed.json()?["events"][0]["type"] == "ProjectionResumed",
        "{}",
        resumed.text()
    );
    let letters = until_sent(&server, 2)?;
    ensure!(letters[1]["data"]["text"] == "post two", "{letters:?}");
    server.settle()?;
    ensure!(sent(&server)?.len() == 2, "nothing twice");
    resume(json!({ "from": "1" }))?.problem(409, "not-paused")?;
    let events = server.command.json("/v1/streams/$operations/postman")?;
    ensure!(
        events[0]["data"]["from"] == 1 && events[0]["actor"] == "ann",
        "what was decided is in the log: {events}"
    );
    let found = status(&server.query, "postman")?;
    ensure!(found["state"] == "running", "{found}");
    server.stop()
}

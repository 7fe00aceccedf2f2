//! Events that cannot be appended: no CloudEvents, too many, too large, or in streams that belong to others.

use annals_tests::server::Server;
use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::case::{Case, check_all, event, nested};

const NOTES: &str = "/v1/streams/notes/n-1";
const BATCH: &str = "application/cloudevents-batch+json";

fn with(field: &str, value: Value) -> String {
    let mut event = event("e-1");
    event[field] = value;
    event.to_string()
}

fn without(field: &str) -> String {
    let mut event = event("e-1");
    event.as_object_mut().and_then(|event| event.remove(field));
    event.to_string()
}

fn data(text: &str) -> String {
    event("e-1").to_string().replace("{\"text\":\"x\"}", text)
}

fn batch(events: usize) -> String {
    Value::from((0..events).map(|number| event(&number.to_string())).collect::<Vec<_>>()).to_string()
}

#[test]
fn what_is_no_event() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let server = Server::start(directory.path())?;
    let note = |what, body: String| Case::post(what, NOTES, body).is(400, "invalid-cloudevent", "");
    let cases = [
        note("malformed", "{\"id\":".into()),
        note("nothing", String::new()),
        note("an empty batch", "[]".into()).is(400, "invalid-cloudevent", "at least one"),
        note("no version", without("specversion")).is(400, "invalid-cloudevent", "\"specversion\":\"1.0\""),
        note("another version", with("specversion", json!("0.3"))).is(400, "invalid-cloudevent", "1.0"),
        note("no id", without("id")).is(400, "invalid-cloudevent", "id is missing"),
        note("a long id", with("id", json!("x".repeat(129)))).is(400, "invalid-cloudevent", "128"),
        note("a number as id", with("id", json!(5))).is(400, "invalid-cloudevent", "quotes"),
        note("no source", without("source")).is(400, "invalid-cloudevent", "source is missing"),
        note("no type", without("type")).is(400, "invalid-cloudevent", "type is missing"),
        note("no time", with("time", json!("yesterday"))).is(400, "invalid-cloudevent", "RFC 3339"),
        note("another subject", with("subject", json!("notes/n-2"))).is(400, "invalid-cloudevent", "leave it out"),
        note("an extension of ours", with("position", json!("5"))).is(400, "invalid-cloudevent", "leave it out"),
        note("an actor", with("actor", json!("eve"))).is(400, "invalid-cloudevent", "Annals-Actor"),
        note("an extension in capitals", with("Loud", json!("x"))).is(400, "invalid-cloudevent", "a-z"),
        note("an extension that is an object", with("object", json!({}))).is(400, "invalid-cloudevent", "a text"),
        note("tags without values", with("tags", json!("loose"))).is(400, "invalid-cloudevent", ""),
        note("deep nesting", data(&nested(100_000))).is(400, "invalid-cloudevent", "data"),
        note("1e400", data("1e400")).is(400, "invalid-cloudevent", "data"),
        note("one for a batch", event("e-1").to_string())
            .header("content-type", BATCH)
            .is(400, "invalid-cloudevent", "array"),
        note("1,001 events", batch(1_001))
            .header("content-type", BATCH)
            .is(413, "too-large", "several parts"),
        note("too large", data(&format!("\"{}\"", "x".repeat(1 << 20)))).is(413, "too-large", "1048576"),
        note("plain text", event("e-1").to_string())
            .header("content-type", "text/plain")
            .is(415, "unsupported-media-type", "application/cloudevents"),
        note("a condition", event("e-1").to_string())
            .header("annals-append-condition", "{}")
            .is(400, "invalid-header", "after"),
    ];
    check_all(&server, &server.command, &cases)?;
    server.stop()
}

#[test]
fn streams_that_belong_to_others_or_cannot_be() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let server = Server::start(directory.path())?;
    let to = |what, path: &str| Case::post(what, path, event("e-1").to_string());
    let cases = [
        to("of an aggregate", "/v1/streams/orders/ord-1").is(403, "category-owned", "/v1/commands/orders"),
        to("of ours", "/v1/streams/$internal/x").is(403, "category-owned", "$"),
        to("in capitals", "/v1/streams/Notes/x").is(400, "invalid-id", ""),
        to("a long category", &format!("/v1/streams/{}/x", "n".repeat(65))).is(400, "invalid-id", ""),
        to("a slash", "/v1/streams/notes/a%2Fb").is(400, "invalid-id", "1 to 200 characters"),
        to("the parent directory", "/v1/streams/notes/..").is(400, "invalid-id", ""),
    ];
    check_all(&server, &server.command, &cases)?;
    server.stop()
}

#[test]
fn the_limits_themselves_are_allowed_and_a_key_keeps_its_meaning() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let server = Server::start(directory.path())?;
    let headers = [("content-type", BATCH), ("idempotency-key", "all")];
    let full = batch(1_000);
    for _ in 0..2 {
        let answer = server
            .command
            .send("POST", NOTES, &headers, Some(full.as_bytes()))?
            .expect(200)?
            .json()?;
        ensure!(
            answer["events"].as_array().map(Vec::len) == Some(1_000),
            "not all of them"
        );
    }
    ensure!(server.head()? == 1_000, "appended twice");
    let long = "i".repeat(200);
    let path = format!("/v1/streams/notes/{long}");
    server.command.post(&path, &[], &event(&"e".repeat(128)))?.expect(200)?;
    // The same source and id again is the event that is there; under the key, another batch is another command.
    server.command.post(&path, &[], &event(&"e".repeat(128)))?.expect(200)?;
    ensure!(server.head()? == 1_001, "appended twice");
    let other = Case::post("a key of another batch", NOTES, batch(3)).header("content-type", BATCH);
    let other = other.header("idempotency-key", "all").is(422, "key-reused", "new key");
    let stale = Case::post("a stale version", NOTES, event("late").to_string()).header("if-match", "\"3\"");
    check_all(
        &server,
        &server.command,
        &[other, stale.is(412, "precondition-failed", "version 1000")],
    )?;
    server.stop()
}

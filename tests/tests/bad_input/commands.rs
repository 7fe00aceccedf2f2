//! Commands that cannot be read, are of no aggregate, are too large, or come with headers that contradict.

use annals_tests::http::Client;
use annals_tests::server::Server;
use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::case::{Case, check_all, nested, order, user, user_at};

const REGISTER: &str = "/v1/commands/users/bob/register";
const PLACE: &str = "/v1/commands/orders/ord-1/place";

/// A server that knows the user `ann`, registered under the key `k-1`, and nobody else.
fn server(data: &std::path::Path) -> Result<Server> {
    let server = Server::start(data)?;
    let headers = [("idempotency-key", "k-1")];
    server
        .command
        .post("/v1/commands/users/ann/register", &headers, &user())?
        .expect(200)?;
    Ok(server)
}

#[test]
fn bodies_that_are_no_commands() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let server = server(directory.path())?;
    let with_email = |email: &str| format!("{{\"email\":{email},\"name\":\"Bob\"}}");
    let quantity = |number: &str| {
        order()
            .to_string()
            .replace("\"quantity\":1", &format!("\"quantity\":{number}"))
    };
    let mut invalid_utf8 = b"{\"email\":\"b@customers.example\",\"name\":\"".to_vec();
    invalid_utf8.extend_from_slice(b"\xff\xfe\"}");
    let register = |what, body: String| Case::post(what, REGISTER, body).is(400, "invalid-command", "");
    let place = |what, body: String| Case::post(what, PLACE, body).is(400, "invalid-command", "");
    let cases = [
        register("malformed", "{\"email\":".into()).is(400, "invalid-command", "register"),
        register("nothing", String::new()),
        register("no object", "[]".into()),
        register("something behind", format!("{} x", user())),
        register("a number for a text", with_email("5")).is(400, "invalid-command", "expected"),
        register("null for a text", with_email("null")),
        register("a field is missing", "{\"email\":\"b@customers.example\"}".into()).is(400, "invalid-command", "name"),
        register("a lone surrogate", with_email("\"\\ud800\"")),
        register("deep nesting", with_email(&nested(100_000))),
        place("deep nesting", format!("{{\"items\":{}}}", nested(100_000))),
        place("1e400", quantity("1e400")),
        place("2^70", quantity("1180591620717411303424")),
        place("a fraction", quantity("1.5")),
        place("a text for a number", quantity("\"1\"")),
        Case::post("invalid UTF-8", REGISTER, invalid_utf8).is(400, "invalid-command", ""),
        place("beyond the range of sums", quantity("9223372036854775807")).is(422, "rejected", "order less"),
        place("a negative quantity", quantity("-1")).is(422, "rejected", "at least 1"),
        register("no address", with_email("\"nowhere\"")).is(422, "rejected", "name@domain"),
        Case::post(
            "too large",
            REGISTER,
            with_email(&format!("\"{}\"", "x".repeat(1 << 20))),
        )
        .is(413, "too-large", "1048576"),
        register("plain text", user().to_string())
            .header("content-type", "text/plain")
            .is(415, "unsupported-media-type", "application/json"),
        register("a content type that is none", user().to_string())
            .header("content-type", "json")
            .is(415, "unsupported-media-type", "application/json"),
    ];
    check_all(&server, &server.command, &cases)?;
    let rejected = Case::post("a rejection has its code", "/v1/commands/users/nobody/sign-in", "{}");
    let problem = rejected
        .is(422, "rejected", "register them first")
        .check(&server.command)?;
    ensure!(problem["code"] == "user-unknown", "{problem}");
    server.stop()
}

#[test]
fn paths_that_lead_nowhere() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let server = server(directory.path())?;
    let to = |what, path: &str| Case::post(what, path, user().to_string());
    let id = |what, id: &str| {
        to(what, &format!("/v1/commands/users/{id}/register")).is(400, "invalid-id", "1 to 200 characters")
    };
    let long = "x".repeat(201);
    let cases = [
        to("unknown aggregate", "/v1/commands/rockets/r-1/launch").is(404, "unknown-aggregate", "orders"),
        to("unknown command", "/v1/commands/users/bob/fly").is(404, "unknown-command", "register"),
        to("unknown path", "/v1/command/users/bob/register").is(404, "not-found", "/v1/commands"),
        to("no id", "/v1/commands/users/register").is(404, "not-found", "/v1/commands"),
        id("a slash", "a%2Fb"),
        id("the parent directory", ".."),
        id("the parent directory, encoded", "%2E%2E"),
        id("this directory", "."),
        id("201 characters", &long),
        id("not ASCII", "%C3%A9"),
        id("a space", "a%20b"),
        id("a zero byte", "%00"),
        id("a line break", "a%0Ab"),
        id("a question mark", "a%3Fb"),
        to("not UTF-8", "/v1/commands/users/%FF/register").is(400, "invalid-id", "ASCII"),
        to("a parameter", &format!("{REGISTER}?dry=1")).is(400, "invalid-parameter", "no parameters"),
        to("a wrong method", REGISTER)
            .method("DELETE")
            .is(405, "method-not-allowed", "POST"),
        Case::get("a GET of a command", REGISTER).is(405, "method-not-allowed", "POST"),
        to("a POST of the log", "/v1/log").is(405, "method-not-allowed", "GET"),
        to("a long URI", &format!("{REGISTER}?x={}", "y".repeat(10_000))).is(414, "uri-too-long", "shorten"),
    ];
    check_all(&server, &server.command, &cases)?;
    server.stop()
}

#[test]
fn headers_that_contradict() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let server = server(directory.path())?;
    let register = |what| Case::post(what, REGISTER, user().to_string());
    let ann = |what| Case::post(what, "/v1/commands/users/ann/sign-in", "{}");
    let header = |case: Case, says| case.is(400, "invalid-header", says);
    let cases = [
        ann("a stale version")
            .header("if-match", "\"7\"")
            .is(412, "precondition-failed", "version 1"),
        ann("an unquoted version")
            .header("if-match", "1")
            .is(400, "invalid-header", "double quotes"),
        header(ann("a weak version").header("if-match", "W/\"1\""), "double quotes"),
        header(ann("any version").header("if-match", "*"), "double quotes"),
        header(
            ann("a version beyond 64 bits").header("if-match", "\"99999999999999999999\""),
            "double quotes",
        ),
        ann("a stream that exists")
            .header("if-none-match", "*")
            .is(412, "precondition-failed", "version 1"),
        header(ann("another version than this").header("if-none-match", "\"1\""), "*"),
        header(
            ann("both").header("if-match", "\"1\"").header("if-none-match", "*"),
            "one of them",
        ),
        register("a version of nothing")
            .header("if-match", "\"1\"")
            .is(412, "precondition-failed", "version 0"),
        header(
            register("no time").header("annals-occurred-at", "yesterday"),
            "2017-10-02T10:56:33Z",
        ),
        header(register("a long key").header("idempotency-key", "k".repeat(256)), "255"),
        header(register("an empty key").header("idempotency-key", ""), "255"),
        header(
            register("a key that is not ASCII").header("idempotency-key", "schlüssel"),
            "ASCII",
        ),
        header(register("a long actor").header("annals-actor", "x".repeat(257)), "256"),
        header(
            register("a long correlation id").header("annals-correlation-id", "x".repeat(257)),
            "256",
        ),
        register("a foreign form")
            .header("accept", "text/html")
            .is(406, "not-acceptable", "application/json"),
        register("long headers")
            .header("x-long", "x".repeat(20_000))
            .is(431, "headers-too-large", "fewer"),
    ];
    check_all(&server, &server.command, &cases)?;
    let stale = ann("a stale version names both").header("if-match", "\"7\"");
    let problem = stale.is(412, "precondition-failed", "").check(&server.command)?;
    ensure!(
        problem["expected_version"] == 7 && problem["actual_version"] == 1,
        "{problem}"
    );
    key_of_another_command(&server)?;
    server.stop()
}

/// A key says the same for ever: the same command again is answered as the first time, another one is refused.
fn key_of_another_command(server: &Server) -> Result<()> {
    let head = server.head()?;
    let again = |key: &str| {
        server
            .command
            .post("/v1/commands/users/ann/register", &[("idempotency-key", key)], &user())
    };
    for key in ["k-1", "\"k-1\""] {
        let answer = again(key)?.expect(200)?.json()?;
        ensure!(answer["events"][0]["position"] == "1", "{answer}");
    }
    // What differs in personal fields only is the same command: they are not part of what a key remembers.
    let headers = [("idempotency-key", "k-1")];
    let personal = json!({ "email": "other@customers.example", "name": "Ann" });
    server
        .command
        .post("/v1/commands/users/ann/register", &headers, &personal)?
        .expect(200)?;
    let body = json!({ "email": "ann@customers.example", "name": "Ann", "city": "Bern" }).to_string();
    let other = Case::post("a key of another body", "/v1/commands/users/ann/register", body);
    let other = other.header("idempotency-key", "k-1").is(422, "key-reused", "new key");
    check_all(server, &server.command, &[other])?;
    let other = Case::post("a key of another command", "/v1/commands/users/ann/sign-in", "{}");
    let other = other.header("idempotency-key", "k-1").is(422, "key-reused", "new key");
    check_all(server, &server.command, &[other])?;
    ensure!(server.head()? == head, "something was done");
    Ok(())
}

#[test]
fn what_is_hardly_http() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let server = server(directory.path())?;
    let head = server.head()?;
    let post = "POST /v1/commands/users/bob/register HTTP/1.1\r\nhost: localhost\r\n";
    let requests: [(&str, String, &[u16]); 8] = [
        ("garbage", "garbage\r\n\r\n".into(), &[400]),
        ("a header without a colon", format!("{post}nonsense\r\n\r\n"), &[400]),
        (
            "a length that is no number",
            format!("{post}content-length: x\r\n\r\n"),
            &[400],
        ),
        (
            "two lengths",
            format!("{post}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}"),
            &[400],
        ),
        (
            "a chunk that is none",
            format!("{post}transfer-encoding: chunked\r\n\r\nzz\r\n"),
            &[400],
        ),
        (
            "a huge length",
            format!("{post}content-length: 99999999999\r\n\r\n"),
            &[413],
        ),
        (
            "a hundred headers",
            format!("{post}{}\r\n", "x-many: 1\r\n".repeat(100)),
            &[431],
        ),
        (
            "a key twice",
            format!("{post}idempotency-key: a\r\nidempotency-key: b\r\ncontent-length: 2\r\n\r\n{{}}"),
            &[400],
        ),
    ];
    for (what, request, statuses) in requests {
        let answer = server.command.raw(request.as_bytes())?;
        ensure!(
            statuses.contains(&answer.status),
            "{what}: {} {}",
            answer.status,
            answer.text()
        );
        let problem = answer.json().with_context(|| what.to_owned())?;
        ensure!(
            problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()) && problem["status"] == answer.status,
            "{what}: {problem}"
        );
        ensure!(server.head()? == head, "{what}: it left an event in the log");
    }
    server.stop()
}

#[test]
fn bad_lines_of_a_bulk_are_told_apart_and_the_rest_goes_on() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let server = server(directory.path())?;
    let line = |id: &str, more: &str| {
        format!(
            "{{\"aggregate\":\"users\",\"id\":\"{id}\",\"command\":\"register\",\"data\":{}{more}}}\n",
            user_at(id)
        )
    };
    let lines = [
        (line("one", ""), 200, ""),
        ("{\"aggregate\":\n".into(), 400, "invalid-line"),
        (line("a b", ""), 400, "invalid-id"),
        (line("two", ",\"wings\":2"), 400, "invalid-line"),
        (line("two", "").replace("users", "rockets"), 404, "unknown-aggregate"),
        (line("two", "").replace("register", "fly"), 404, "unknown-command"),
        (line("ann", ",\"expected_version\":5"), 409, "version-conflict"),
        (
            line("two", &format!(",\"actor\":\"{}\"", "x".repeat(1 << 20))),
            413,
            "too-large",
        ),
        (line("two", "").replace("register", "sign-in"), 400, "invalid-command"),
        (
            "{\"aggregate\":\"users\",\"id\":\"two\",\"command\":\"sign-in\",\"data\":{}}\n".into(),
            422,
            "rejected",
        ),
        (line("three", ""), 200, ""),
    ];
    let body: String = lines.iter().map(|(line, ..)| line.as_str()).collect();
    let head = server.head()?;
    let answers = bulk(&server.command, &body)?;
    ensure!(answers.len() == lines.len(), "{} answers", answers.len());
    for (number, ((_, status, name), answer)) in (1..).zip(lines.iter().zip(answers)) {
        ensure!(
            answer["line"] == number && answer["status"] == *status,
            "line {number}: {answer}"
        );
        if *status != 200 {
            ensure!(
                answer["type"] == format!("urn:annals:problem:{name}"),
                "line {number}: {answer}"
            );
            ensure!(
                answer["detail"].as_str().is_some_and(|text| !text.is_empty()),
                "line {number}: {answer}"
            );
        }
    }
    ensure!(server.head()? == head + 2, "two lines were good");
    let wrong = Case::post("JSON for lines", "/v1/commands", line("four", ""));
    check_all(
        &server,
        &server.command,
        &[wrong.is(415, "unsupported-media-type", "application/x-ndjson")],
    )?;
    server.stop()
}

fn bulk(client: &Client, body: &str) -> Result<Vec<serde_json::Value>> {
    let headers = [("content-type", "application/x-ndjson")];
    let answer = client
        .send("POST", "/v1/commands", &headers, Some(body.as_bytes()))?
        .expect(200)?;
    Ok(answer
        .text()
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?)
}

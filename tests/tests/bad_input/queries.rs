//! Questions that cannot be answered: of views, rows, indexes and events that there are not, with parameters that say
//! nothing.

use annals_tests::server::Server;
use anyhow::{Result, ensure};

use crate::case::{Case, check_all, order};

#[test]
fn what_the_query_api_does_not_know() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let server = Server::start(directory.path())?;
    server
        .command
        .post("/v1/commands/orders/ord-1/place", &[], &order())?
        .expect(200)?;
    server.settle()?;
    let orders =
        |what, query: &str| Case::get(what, format!("/v1/views/orders?{query}")).is(400, "invalid-parameter", "");
    let cases = [
        Case::get("unknown view", "/v1/views/rockets").is(404, "unknown-view", "orders"),
        Case::get("a row of an unknown view", "/v1/views/rockets/r-1").is(404, "unknown-view", "orders"),
        Case::get("unknown row", "/v1/views/orders/ord-9").is(404, "unknown-row", "min_position"),
        Case::get("not UTF-8", "/v1/views/orders/%FF").is(400, "invalid-id", ""),
        Case::get("unknown path", "/v1/commands/orders/ord-1/place").is(404, "not-found", "/v1/views"),
        orders("unknown index", "colour=red").is(400, "invalid-parameter", "status"),
        Case::get("no truth", "/v1/views/customers?online=maybe").is(400, "invalid-parameter", "online"),
        orders("no day", "placed_on=tomorrow").is(400, "invalid-parameter", "2017-10-02"),
        orders("no day in a range", "placed_on.from=2017-13-01").is(400, "invalid-parameter", "is no day"),
        orders("two indexes", "status=placed&customer=ann"),
        orders("a value and a range", "status=placed&status.from=a"),
        orders("twice", "status=placed&status=shipped").is(400, "invalid-parameter", "once"),
        orders("no rows", "limit=0").is(400, "invalid-parameter", "1 to"),
        orders("too many rows", "limit=1000000").is(400, "invalid-parameter", "1 to"),
        orders("no number", "limit=many").is(400, "invalid-parameter", "1 to"),
        orders("no order", "order=random").is(400, "invalid-parameter", "asc or desc"),
        orders("no position", "min_position=-1").is(400, "invalid-parameter", "position"),
        orders("a position beyond 64 bits", "min_position=1180591620717411303424"),
        orders("a long wait", "wait=10000000").is(400, "invalid-parameter", "milliseconds"),
        orders("a foreign cursor", "cursor=nonsense").is(400, "invalid-cursor", ""),
        orders("to come", "min_position=999&wait=50").is(503, "view-behind", "min_position"),
        orders("as it will be", "as_of=999999").is(400, "position-in-future", "end of the log"),
        orders("as of a day", "as_of=2017-10-02").is(400, "invalid-parameter", "RFC 3339"),
        Case::get("no history", "/v1/views/orders/nobody/history").is(404, "unknown-row", "never had"),
        orders("a foreign form", "")
            .header("accept", "text/html")
            .is(406, "not-acceptable", "application/json"),
        orders("a wrong method", "")
            .method("PUT")
            .is(405, "method-not-allowed", "GET"),
        orders("a long URI", &format!("x={}", "y".repeat(10_000))).is(414, "uri-too-long", "shorten"),
        Case::post("a rebuild of nothing", "/v1/projections/rockets/rebuild", "").is(404, "unknown-view", "orders"),
    ];
    check_all(&server, &server.query, &cases)?;
    let behind = orders("to come", "min_position=999&wait=50").is(503, "view-behind", "");
    let problem = behind.check(&server.query)?;
    ensure!(problem["position"] == server.head()?.to_string().as_str(), "{problem}");
    server.stop()
}

#[test]
fn what_the_log_does_not_hold() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let server = Server::start(directory.path())?;
    server
        .command
        .post("/v1/commands/orders/ord-1/place", &[], &order())?
        .expect(200)?;
    let events = |what, query: &str| Case::get(what, format!("/v1/events?{query}")).is(400, "invalid-parameter", "");
    let cases = [
        Case::get("unknown stream", "/v1/streams/orders/ord-9").is(404, "unknown-stream", "ord-9"),
        Case::get("unknown event", "/v1/events/no-such-event").is(404, "unknown-event", ""),
        Case::get("a bad stream", "/v1/streams/orders/a%2Fb").is(400, "invalid-id", "1 to 200 characters"),
        Case::get("a bad direction", "/v1/streams/orders/ord-1?direction=up").is(400, "invalid-parameter", "backward"),
        Case::get("no version", "/v1/streams/orders/ord-1?from_version=x").is(400, "invalid-parameter", "version"),
        events("no position", "after=x").is(400, "invalid-parameter", "position"),
        events("no limit", "limit=0").is(400, "invalid-parameter", "1 to"),
        events("no time", "since=yesterday").is(400, "invalid-parameter", "RFC 3339"),
        events("unknown parameter", "colour=red").is(400, "invalid-parameter", "category"),
        events("not UTF-8", "type=%FF"),
        events("a bad category", "category=No%20Such").is(400, "invalid-id", ""),
        events("a foreign form", "")
            .header("accept", "image/png")
            .is(406, "not-acceptable", "ndjson"),
        events("live, and to an end", "limit=5")
            .header("accept", "text/event-stream")
            .is(400, "invalid-parameter", "limit"),
        events("live, from no id", "")
            .header("accept", "text/event-stream")
            .header("last-event-id", "7")
            .is(400, "invalid-header", "epoch:position"),
    ];
    check_all(&server, &server.command, &cases)?;
    server.stop()
}

//! The real record of a marketplace, through the real binary: every event and every row is what a fold of the tables
//! that shares no code with the domain says, loaded online and offline, replayed to any time, loaded twice, killed while it is
//! loaded, and rebuilt while it is loaded.

#![allow(clippy::print_stdout, reason = "a test says what it measured")]

mod feed;
mod kills;
mod live_rebuild;

use std::collections::BTreeMap;
use std::path::Path;

use annals_tests::cli::{Run, annals, convert_olist};
use annals_tests::events::{self, Event};
use annals_tests::http::Client;
use annals_tests::olist::{Olist, Tally, World, past};
use annals_tests::rows;
use annals_tests::server::Server;
use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use serde_json::Value;

/// Commands in the converted record.
const COMMANDS: u64 = 62_200;
/// What the contract says the fulfilment process gives back: payments, and minor units.
const REFUNDED: Tally = Tally {
    count: 508,
    sum: 10_876_853,
};

#[test]
fn the_record_loaded_into_a_running_server_is_told_exactly() -> Result<()> {
    let truth = Olist::sample()?;
    let directory = tempfile::tempdir()?;
    let (commands, data) = (directory.path().join("commands.ndjson"), directory.path().join("data"));
    convert_olist(&commands)?;
    let server = Server::start(&data)?;
    let url = server.command.url().to_owned();
    let load = || annals(["load", text(&commands)?, "--url", &url, "--format", "json"])?.exits(0);
    let first = summary(&load()?)?;
    // The process may approve an order before the record does; then the record's approval changes nothing.
    ensure!(
        first["done"] + first["unchanged"] == COMMANDS && first["lines"] == COMMANDS,
        "{first:?}"
    );
    server.settle()?;
    whole_record(&server, &truth)?;
    the_indexes_list_the_statuses(&server.query)?;

    let (head, rows) = (server.head()?, rows::dump(&server.query)?);
    let second = summary(&load()?)?;
    ensure!(
        second["done"] == 0 && second["failed"] == 0 && second["lines"] == COMMANDS,
        "{second:?}"
    );
    ensure!(
        second["duplicates"] == first["done"] && second["unchanged"] == first["unchanged"],
        "{second:?}"
    );
    ensure!(
        server.settle()? == head,
        "a second load of the same file appended events"
    );
    rows::same("rows after the second load", &rows, &rows::dump(&server.query)?)?;

    server.stop()?;
    annals(["verify", "--data", text(&data)?])?.exits(0)?;
    Ok(())
}

#[test]
fn the_record_loaded_offline_is_told_exactly_at_any_time() -> Result<()> {
    let truth = Olist::sample()?;
    let directory = tempfile::tempdir()?;
    let (commands, data) = (directory.path().join("commands.ndjson"), directory.path().join("data"));
    convert_olist(&commands)?;
    let load = || annals(["load", text(&commands)?, "--data", text(&data)?, "--format", "json"])?.exits(0);
    let counts = summary(&load()?)?;
    ensure!(counts["done"] == COMMANDS && counts["lines"] == COMMANDS, "{counts:?}");
    let counts = summary(&load()?)?;
    ensure!(counts["duplicates"] == COMMANDS && counts["done"] == 0, "{counts:?}");

    let server = Server::start(&data)?;
    let head = server.settle()?;
    ensure!(head == COMMANDS + REFUNDED.count, "{head} events");
    let events = whole_record(&server, &truth)?;
    let built = rows::dump(&server.query)?;
    its_past_is_told_by_position(&server, &events)?;
    server.stop()?;

    replays_at_any_time(&truth, &events, &data)?;
    annals(["verify", "--data", text(&data)?])?.exits(0)?;

    std::fs::remove_dir_all(data.join("views"))?;
    annals(["rebuild", "--all", "--data", text(&data)?])?.exits(0)?;
    let server = Server::start(&data)?;
    ensure!(server.settle()? == head, "a rebuild appended events");
    rows::same("rows of a rebuild", &built, &rows::dump(&server.query)?)?;
    server.stop()
}

/// Rows and status lists as of 200 positions, and 50 rows with the event that set each field.
fn its_past_is_told_by_position(server: &Server, events: &[Event]) -> Result<()> {
    let mut seed = 20_171_002_u64;
    let mut dice = |sides: usize| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % sides
    };
    past::view_is_as_folded(&server.query, events, &mut dice, 200)?;
    let url = server.command.url();
    let printed = annals(["replay", "view", "orders", "--blame", "--format", "json", "--url", url])?.exits(0)?;
    let blamed = past::blamed_by_replay(&printed.lines()?)?;
    let ids: Vec<&String> = blamed.keys().collect();
    for _ in 0..50 {
        let id = ids[dice(ids.len())];
        let by_hand = past::blamed_by_hand(&server.query, events, id)?;
        ensure!(blamed[id] == by_hand, "{id}: {:?}, not {by_hand:?}", blamed[id]);
    }
    Ok(())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("the path is not UTF-8")
}

/// The counts that `load` prints.
fn summary(run: &Run) -> Result<BTreeMap<String, u64>> {
    let line = run.lines()?.pop().context("load printed no summary")?;
    let fields = line.as_object().context("the summary is no object")?;
    let count = |(name, count): (&String, &Value)| Some((name.clone(), count.as_u64()?));
    Ok(fields.iter().filter_map(count).collect())
}

/// All events and all rows against the fold of the tables, and the fold against the contract's figures.
fn whole_record(server: &Server, truth: &Olist) -> Result<Vec<Event>> {
    let truth = truth.at(None);
    let events = events::all(&server.command)?;
    events_are_counted_exactly(&events, &truth)?;
    nothing_else_was_refunded(&events, &truth)?;
    let served = rows::world(&server.query)?;
    ensure!(
        truth.orders.len() == 8_135 && truth.customers.len() == 8_016,
        "the tables changed"
    );
    rows::same_world(&truth, &served)?;
    let online = rows::all(&server.query, "online-users")?;
    ensure!(
        online.values().all(|row| row["online"] == 0),
        "nobody signed in: {online:?}"
    );
    Ok(events)
}

fn events_are_counted_exactly(events: &[Event], truth: &World) -> Result<()> {
    let mut found: BTreeMap<&str, Tally> = BTreeMap::new();
    for event in events {
        let tally = found.entry(&event.event_type).or_default();
        tally.add(if event.event_type.starts_with("Payment") {
            event.amount("amount")
        } else {
            0
        });
    }
    let totals = truth.totals();
    let count = |count| Tally { count, sum: 0 };
    let expected = BTreeMap::from([
        ("UserRegistered", count(8_016)),
        ("OrderPlaced", count(8_135)),
        ("OrderApproved", count(7_989)),
        ("OrderCancelled", count(625)),
        ("ReviewSubmitted", count(8_225)),
        (
            "PaymentAuthorized",
            Tally {
                count: 8_924,
                sum: 142_860_281,
            },
        ),
        (
            "PaymentCaptured",
            Tally {
                count: 8_763,
                sum: 139_342_764,
            },
        ),
        ("PaymentRefunded", REFUNDED),
        ("ShipmentDispatched", count(6_353)),
        ("ShipmentDelivered", count(5_170)),
    ]);
    rows::same("events by type", &expected, &found)?;
    ensure!(
        totals.payments_refunded == REFUNDED,
        "the independent fold refunds {:?}",
        totals.payments_refunded
    );
    ensure!(
        totals.events() == events.len() as u64,
        "the independent fold has {} events",
        totals.events()
    );
    Ok(())
}

/// Each refund: caused by the cancellation or the capture, at its time, and of a payment that the tables refund.
fn nothing_else_was_refunded(events: &[Event], truth: &World) -> Result<()> {
    let by_id: BTreeMap<&str, &Event> = events.iter().map(|event| (event.id.as_str(), event)).collect();
    for refund in events.iter().filter(|event| event.event_type == "PaymentRefunded") {
        let payment = truth
            .payments
            .get(refund.stream_id())
            .context("a refund of no payment")?;
        ensure!(
            payment.refunded == Some(refund.time),
            "{refund:?} should be at {:?}",
            payment.refunded
        );
        ensure!(
            payment.amount == refund.amount("amount"),
            "{refund:?} should be of {}",
            payment.amount
        );
        let cause = refund
            .causation
            .as_deref()
            .and_then(|id| by_id.get(id))
            .context("a refund without a cause")?;
        let kinds = ["OrderCancelled", "PaymentCaptured"];
        ensure!(
            kinds.contains(&cause.event_type.as_str()),
            "{refund:?} comes from {cause:?}"
        );
        ensure!(
            cause.time == refund.time && cause.correlation == refund.correlation,
            "{refund:?}, {cause:?}"
        );
    }
    Ok(())
}

fn the_indexes_list_the_statuses(query: &Client) -> Result<()> {
    let expected = [
        ("delivered", 5_164),
        ("approved", 1_227),
        ("shipped", 1_114),
        ("cancelled", 625),
        ("placed", 5),
    ];
    for (status, count) in expected {
        let listed = rows::raw(query, "orders", &format!("status={status}"))?;
        ensure!(
            listed.len() == count,
            "{} orders are {status}, not {count}",
            listed.len()
        );
    }
    Ok(())
}

/// `replay view` against the fold at times from the first to the last, and at one where an order begins with a review.
fn replays_at_any_time(truth: &Olist, events: &[Event], data: &Path) -> Result<()> {
    let moments: Vec<DateTime<Utc>> = truth.moments().into_iter().collect();
    let place = |percent: usize| moments[(moments.len() - 1) * percent / 100];
    let mut times = [0, 15, 40, 60, 85, 100].map(place).to_vec();
    times.push(begins_with_a_review(events).context("no order begins with a review")?);
    for time in times {
        let at = time.to_rfc3339();
        let arguments = [
            "replay",
            "view",
            "orders",
            "--at-occurred",
            &at,
            "--format",
            "json",
            "--data",
            text(data)?,
        ];
        let lines = annals(arguments)?.exits(0)?.lines()?;
        let found = rows::each(rows::printed(lines)?, rows::order_row)?;
        rows::same(&format!("orders at {at}"), &truth.at(Some(time)).orders, &found)?;
    }
    let moment = place(50).to_rfc3339();
    let arguments = [
        "replay",
        "view",
        "sales-by-day",
        "--at-occurred",
        &moment,
        "--format",
        "json",
        "--data",
        text(data)?,
    ];
    let days = annals(arguments)?.exits(0)?.lines()?.len();
    ensure!(days == truth.at(Some(place(50))).days.len(), "{days} days at {moment}");
    Ok(())
}

/// A time at which an order has a review and nothing else yet.
fn begins_with_a_review(events: &[Event]) -> Option<DateTime<Utc>> {
    let placed = events.iter().filter(|event| event.event_type == "OrderPlaced");
    let placed: BTreeMap<&str, DateTime<Utc>> = placed.map(|event| (event.stream.as_str(), event.time)).collect();
    let early = |event: &&Event| {
        placed
            .get(event.stream.as_str())
            .is_some_and(|placed| event.time < *placed)
    };
    events
        .iter()
        .filter(|event| event.event_type == "ReviewSubmitted")
        .find(early)
        .map(|event| event.time)
}

//! The record sent to a server whose view of orders is rebuilt meanwhile, again and again, and rolled back: who reads rows,
//! lists and what they were, all the time, finds no failed answer and none that contradicts another or the events.
//!
//! `ANNALS_LIVE_REBUILDS` rebuilds (2).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use annals_tests::cli::convert_olist;
use annals_tests::events;
use annals_tests::http::{Answer, Client};
use annals_tests::olist::Olist;
use annals_tests::olist::past::{PastOrder, PastOrders};
use annals_tests::rows;
use annals_tests::server::Server;
use anyhow::{Context, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::feed::Feed;
use crate::whole_record;

/// Time between two requests of the load, so that it lasts.
const PACE: Duration = Duration::from_millis(10);
const REBUILD_MAX: Duration = Duration::from_secs(240);
const STATUSES: [&str; 5] = ["placed", "approved", "shipped", "delivered", "cancelled"];
/// Answers that are kept, to be compared with the events in the end.
const NOTED_MAX: usize = 20_000;

/// What those who read found.
#[derive(Default)]
struct Found {
    stop: AtomicBool,
    rows: AtomicU64,
    lists: AtomicU64,
    /// Orders as they were answered, each with the position of the answer.
    noted: Mutex<Vec<(u64, String, PastOrder)>>,
}

#[test]
fn a_view_rebuilt_under_load_is_swapped_without_one_wrong_answer() -> Result<()> {
    let rebuilds: u32 = std::env::var("ANNALS_LIVE_REBUILDS").map_or(Ok(2), |text| text.parse())?;
    let truth = Olist::sample()?;
    let directory = tempfile::tempdir()?;
    let commands = directory.path().join("commands.ndjson");
    convert_olist(&commands)?;
    let server = Server::start(&directory.path().join("data"))?;
    let feed = Feed::of(&commands, &server.command)?;
    let found = Found::default();
    let query = server.query.clone();
    std::thread::scope(|scope| {
        // A third before the first rebuild, so that there is something to be built.
        feed.allow(1, 3);
        let feeding = scope.spawn(|| feed.run());
        let readers: Vec<_> = [1, 2]
            .into_iter()
            .map(|seed| {
                scope.spawn({
                    let (query, feed, found) = (&query, &feed, &found);
                    move || read(query, feed, found, seed)
                })
            })
            .collect();
        let rebuilt = rebuilt_under_load(&server, &feed, rebuilds);
        feed.pause(Duration::ZERO);
        let fed = if rebuilt.is_ok() {
            feeding.join().unwrap_or_else(|_| bail!("the feed panicked"))
        } else {
            feed.stop();
            Ok(())
        };
        found.stop.store(true, Ordering::SeqCst);
        let read = readers
            .into_iter()
            .try_for_each(|reader| reader.join().unwrap_or_else(|_| bail!("a reader panicked")));
        rebuilt.and(fed).and(read)
    })?;
    let (rows, lists) = (found.rows.load(Ordering::SeqCst), found.lists.load(Ordering::SeqCst));
    println!("{rows} rows and {lists} lists were read while {rebuilds} rebuilds and a rollback were swapped in");
    ensure!(rows > 200 && lists > 20, "that proves nothing");
    server.settle()?;
    whole_record(&server, &truth)?;
    as_the_events_say(&server.command, found)?;
    server.stop()
}

/// Rebuilds the orders so often while further commands are taken, and then rolls back.
fn rebuilt_under_load(server: &Server, feed: &Feed, rebuilds: u32) -> Result<()> {
    let begun = Instant::now();
    while !feed.is_held() {
        ensure!(begun.elapsed() < REBUILD_MAX, "a third of the record is not taken");
        std::thread::sleep(Duration::from_millis(5));
    }
    feed.pause(PACE);
    feed.allow(1, 1);
    let mut under_load = 0;
    // One may be done between two requests of the load, and then proves little.
    for _ in 0..rebuilds * 10 {
        let done = feed.done();
        let status = all_of(server, "rebuild?compare=true")?;
        let same = |field: &&str| status["comparison"][field] == 0;
        ensure!(
            ["differing", "only_old", "only_new"].iter().all(same),
            "rows of the same log and code differ: {status}"
        );
        under_load += u32::from(feed.done() > done);
        if under_load == rebuilds {
            break;
        }
    }
    ensure!(under_load > 0, "nothing was ever written while a rebuild went on");
    all_of(server, "rollback").map(drop)
}

/// Begins this of the orders, and waits for its end.
fn all_of(server: &Server, what: &str) -> Result<Value> {
    let path = format!("/v1/projections/orders/{what}");
    server.query.send("POST", &path, &[], None)?.expect(202)?;
    let begun = Instant::now();
    loop {
        let status = server.query.json("/v1/projections/orders/rebuild")?;
        if status["state"] != "running" {
            ensure!(status["state"] == "done", "{status}");
            return Ok(status);
        }
        ensure!(begun.elapsed() < REBUILD_MAX, "{what} does not end: {status}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Reads a row, the same row as of its position, and a list as of it, again and again.
fn read(query: &Client, feed: &Feed, found: &Found, seed: u64) -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut last = 0;
    let mut turn = 0_usize;
    while !found.stop.load(Ordering::SeqCst) {
        let Some((id, placed)) = feed.placed(|count| random.random_range(0..count)) else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        let path = format!("/v1/views/orders/{id}");
        let answer = query
            .get(&format!("{path}?min_position={placed}&wait=60000"))?
            .expect(200)?;
        let position = position(&answer)?;
        ensure!(
            position >= last,
            "{path} is as of {position}, after an answer as of {last}"
        );
        last = position;
        let again = query.get(&format!("{path}?as_of={position}"))?.expect(200)?;
        ensure!(
            again.text() == answer.text(),
            "{path} as of {position} was {}, it is {}",
            answer.text(),
            again.text()
        );
        note(found, position, &id, &answer.json()?)?;
        found.rows.fetch_add(1, Ordering::SeqCst);
        if turn.is_multiple_of(8) {
            a_list_and_its_rows_agree(query, feed, position, STATUSES[turn / 8 % STATUSES.len()], &mut random)?;
            found.lists.fetch_add(1, Ordering::SeqCst);
        }
        turn += 1;
    }
    Ok(())
}

fn position(answer: &Answer) -> Result<u64> {
    answer.header("annals-position").parse().context("no position")
}

fn note(found: &Found, position: u64, id: &str, row: &Value) -> Result<()> {
    let row = rows::order_row(row)?;
    let order = PastOrder {
        status: row.status,
        paid: row.paid,
        refunded: row.refunded,
    };
    let mut noted = found.noted.lock().unwrap_or_else(PoisonError::into_inner);
    if noted.len() < NOTED_MAX {
        noted.push((position, id.to_owned(), order));
    }
    Ok(())
}

/// The orders of one status as of a position are those whose rows as of it say so.
fn a_list_and_its_rows_agree(
    query: &Client,
    feed: &Feed,
    position: u64,
    status: &str,
    random: &mut StdRng,
) -> Result<()> {
    let listed = rows::raw(query, "orders", &format!("status={status}&as_of={position}"))?;
    let listed: BTreeSet<&String> = listed.keys().collect();
    for _ in 0..5 {
        let Some((id, _)) = feed.placed(|count| random.random_range(0..count)) else {
            break;
        };
        let answer = query.get(&format!("/v1/views/orders/{id}?as_of={position}"))?;
        let is = match answer.status {
            404 => false,
            _ => answer.expect(200)?.json()?["status"] == status,
        };
        ensure!(
            is == listed.contains(&id),
            "as of {position} the list of {status} orders and the row of {id} contradict each other"
        );
    }
    Ok(())
}

/// Every answer is what the events up to its position come to.
fn as_the_events_say(command: &Client, found: Found) -> Result<()> {
    let events = events::all(command)?;
    let mut noted = found.noted.into_inner().unwrap_or_else(PoisonError::into_inner);
    noted.sort_unstable_by_key(|(position, ..)| *position);
    let (mut orders, mut rest) = (PastOrders::default(), &events[..]);
    for (position, id, order) in &noted {
        while let Some((event, further)) = rest.split_first().filter(|(event, _)| event.position <= *position) {
            orders.add(event);
            rest = further;
        }
        let expected = orders.get(id).with_context(|| format!("no {id} as of {position}"))?;
        ensure!(
            order == expected,
            "{id} as of {position} was answered {order:?}, not {expected:?}"
        );
    }
    Ok(())
}

//! The record sent to a server that is killed at random moments: while it takes commands, while views are rebuilt, while the
//! fulfilment process is at work, while it starts. In the end all rows and refunds are those of the independent fold.
//!
//! `ANNALS_OLIST_KILLS` kills (3); 200 of them, after `cargo build --release -p annals`:
//! `ANNALS_OLIST_KILLS=200 cargo test -p annals-tests --test olist killed -- --nocapture`. `ANNALS_OLIST_SEED` repeats a schedule.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use annals_tests::cli::{annals, convert_olist};
use annals_tests::http::Client;
use annals_tests::olist::Olist;
use annals_tests::rows::{self, VIEWS};
use annals_tests::server::{Launch, Server};
use anyhow::{Context, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::feed::Feed;
use crate::{text, whole_record};

const KILLS: usize = 3;
/// How long the part of the record that belongs to a kill may take.
const PART_MAX: Duration = Duration::from_secs(180);

#[test]
fn killed_at_random_moments_the_record_is_told_exactly() -> Result<()> {
    let kills = number("ANNALS_OLIST_KILLS")?.map_or(KILLS, |kills| kills as usize);
    let now = || SystemTime::UNIX_EPOCH.elapsed().map_or(0, |age| age.as_micros() as u64);
    let seed = number("ANNALS_OLIST_SEED")?.unwrap_or_else(now);
    println!("{kills} kills, ANNALS_OLIST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let truth = Olist::sample()?;
    let directory = tempfile::tempdir()?;
    let (commands, data) = (directory.path().join("commands.ndjson"), directory.path().join("data"));
    convert_olist(&commands)?;
    let mut server = Server::start(&data)?;
    let feed = Feed::of(&commands, &server.command)?;
    let mut counts = Counts::default();
    std::thread::scope(|scope| {
        let feeding = scope.spawn(|| feed.run());
        let killed = (0..kills).try_for_each(|kill| {
            feed.allow(kill + 1, kills + 1);
            counts.kill(kill, &mut server, &feed, &mut random)
        });
        if killed.is_ok() {
            feed.allow(1, 1);
        } else {
            feed.stop();
        }
        let fed = feeding.join().unwrap_or_else(|_| bail!("the feed panicked"));
        killed.and(fed)
    })?;
    counts.say(&feed);
    ensure!(
        counts.loading > 0 && counts.rebuilding > 0,
        "no kill met a load and a rebuild: that proves nothing"
    );
    server.settle()?;
    finished(&server.query)?;
    whole_record(&server, &truth)?;
    let served = rows::dump(&server.query)?;
    annals(["rebuild", "--all", "--compare", "--url", server.query.url()])?.exits(0)?;
    rows::same(
        "rows of a rebuild that nobody killed",
        &served,
        &rows::dump(&server.query)?,
    )?;
    server.stop()?;
    annals(["verify", "--data", text(&data)?])?.exits(0)?;
    Ok(())
}

/// What the kills met.
#[derive(Default)]
struct Counts {
    /// While the record was being sent.
    loading: u32,
    /// While a view was being rebuilt.
    rebuilding: u32,
    /// While commands of the fulfilment process were under way.
    reacting: u32,
    /// Before the server was ready.
    starting: u32,
}

impl Counts {
    /// Lets the server work for a random time, kills it, and starts it again.
    fn kill(&mut self, number: usize, server: &mut Server, feed: &Feed, random: &mut StdRng) -> Result<()> {
        let view = VIEWS[random.random_range(0..VIEWS.len())];
        let rebuilt = number == 0 || random.random_bool(0.7);
        let before = feed.done();
        // Something of this part first, so that what is killed is not the mere start.
        let begun = Instant::now();
        while feed.done() == before && !feed.is_done() && begun.elapsed() < PART_MAX {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(random.random_range(0..300)));
        if rebuilt {
            let answer = server
                .query
                .send("POST", &format!("/v1/projections/{view}/rebuild"), &[], None)?;
            ensure!(
                [202, 409].contains(&answer.status),
                "{} {}",
                answer.status,
                answer.text()
            );
        }
        std::thread::sleep(Duration::from_millis(random.random_range(0..200)));
        let asked = server.query.json("/v1/projections")?;
        let statuses = asked["projections"].as_array().context("no list")?;
        let pending = |status: &serde_json::Value| status["outbox"]["pending"].as_u64().is_some_and(|count| count > 0);
        let sent = feed.done();
        let launch = server.kill()?;
        self.loading += u32::from(sent > before);
        self.reacting += u32::from(statuses.iter().any(pending));
        self.rebuilding += u32::from(rebuilt);
        *server = self.started(&launch, random)?;
        feed.moved(&server.command);
        Ok(())
    }

    fn started(&mut self, launch: &Launch, random: &mut StdRng) -> Result<Server> {
        while random.random_bool(0.25) {
            self.starting += 1;
            launch.start_and_kill(Duration::from_millis(random.random_range(0..250)))?;
        }
        launch.start()
    }

    fn say(&self, feed: &Feed) {
        let again = feed.again.load(Ordering::SeqCst);
        println!(
            "killed under load {}, during or after a rebuild {}, with commands of the process under way {}, at the start {}; \
             {again} requests were sent again",
            self.loading, self.rebuilding, self.reacting, self.starting
        );
    }
}

/// Waits until no view is being rebuilt: what a kill interrupted goes on by itself.
fn finished(query: &Client) -> Result<()> {
    let begun = Instant::now();
    for view in VIEWS {
        loop {
            let answer = query.get(&format!("/v1/projections/{view}/rebuild"))?;
            if answer.status == 404 || answer.json()?["state"] != "running" {
                break;
            }
            ensure!(begun.elapsed() < PART_MAX, "{view}: {}", answer.text());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}

fn number(variable: &str) -> Result<Option<u64>> {
    let text = std::env::var(variable).ok();
    text.map(|text| text.parse().with_context(|| format!("{variable}={text} is no number")))
        .transpose()
}

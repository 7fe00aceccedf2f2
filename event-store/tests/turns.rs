//! Turns: while there is little to do, an append's own runtime does the writer's work. Whoever does it, nothing changes for
//! those who append.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use annals_core::*;
use annals_event_store::{LogSettings, SledLog};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use support::{event, open, stream, texts};
use tokio::runtime::{Builder, Runtime};

/// How long anything may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// The tail is short, so that turns and generations meet.
fn settings() -> LogSettings {
    LogSettings {
        reserve_bytes: 0,
        index_tail_max: 100,
        journal_bytes: 1 << 20,
        seal: false,
        ..LogSettings::default()
    }
}

fn runtime(threads: usize) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .unwrap()
}

/// An append of one event that is the next of its stream.
fn next(name: &str, version: u64, text: &str) -> Append {
    let expected = match version {
        1 => Expected::None,
        next => Expected::Exact(Version::new(next - 1)),
    };
    Append::new(stream(name), vec![event(text)]).expecting(expected)
}

/// Appends one after the other, until turns are taken.
async fn alone_until_turns(log: &SledLog, name: &str) -> u64 {
    let (begin, before, mut version) = (Instant::now(), log.metrics().turns, 0);
    while log.metrics().turns < before + 10 {
        version += 1;
        let appended = log
            .append(next(name, version, &format!("{name} {version}")))
            .await
            .unwrap();
        assert_eq!(appended.version.get(), version);
        assert!(begin.elapsed() < LIMIT, "no turn was taken: {:?}", log.metrics());
    }
    version
}

/// Every event is there once, each stream has its versions in order, and nothing is wrong with the log.
fn check(log: &SledLog, events: u64) {
    assert_eq!(log.head().get(), events);
    let mut all = texts(log, Position::ZERO);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len() as u64, events);
    log.settle().unwrap();
    let report = log.verify(&mut |_| ()).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

#[test]
fn one_writer_alone_takes_turns_and_a_log_opened_again_has_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (log, held) = open(dir.path(), settings());
    let log = Arc::new(log);
    let alone = runtime(2);
    let events = alone.block_on({
        let log = Arc::clone(&log);
        async move {
            tokio::spawn(async move { alone_until_turns(&log, "a/1").await })
                .await
                .unwrap()
        }
    });
    check(&log, events);
    drop(alone);
    drop(log);
    let log = SledLog::open(&held, settings()).unwrap();
    check(&log, events);
}

#[test]
fn a_runtime_with_one_thread_takes_no_turns() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _held) = open(dir.path(), settings());
    let log = Arc::new(log);
    for runtime in [runtime(1), Builder::new_current_thread().build().unwrap()] {
        let log = Arc::clone(&log);
        runtime.block_on(async move {
            let appending = tokio::spawn(async move {
                for _ in 0..50 {
                    log.append(Append::new(stream("a/1"), vec![event("e")])).await.unwrap();
                }
            });
            appending.await.unwrap();
        });
    }
    assert_eq!((log.head().get(), log.metrics().turns), (100, 0));
}

#[test]
fn between_quiet_and_busy_no_append_is_lost_doubled_or_out_of_order() {
    const WRITERS: u64 = 12;
    const EACH: u64 = 8;
    let dir = tempfile::tempdir().unwrap();
    let (log, _held) = open(dir.path(), settings());
    let log = Arc::new(log);
    let events = runtime(3).block_on({
        let log = Arc::clone(&log);
        async move {
            let mut events = 0;
            for round in 0..6 {
                let (alone, name) = (Arc::clone(&log), format!("alone/{round}"));
                events += tokio::spawn(async move { alone_until_turns(&alone, &name).await })
                    .await
                    .unwrap();
                let writers: Vec<_> = (0..WRITERS)
                    .map(|writer| tokio::spawn(burst(Arc::clone(&log), format!("burst/{round}-{writer}"), EACH)))
                    .collect();
                for writer in writers {
                    writer.await.unwrap();
                }
                events += WRITERS * EACH * 2;
            }
            events
        }
    });
    check(&log, events);
}

/// Appends two at a time without waiting for the first: they stand in the log in the order in which they were made.
async fn burst(log: Arc<SledLog>, name: String, pairs: u64) {
    for pair in 0..pairs {
        let (one, two) = (2 * pair + 1, 2 * pair + 2);
        let first = log.append(next(&name, one, &format!("{name} {one}")));
        let second = log.append(next(&name, two, &format!("{name} {two}")));
        let second = second.await.unwrap();
        assert!(first.await.unwrap().position < second.position);
    }
}

#[test]
fn an_append_whose_runtime_ends_is_stored_all_the_same_and_keeps_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _held) = open(dir.path(), settings());
    let log = Arc::new(log);
    let ending = runtime(2);
    let (queued, was_queued) = channel();
    let (end, ended) = channel::<()>();
    ending.spawn({
        let log = Arc::clone(&log);
        async move {
            let events = alone_until_turns(&log, "a/1").await;
            // Its turn is due when this task gives its thread back, which is after the runtime has ended.
            let answer = log.append(Append::new(stream("a/2"), vec![event("last")]));
            queued.send(events + 1).unwrap();
            // An error says that the test has ended its runtime.
            let _ = ended.recv();
            drop(answer);
        }
    });
    let events = was_queued.recv_timeout(LIMIT).unwrap();
    ending.shutdown_background();
    drop(end);
    let until = Instant::now() + LIMIT;
    while log.head().get() < events && Instant::now() < until {
        log.wait_beyond(Position::new(events - 1), Duration::from_millis(100));
    }
    check(&log, events);
    support::append(&*log, "a/3", &["after it"]).unwrap();
}

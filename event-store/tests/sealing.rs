//! Sealing beside appends and readers: nobody sees a position twice or not at all, and the log gets small.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use annals_core::*;
use annals_event_store::{LogSettings, SledLog};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{append, open, small, stream, texts};

fn numbers(count: u64) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

/// Bytes of all volumes.
fn log_bytes(path: &Path) -> u64 {
    let len = |path: &Path| path.metadata().unwrap().len();
    let volumes = std::fs::read_dir(path.join("log")).unwrap();
    let volumes = volumes.map(|volume| volume.unwrap());
    let volumes = volumes.filter(|volume| volume.file_name().to_string_lossy().starts_with('0'));
    let volumes = volumes.map(|volume| volume.path());
    volumes
        .map(|path| {
            if path.is_dir() {
                len(&path.join("db"))
            } else {
                len(&path)
            }
        })
        .sum()
}

#[test]
fn readers_and_a_writer_go_on_while_volumes_are_sealed() {
    let dir = tempfile::tempdir().unwrap();
    // The background thread seals, beside what is asked for here.
    let settings = LogSettings { seal: true, ..small() };
    let (log, _held) = open(dir.path(), settings);
    let total = 120;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|reader: u64| {
                let (log, done) = (&log, &done);
                scope.spawn(move || {
                    let mut rounds = 0;
                    while rounds < 2 || !done.load(Ordering::Acquire) {
                        let head = log.head().get();
                        let after = (reader * 7 + rounds) % (head + 1);
                        let seen = texts(log, Position::new(after));
                        assert!(seen.len() as u64 >= head - after);
                        assert_eq!(seen, numbers(after + seen.len() as u64)[after as usize..]);
                        let of_stream = log.read_stream(&stream("a/1"), Version::new(1), Direction::Forward, 1000);
                        let versions = of_stream
                            .unwrap()
                            .iter()
                            .map(|record| record.view().unwrap().header.version)
                            .collect::<Vec<_>>();
                        assert_eq!(versions, (1..=versions.len() as u64).collect::<Vec<_>>());
                        rounds += 1;
                    }
                })
            })
            .collect();
        for number in 0..total {
            append(&log, &format!("a/{}", number % 3), &[&number.to_string()]).unwrap();
            if number % 16 == 15 {
                log.seal_now().unwrap();
            }
        }
        done.store(true, Ordering::Release);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    log.seal_now().unwrap();
    assert_eq!(texts(&log, Position::ZERO), numbers(total));
    assert!(log.verify(&mut |_| ()).unwrap().problems.is_empty());
}

#[test]
fn a_sealed_log_opens_as_it_was_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (log, held) = open(dir.path(), small());
    let large = "x".repeat(200_000);
    for number in 0..30u64 {
        append(&log, &format!("a/{}", number % 3), &[&number.to_string()]).unwrap();
    }
    append(&log, "a/large", &[&large, "small", &large]).unwrap();
    let before = texts(&log, Position::ZERO);
    assert!(log.seal_now().unwrap() > 30);
    assert_eq!(log.seal_now().unwrap(), 0, "there is nothing left to do");
    drop((log, held));
    for _ in 0..2 {
        let (log, _held) = open(dir.path(), small());
        assert_eq!(texts(&log, Position::ZERO), before);
        assert!(log.verify(&mut |_| ()).unwrap().problems.is_empty());
        let found = log
            .read_stream(&stream("a/large"), Version::new(2), Direction::Backward, 1)
            .unwrap();
        assert_eq!(found[0].view().unwrap().payload, b"small");
    }
    let (log, _held) = open(dir.path(), small());
    assert_eq!(append(&log, "a/1", &["goes on"]).unwrap().position.get(), 34);
}

#[test]
fn the_background_seals_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let settings = LogSettings { seal: true, ..small() };
    let (log, _held) = open(dir.path(), settings);
    for number in 0..20u64 {
        append(&log, "a/1", &[&number.to_string()]).unwrap();
    }
    let until = Instant::now() + Duration::from_secs(60);
    while count(dir.path()) > 2 {
        assert!(Instant::now() < until, "{} volumes are left", count(dir.path()));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(texts(&log, Position::ZERO), numbers(20));
}

/// How many volumes there are.
fn count(path: &Path) -> usize {
    let names = std::fs::read_dir(path.join("log"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with('0')).count()
}

/// What a sealed log takes for an event of 200 bytes of JSON. `ANNALS_SEAL_EVENTS` says how many.
#[test]
fn a_sealed_event_takes_little_more_than_its_compressed_bytes() {
    let events = std::env::var("ANNALS_SEAL_EVENTS")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(20_000u64);
    let dir = tempfile::tempdir().unwrap();
    let settings = LogSettings {
        volume_bytes_max: if events > 1_000_000 { 128 << 20 } else { 1 << 20 },
        index_tail_max: 64 * 1024,
        store_bytes: 1 << 20,
        journal_bytes: 4 << 20,
        ..small()
    };
    let (log, held) = open(dir.path(), settings);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(append_all(&log, events));
    let unsealed = log_bytes(dir.path());
    log.seal_now().unwrap();
    drop((log, held));
    let names = std::fs::read_dir(dir.path().join("log"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let sealed = names.filter(|path| path.to_string_lossy().ends_with(".blocks"));
    let bytes: u64 = sealed.map(|path| path.metadata().unwrap().len()).sum();
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("log/manifest.json")).unwrap()).unwrap();
    let sealed_events = manifest["volumes"].as_array().unwrap().last().unwrap()["first"]
        .as_u64()
        .unwrap()
        - 1;
    let per_event = bytes as f64 / sealed_events as f64;
    let before = unsealed as f64 / events as f64;
    println!("{sealed_events} events sealed: {per_event:.1} bytes an event, {before:.1} before");
    assert!(per_event < 130.0, "{per_event} bytes an event");
}

async fn append_all(log: &SledLog, events: u64) {
    let mut waiting = std::collections::VecDeque::new();
    for number in 0..events {
        // Spread over 100,000 streams by a fixed rule, so that every run is the same.
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let customer = mixed >> 33;
        let payload = format!(
            r#"{{"order_id":"{mixed:016x}","customer_id":"c-{customer:010}","status":"placed","total":{{"amount":{},"currency":"BRL"}},"items":[{{"product_id":"p-{:06}","quantity":{}}}],"note":"left at the door"}}"#,
            mixed % 100_000,
            mixed % 999_983,
            mixed % 9 + 1
        );
        let mut event = NewEvent::new("OrderPlaced", payload.into_bytes());
        event.content_type = "application/json".into();
        waiting.push_back(log.append(Append::new(
            stream(&format!("orders/o-{}", mixed % 100_000)),
            vec![event],
        )));
        if waiting.len() >= 64 {
            waiting.pop_front().unwrap().await.unwrap();
        }
    }
    for append in waiting {
        append.await.unwrap();
    }
}

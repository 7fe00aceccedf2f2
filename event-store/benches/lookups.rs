//! What it costs to find things in the log, beside a hash map that has them in memory: all in one run, so that the ratios
//! hold on other machines.
//!
//! `cargo bench -p annals-event-store --bench lookups` prints a table; it asserts nothing.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on stops")]

use annals_core::*;
use annals_event_store::{DataDir, LogSettings, MemoryLog, OpenOptions, SledLog};
use divan::{Bencher, black_box};
use std::collections::HashMap;
use std::sync::OnceLock;
use tempfile::TempDir;

const STREAMS: u64 = 20_000;
/// Events that wait together.
const TOGETHER: u64 = 1_000;
/// How far apart two look-ups are: no two in a row are neighbours.
const STRIDE: u64 = 7_919;

fn main() {
    divan::main();
}

fn stream(number: u64) -> StreamId {
    StreamId::new("bench", &format!("s-{}", number % STREAMS)).unwrap()
}

fn key(number: u64) -> String {
    format!("key-{}", number % STREAMS)
}

/// One event with a command's key in each stream.
fn fill(log: &dyn Appender) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for first in (0..STREAMS).step_by(TOGETHER as usize) {
        let appends: Vec<_> = (first..first + TOGETHER)
            .map(|number| {
                let fingerprint = log.fingerprint(b"{}");
                let mut append = Append::new(stream(number), vec![NewEvent::new("Noted", vec![b'x'; 200])]);
                append.command = Some(CommandKey {
                    key: key(number),
                    fingerprint,
                });
                log.append(append)
            })
            .collect();
        for appended in appends {
            runtime.block_on(appended).unwrap();
        }
    }
}

/// A log on sled that was closed and opened again, so that its index is on disk.
fn sled() -> &'static SledLog {
    static LOG: OnceLock<(SledLog, DataDir, TempDir)> = OnceLock::new();
    let (log, ..) = LOG.get_or_init(|| {
        let dir = tempfile::tempdir_in(".").unwrap();
        let create = OpenOptions {
            create: true,
            ..OpenOptions::default()
        };
        let held = DataDir::open(&dir.path().join("data"), create).unwrap();
        let log = SledLog::open(&held, LogSettings::default()).unwrap();
        fill(&log);
        drop(log);
        (SledLog::open(&held, LogSettings::default()).unwrap(), held, dir)
    });
    log
}

fn memory() -> &'static MemoryLog {
    static LOG: OnceLock<MemoryLog> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = MemoryLog::new("bench");
        fill(&log);
        log
    })
}

/// What the log knows of each stream and key, in a map.
fn map() -> &'static HashMap<String, (u64, Vec<u8>)> {
    static MAP: OnceLock<HashMap<String, (u64, Vec<u8>)>> = OnceLock::new();
    MAP.get_or_init(|| {
        let streams = (0..STREAMS).map(|number| (stream(number).to_string(), (number, vec![b'x'; 200])));
        let keys = (0..STREAMS).map(|number| (format!("{}{}", stream(number), key(number)), (number, Vec::new())));
        streams.chain(keys).collect()
    })
}

/// Looks up one after the other.
fn each<T>(bencher: Bencher<'_, '_>, look: impl Fn(u64) -> T) {
    let mut number = 0;
    bencher.bench_local(|| {
        number += STRIDE;
        black_box(look(number))
    });
}

#[divan::bench]
fn head_in_a_map(bencher: Bencher<'_, '_>) {
    each(bencher, |number| {
        map().get(&stream(number).to_string()).map(|(position, _)| *position)
    });
}

#[divan::bench(args = ["memory", "sled"])]
fn head_of_a_stream(bencher: Bencher<'_, '_>, engine: &str) {
    let log = log(engine);
    each(bencher, |number| log.stream_head(&stream(number)).unwrap().unwrap());
}

#[divan::bench]
fn key_in_a_map(bencher: Bencher<'_, '_>) {
    each(bencher, |number| {
        map().contains_key(&format!("{}{}", stream(number), key(number)))
    });
}

#[divan::bench(args = ["memory", "sled"])]
fn known_key_of_a_command(bencher: Bencher<'_, '_>, engine: &str) {
    let log = log(engine);
    each(bencher, |number| {
        log.find_command(&stream(number), &key(number)).unwrap().unwrap()
    });
}

#[divan::bench(args = ["memory", "sled"])]
fn new_key_of_a_command(bencher: Bencher<'_, '_>, engine: &str) {
    let log = log(engine);
    each(bencher, |number| {
        log.find_command(&stream(number), &format!("new-{number}")).unwrap()
    });
}

#[divan::bench]
fn value_in_a_map(bencher: Bencher<'_, '_>) {
    each(bencher, |number| {
        map().get(&stream(number).to_string()).map(|(_, value)| value.clone())
    });
}

#[divan::bench(args = ["memory", "sled"])]
fn stream_of_one_event(bencher: Bencher<'_, '_>, engine: &str) {
    let log = log(engine);
    each(bencher, |number| {
        log.read_stream(&stream(number), Version::new(1), Direction::Forward, 10)
            .unwrap()
    });
}

fn log(engine: &str) -> &'static dyn EventLog {
    match engine {
        "sled" => sled(),
        _ => memory(),
    }
}

//! What the log costs, as ratios to raw `pwrite` + `fdatasync` of the same bytes in the same run.
//!
//! `cargo bench -p annals-event-store` prints a table; it asserts nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot go on stops"
)]

#[path = "../../crates/annals/src/cli/bench/payloads.rs"]
mod payloads;

use annals_core::*;
use annals_event_store::{DataDir, LogSettings, OpenOptions, SledLog};
use payloads::{EVENT_BYTES, Payloads};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const STREAMS: u64 = 100_000;
const SECONDS: Duration = Duration::from_secs(3);

fn event(payloads: &mut Payloads) -> NewEvent {
    let mut event = NewEvent::new("OrderNoted", payloads.next_json().to_vec());
    event.content_type = CONTENT_TYPE_JSON.into();
    event
}

/// Writes and syncs blocks of this size; operations per second.
fn raw(dir: &std::path::Path, bytes: usize) -> f64 {
    let file = File::create(dir.join("raw")).unwrap();
    let (block, start, mut count) = (vec![7u8; bytes], Instant::now(), 0u64);
    while start.elapsed() < SECONDS / 2 {
        file.write_all_at(&block, count * bytes as u64).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    count as f64 / start.elapsed().as_secs_f64()
}

/// Appends from `tasks` tasks, `batch` events each; events per second.
fn appends(runtime: &tokio::runtime::Runtime, log: &Arc<SledLog>, tasks: u64, batch: u64) -> f64 {
    let done = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    runtime.block_on(async {
        let tasks = (0..tasks).map(|task| {
            let (log, done) = (log.clone(), done.clone());
            tokio::spawn(async move {
                let (mut number, mut payloads) = (task, Payloads::of(task as usize));
                while start.elapsed() < SECONDS {
                    number = number
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    let stream = StreamId::new("bench", &format!("s-{}", (number >> 20) % STREAMS)).unwrap();
                    let events = (0..batch).map(|_| event(&mut payloads)).collect();
                    log.append(Append::new(stream, events)).await.unwrap();
                    done.fetch_add(batch, Ordering::Relaxed);
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    });
    done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64()
}

fn scan(log: &SledLog) -> f64 {
    let (start, mut after, mut count) = (Instant::now(), Position::ZERO, 0u64);
    loop {
        let blocks = log.read(after, 1 << 20).unwrap();
        let Some(last) = blocks.last() else { break };
        after = last.last();
        for record in blocks.iter().flat_map(Block::iter) {
            count += u64::from(record.unwrap().header.version > 0);
        }
    }
    count as f64 / start.elapsed().as_secs_f64()
}

fn stream_reads(log: &SledLog) -> f64 {
    let (start, mut count) = (Instant::now(), 0u64);
    while start.elapsed() < SECONDS / 2 {
        let stream = StreamId::new("bench", &format!("s-{}", count * 7919 % STREAMS)).unwrap();
        log.read_stream(&stream, Version::new(1), Direction::Forward, 10)
            .unwrap();
        count += 1;
    }
    count as f64 / start.elapsed().as_secs_f64()
}

/// Looks every stream's head up once.
fn heads(log: &SledLog) -> f64 {
    let start = Instant::now();
    for number in 0..STREAMS {
        let stream = StreamId::new("bench", &format!("s-{number}")).unwrap();
        log.stream_head(&stream).unwrap();
    }
    STREAMS as f64 / start.elapsed().as_secs_f64()
}

fn main() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let held = DataDir::open(
        &dir.path().join("data"),
        OpenOptions {
            create: true,
            ..OpenOptions::default()
        },
    )
    .unwrap();
    let log = Arc::new(SledLog::open(&held, LogSettings::default()).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let raw_one = raw(dir.path(), EVENT_BYTES);
    println!("raw pwrite+fdatasync of {EVENT_BYTES} B    {raw_one:>12.0} /s   1.00");
    let show = |name: &str, rate: f64| println!("{name:<32} {rate:>12.0} /s   {:.2}", rate / raw_one);
    show("append, 1 task", appends(&runtime, &log, 1, 1));
    show("append, 64 tasks", appends(&runtime, &log, 64, 1));
    show("append, 8 tasks, batches of 100", appends(&runtime, &log, 8, 100));
    show("stream reads (10 events)", stream_reads(&log));
    let scanned = scan(&log);
    show("scan, decoded", scanned);
    println!(
        "{} events, {} bytes each on disk",
        log.head(),
        size(dir.path()) / log.head().get().max(1)
    );
    let start = Instant::now();
    drop(log);
    println!("closed in {:?}", start.elapsed());
    let start = Instant::now();
    let log = SledLog::open(&held, LogSettings::default()).unwrap();
    println!("opened in {:?}", start.elapsed());
    show("heads of streams, just opened", heads(&log));
    let start = Instant::now();
    let report = log.verify(&mut |_| ()).unwrap();
    let verified = report.events as f64 / start.elapsed().as_secs_f64();
    show("verify", verified);
    println!("verify runs at {:.2} of the scan's rate", verified / scanned);
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

fn size(path: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            if entry.path().is_dir() {
                size(&entry.path())
            } else {
                entry.metadata().unwrap().len()
            }
        })
        .sum()
}

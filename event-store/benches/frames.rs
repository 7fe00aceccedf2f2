//! What a frame costs: compressing and checking a block, and hiding what looks like the beginning of a frame in it
//! (`docs/decisions/0012-frames-never-look-like-two.md`).
//!
//! `cargo bench -p annals-event-store --bench frames` prints a table; it asserts nothing.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on stops")]

#[path = "../../crates/annals/src/cli/bench/payloads.rs"]
mod payloads;

use annals_core::{Block, Epoch, Position};
use annals_event_store::{FrameMeta, decode_frame, encode_frame};
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use payloads::{EVENT_BYTES, Payloads};

/// Records in a full block, about.
const RECORDS: u64 = 60 * 1024 / (EVENT_BYTES as u64 + 130);

fn main() {
    divan::main();
}

/// A full block of the benchmark's events; the last one may hold what begins a frame, in bytes that do not compress.
fn block(hides: bool) -> Block {
    let (mut bytes, mut payloads) = (Vec::new(), Payloads::of(1));
    for number in 0..RECORDS {
        let mut payload = payloads.next_json().to_vec();
        if hides && number == RECORDS - 1 {
            payload.extend_from_slice(b"\x11\x83\xf1\x07ANB\x01\x95\x02\xee\x6b");
        }
        Block::push_record(&mut bytes, &[number as u8; 122], &payload);
    }
    Block::new(Position::new(1), RECORDS, bytes.into())
}

fn meta() -> FrameMeta {
    FrameMeta {
        epoch: Epoch::from_bytes([7; 16]),
        boot: 1,
        first: Position::new(1),
        count: 0,
        part: 0,
        parts: 1,
    }
}

const HIDES: [bool; 2] = [false, true];

#[divan::bench(args = HIDES)]
fn encoded(bencher: Bencher<'_, '_>, hides: bool) {
    let block = block(hides);
    let masked = encode_frame(&block, meta())[4] == 2;
    assert_eq!(masked, hides, "a frame is masked only where it has to be");
    bencher
        .counter(BytesCount::new(block.bytes().len()))
        .bench_local(|| encode_frame(black_box(&block), meta()));
}

#[divan::bench(args = HIDES)]
fn decoded(bencher: Bencher<'_, '_>, hides: bool) {
    let block = block(hides);
    let frame = encode_frame(&block, meta());
    bencher
        .counter(BytesCount::new(block.bytes().len()))
        .bench_local(|| decode_frame(black_box(&frame)).unwrap());
}

/// What every frame is searched for when it is written, in the bytes of a group as the journal has them.
#[divan::bench]
fn searched(bencher: Bencher<'_, '_>) {
    let block = block(false);
    let finder = memchr::memmem::Finder::new(b"ANB\x01");
    bencher
        .counter(BytesCount::new(block.bytes().len()))
        .bench_local(|| finder.find(black_box(block.bytes())));
}

/// The checksum of the same bytes, to compare with.
#[divan::bench]
fn summed(bencher: Bencher<'_, '_>) {
    let block = block(false);
    bencher
        .counter(BytesCount::new(block.bytes().len()))
        .bench_local(|| crc32c::crc32c(black_box(block.bytes())));
}

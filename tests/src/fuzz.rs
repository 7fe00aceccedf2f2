//! What is fuzzed: decoders and readers of bytes that anyone may send or that a disk may give back. One function for each
//! target, called by the fuzzer and by the suite that replays the corpus. Each panics when what it checks does not hold.

#![allow(clippy::expect_used, clippy::panic, reason = "a target fails by panicking")]

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use annals_api::{read_cloud_events, read_command_line};
use annals_commands::{AggregateDefinition, CommandSettings, Commands};
use annals_commerce::{Order, Payment, Shipment, User};
use annals_core::{Append, AppendError, Appender, Block, Epoch, EventLog, Header, Position, StreamId, payload_to_json};
use annals_event_store::{FRAME_HEADER_LEN, FrameMeta, MemoryLog, decode_frame, decode_index_block, encode_frame};

/// A target: its name, which is that of its corpus, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 5] = [
    ("frame", frame),
    ("header", header),
    ("command", command),
    ("cloud_event", cloud_event),
    ("index_block", index_block),
];

/// Where the checksum stands in a frame.
const CRC_AT: usize = 60;

/// A block in its frame: as the bytes are, and with a checksum that holds, as a mistake of a writer would leave them.
pub fn frame(bytes: &[u8]) {
    decoded(bytes);
    if bytes.len() >= FRAME_HEADER_LEN {
        let mut sealed = bytes.to_vec();
        let stored = u32::from_le_bytes([sealed[52], sealed[53], sealed[54], sealed[55]]) as usize;
        let end = FRAME_HEADER_LEN.saturating_add(stored).min(sealed.len());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&sealed[..CRC_AT]), &sealed[FRAME_HEADER_LEN..end]);
        sealed[CRC_AT..FRAME_HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
        decoded(&sealed);
    }
    records(&Block::new(
        Position::new(1),
        u64::from(bytes.first().copied().unwrap_or(0)),
        bytes.to_vec().into(),
    ));
}

fn decoded(bytes: &[u8]) {
    let Ok((meta, block, used)) = decode_frame(bytes) else {
        return;
    };
    assert!(used <= bytes.len(), "{used} bytes used of {}", bytes.len());
    records(&block);
    let meta = FrameMeta {
        epoch: Epoch::from_bytes(*meta.epoch.as_bytes()),
        ..meta
    };
    let (again, same, _) = decode_frame(&encode_frame(&block, meta)).expect("what was encoded decodes");
    assert_eq!((again, same.bytes()), (meta, block.bytes()));
}

fn records(block: &Block) {
    let mut expected = block.first();
    for record in block.iter() {
        let Ok(record) = record else { break };
        assert_eq!(record.position, expected, "records follow each other");
        expected = expected.next();
        canonical(record.header_bytes);
        // What a reader shows is made of any bytes, or is absent.
        let _ = payload_to_json(record.header.content_type, record.payload);
    }
    let middle = Position::new(block.first().get().midpoint(block.last().get()));
    let _ = block.clip(middle, block.last());
}

/// A record's header: what is read is canonical, so that no two headers say the same.
pub fn header(bytes: &[u8]) {
    if Header::decode(bytes).is_ok() {
        canonical(bytes);
    }
}

fn canonical(bytes: &[u8]) {
    let header = Header::decode(bytes).expect("it was decoded before");
    let mut again = Vec::with_capacity(bytes.len());
    header.encode(&mut again);
    assert!(again == bytes, "{header:?} was read from bytes that are not canonical");
}

/// A line of commands, on to the typed command and the aggregate: accepted, refused or rejected, and the same again when
/// it is repeated.
pub fn command(bytes: &[u8]) {
    let log = MemoryLog::new("fuzz");
    let aggregates = vec![
        AggregateDefinition::of::<User>(),
        AggregateDefinition::of::<Order>(),
        AggregateDefinition::of::<Payment>(),
        AggregateDefinition::of::<Shipment>(),
    ];
    let commands = Commands::new(Arc::new(log.clone()), aggregates, CommandSettings::default());
    let commands = commands.expect("the aggregates of commerce go together");
    for line in bytes.split(|byte| *byte == b'\n').take(20) {
        let Some(request) = read_command_line(&line.to_vec().into()) else {
            continue;
        };
        let keyed = request.key.is_some();
        let Ok(outcome) = wait(commands.execute(request.clone())) else {
            continue;
        };
        let again = wait(commands.execute(request));
        if keyed && !outcome.events.is_empty() {
            let again = again.expect("a known key answers");
            assert_eq!((again.position, again.events), (outcome.position, outcome.events));
        }
    }
    readable(&log);
}

/// CloudEvents, single or in a batch: what is accepted can be appended, comes back, and is a duplicate the second time.
pub fn cloud_event(bytes: &[u8]) {
    let stream: StreamId = "shop/1".parse().expect("a valid name");
    let Some(events) = read_cloud_events(bytes, &stream) else {
        return;
    };
    let log = MemoryLog::new("fuzz");
    let append = Append::new(stream, events);
    match wait(log.append(append.clone())) {
        Ok(_) => {
            let again = wait(log.append(append)).expect("what was accepted once is accepted again");
            assert!(again.duplicate, "the same events were appended twice");
            readable(&log);
        }
        Err(AppendError::Invalid(_) | AppendError::TooLarge { .. }) => {}
        Err(other) => panic!("{other}"),
    }
}

/// A block of the index without its checksum: refused, or entries within their bounds.
pub fn index_block(bytes: &[u8]) {
    for (key, _, positions) in decode_index_block(bytes).into_iter().flatten() {
        assert!(!key.is_empty(), "an entry has no key");
        assert!((1..=512).contains(&positions.len()), "{} positions", positions.len());
        assert!(positions.is_sorted(), "{positions:?}");
    }
}

/// Every record of the log is canonical, and its payload is what its content type says.
fn readable(log: &MemoryLog) {
    let blocks = log
        .read(Position::ZERO, usize::MAX)
        .expect("a log in memory is readable");
    for record in blocks.iter().flat_map(Block::iter) {
        let record = record.expect("what was appended is readable");
        canonical(record.header_bytes);
        let shown = payload_to_json(record.header.content_type, record.payload);
        assert!(
            shown.is_some() || record.payload.is_empty(),
            "the payload at {} cannot be shown",
            record.position
        );
    }
}

/// Waits for a future of a log in memory.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = Box::pin(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        std::thread::yield_now();
    }
}

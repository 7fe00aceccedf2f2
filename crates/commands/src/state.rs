//! The state of one stream, folded from its records.

use crate::CommandError;
use crate::cache::StateSize;
use crate::fold::decode;
use crate::guard::caught;
use crate::snapshots::{Since, Snapshots, stands};
use annals_core::{Aggregate, Appender, Direction, EventLog, Position, Record, StreamHead, StreamId, Version};
use std::sync::Arc;

/// How many records are read at a time. Each may keep the block it stands in alive, so this also bounds memory.
const PAGE_RECORDS: usize = 256;

/// A state and how far it has read.
#[derive(Debug)]
pub(crate) struct Loaded<A> {
    pub(crate) state: A,
    pub(crate) version: Version,
    pub(crate) position: Position,
    /// About how large the state is.
    pub(crate) size: StateSize,
    /// What was folded since the last snapshot.
    pub(crate) since: Since,
}

impl<A: Aggregate> Default for Loaded<A> {
    fn default() -> Self {
        Self {
            state: A::default(),
            version: Version::ZERO,
            position: Position::ZERO,
            size: StateSize::default(),
            since: Since::default(),
        }
    }
}

impl<A> Loaded<A> {
    /// Where the stream ends as far as this state has read it.
    pub(crate) fn head(&self) -> Option<StreamHead> {
        (self.version != Version::ZERO).then_some(StreamHead {
            version: self.version,
            position: self.position,
        })
    }

    /// Says that so many events of so many bytes were folded into the state.
    pub(crate) fn count(&mut self, events: usize, bytes: usize) {
        self.size.grow(bytes);
        self.since.events += events as u64;
        self.since.bytes += bytes as u64;
    }
}

/// Folds the stream up to its end, from its snapshot on if there is one. What fits in one page is read right here,
/// because that takes microseconds; more in a thread that may block.
pub(crate) async fn load<A: Aggregate>(
    log: &Arc<dyn Appender>,
    stream: &StreamId,
    head: StreamHead,
    snapshots: Option<&Snapshots<A>>,
) -> Result<Loaded<A>, CommandError> {
    let found = snapshots.and_then(|snapshots| snapshots.find(stream, head.version));
    let begin = found
        .filter(|found| stands(log.as_ref(), found.position, stream, found.version))
        .unwrap_or_default();
    if head.version.since(begin.version) <= PAGE_RECORDS as u64 {
        return fold_stream(log.as_ref(), stream, begin);
    }
    let (log, owned) = (Arc::clone(log), stream.clone());
    let folded = tokio::task::spawn_blocking(move || fold_stream(log.as_ref(), &owned, begin));
    folded.await.unwrap_or_else(|error| {
        Err(CommandError::Panicked {
            stream: stream.clone(),
            code: "evolve",
            detail: error.to_string(),
        })
    })
}

fn fold_stream<A: Aggregate, L: EventLog + ?Sized>(
    log: &L,
    stream: &StreamId,
    begin: Loaded<A>,
) -> Result<Loaded<A>, CommandError> {
    let mut loaded = begin;
    while fold_page(log, stream, &mut loaded, PAGE_RECORDS)? == PAGE_RECORDS {}
    Ok(loaded)
}

/// Folds at most `limit` further records of the stream, and no more than a page. Returns how many there were.
pub(crate) fn fold_page<A: Aggregate, L: EventLog + ?Sized>(
    log: &L,
    stream: &StreamId,
    loaded: &mut Loaded<A>,
    limit: usize,
) -> Result<usize, CommandError> {
    let limit = limit.min(PAGE_RECORDS);
    let page = log.read_stream(stream, loaded.version.next(), Direction::Forward, limit)?;
    for record in &page {
        fold_record(loaded, stream, record)?;
    }
    Ok(page.len())
}

fn fold_record<A: Aggregate>(loaded: &mut Loaded<A>, stream: &StreamId, record: &Record) -> Result<(), CommandError> {
    let record = record.view().map_err(annals_core::LogError::from)?;
    let position = record.position;
    let event = decode::<A::Event>(&record)
        .map_err(|error| CommandError::Undecodable {
            stream: stream.clone(),
            position,
            error,
        })?
        .ok_or_else(|| CommandError::UnknownEvent {
            stream: stream.clone(),
            position,
            event_type: record.header.event_type.to_owned(),
        })?;
    evolve(loaded, stream, &event)?;
    loaded.count(1, record.payload.len());
    loaded.version = Version::new(record.header.version);
    loaded.position = position;
    Ok(())
}

/// Folds one event. After an error the state must not be used.
pub(crate) fn evolve<A: Aggregate>(
    loaded: &mut Loaded<A>,
    stream: &StreamId,
    event: &A::Event,
) -> Result<(), CommandError> {
    caught(|| loaded.state.evolve(event)).map_err(|detail| CommandError::Panicked {
        stream: stream.clone(),
        code: "evolve",
        detail,
    })
}

//! The state of one stream, folded from its records.

use crate::CommandError;
use crate::fold::decode;
use crate::guard::caught;
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
}

impl<A: Aggregate> Default for Loaded<A> {
    fn default() -> Self {
        Self {
            state: A::default(),
            version: Version::ZERO,
            position: Position::ZERO,
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
}

/// Folds the stream up to its end. A stream of one page is read right here, because that takes microseconds; a longer
/// one in a thread that may block.
pub(crate) async fn load<A: Aggregate>(
    log: &Arc<dyn Appender>,
    stream: &StreamId,
    head: StreamHead,
) -> Result<Loaded<A>, CommandError> {
    if head.version.get() <= PAGE_RECORDS as u64 {
        return fold_stream(log.as_ref(), stream);
    }
    let (log, owned) = (Arc::clone(log), stream.clone());
    let folded = tokio::task::spawn_blocking(move || fold_stream(log.as_ref(), &owned));
    folded.await.unwrap_or_else(|error| {
        Err(CommandError::Panicked {
            stream: stream.clone(),
            code: "evolve",
            detail: error.to_string(),
        })
    })
}

fn fold_stream<A: Aggregate, L: EventLog + ?Sized>(log: &L, stream: &StreamId) -> Result<Loaded<A>, CommandError> {
    let mut loaded = Loaded::default();
    loop {
        let page = log.read_stream(stream, loaded.version.next(), Direction::Forward, PAGE_RECORDS)?;
        for record in &page {
            fold_record(&mut loaded, stream, record)?;
        }
        if page.len() < PAGE_RECORDS {
            return Ok(loaded);
        }
    }
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

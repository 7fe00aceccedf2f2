//! When a snapshot is taken, when one is believed, and how it is checked at the start that `evolve` still agrees with it.

use crate::state::{Loaded, fold_page};
use annals_core::{
    Aggregate, Appender, Position, SNAPSHOT_LEN_MAX, Snapshot, SnapshotStore, StreamId, Version, decode_state,
    encode_state, same_state, snapshot_schema,
};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How many snapshots of an aggregate are folded anew at the start.
const CHECKED_MAX: usize = 16;
/// How many events are folded for that, and for how long, for each aggregate.
const CHECKED_EVENTS_MAX: u64 = 50_000;
const CHECKED_TIME_MAX: Duration = Duration::from_secs(5);
/// The events since the last snapshot have at least this part of the state's size: so a large state is not written
/// for every few small events.
const STATE_PER_EVENTS_MAX: u64 = 4;

/// The snapshots of one aggregate.
pub(crate) struct Snapshots<A> {
    store: Arc<dyn SnapshotStore>,
    schema: u64,
    /// Events after which a new one is taken.
    every: u64,
    /// Whether a sample agreed with `evolve`. Until then all events are read.
    believed: AtomicBool,
    aggregate: PhantomData<fn() -> A>,
}

impl<A: Aggregate> Snapshots<A> {
    pub(crate) fn new(store: Arc<dyn SnapshotStore>, every: u64) -> Self {
        Self {
            store,
            schema: snapshot_schema::<A>(),
            every: every.max(1),
            believed: AtomicBool::new(false),
            aggregate: PhantomData,
        }
    }

    /// The state to begin with instead of the empty one, for a stream that ends at `head`.
    pub(crate) fn find(&self, stream: &StreamId, head: Version) -> Option<Loaded<A>> {
        if head.get() < self.every || !self.believed.load(Ordering::Acquire) {
            return None;
        }
        let snapshot = self.store.find(stream)?;
        if snapshot.version > head || snapshot.version == Version::ZERO {
            return None;
        }
        self.read(&snapshot)
    }

    fn read(&self, snapshot: &Snapshot) -> Option<Loaded<A>> {
        if snapshot.schema != self.schema {
            return None;
        }
        let read = decode_state(&snapshot.state).inspect_err(
            |error| tracing::warn!(stream = %snapshot.stream, error, "a snapshot cannot be read; it is ignored"),
        );
        let mut loaded = Loaded {
            state: read.ok()?,
            version: snapshot.version,
            position: snapshot.position,
            ..Loaded::default()
        };
        loaded.size.grow(snapshot.state.len());
        Some(loaded)
    }

    /// Takes a snapshot if enough events were folded since the last one. Only of a state that is durable in full.
    pub(crate) fn take(&self, stream: &StreamId, loaded: &mut Loaded<A>) {
        if loaded.since.events < self.every {
            return;
        }
        let len = loaded.size.of(&loaded.state);
        if loaded.since.bytes * STATE_PER_EVENTS_MAX < len {
            return;
        }
        loaded.since = Since::default();
        if len > 2 * SNAPSHOT_LEN_MAX as u64 {
            return;
        }
        match encode_state(&loaded.state) {
            Ok(state) if state.len() <= SNAPSHOT_LEN_MAX => self.store.keep(Snapshot {
                stream: stream.clone(),
                version: loaded.version,
                position: loaded.position,
                schema: self.schema,
                state,
            }),
            Ok(_) => {}
            Err(error) => tracing::debug!(%stream, error, "no snapshot, because the state cannot be written"),
        }
    }

    /// Folds a sample anew and compares. One that differs says that `evolve` changed and its schema did not: then all
    /// snapshots of the aggregate are forgotten. Blocks.
    pub(crate) fn check(&self, log: &dyn Appender, stop: &AtomicBool) {
        let (begun, mut events) = (Instant::now(), 0);
        for snapshot in self.store.sample(A::CATEGORY, CHECKED_MAX) {
            let Some(kept) = self.read(&snapshot) else { continue };
            events += snapshot.version.get();
            if stop.load(Ordering::Relaxed) {
                return;
            }
            if events > CHECKED_EVENTS_MAX || begun.elapsed() > CHECKED_TIME_MAX {
                break;
            }
            match agrees(log, &snapshot, kept) {
                Ok(true) => {}
                Ok(false) => {
                    tracing::warn!(
                        aggregate = A::CATEGORY,
                        stream = %snapshot.stream,
                        version = snapshot.version.get(),
                        "the snapshot of a stream is not what its events fold to: evolve was changed, or is not a pure \
                         function of state and event; all snapshots of the aggregate are discarded, its states are \
                         folded from the log"
                    );
                    self.store.discard(A::CATEGORY);
                    break;
                }
                Err(error) => {
                    // What is wrong with the stream is said to the next command of it.
                    tracing::warn!(stream = %snapshot.stream, error, "a snapshot could not be checked; none is used");
                    return;
                }
            }
        }
        self.believed.store(true, Ordering::Release);
    }
}

/// Whether the events up to the snapshot fold to what it says, and both go on alike with the events after it: so what
/// stands in a state without being written is noticed, too.
fn agrees<A: Aggregate>(log: &dyn Appender, snapshot: &Snapshot, kept: Loaded<A>) -> Result<bool, String> {
    let say = |error: crate::CommandError| error.to_string();
    let mut folded = Loaded::<A>::default();
    while folded.version < snapshot.version {
        let left = snapshot.version.since(folded.version) as usize;
        if fold_page(log, &snapshot.stream, &mut folded, left).map_err(say)? == 0 {
            return Ok(false);
        }
    }
    if folded.position != snapshot.position || !same_state(&encode_state(&folded.state)?, &snapshot.state) {
        return Ok(false);
    }
    let mut kept = kept;
    fold_page(log, &snapshot.stream, &mut folded, usize::MAX).map_err(say)?;
    fold_page(log, &snapshot.stream, &mut kept, usize::MAX).map_err(say)?;
    // An append may have come in between.
    let same_end = folded.version == kept.version;
    Ok(!same_end || same_state(&encode_state(&folded.state)?, &encode_state(&kept.state)?))
}

/// What was folded into a state since its last snapshot.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Since {
    pub(crate) events: u64,
    pub(crate) bytes: u64,
}

/// Whether the record after which a snapshot was taken stands where it says.
pub(crate) fn stands(log: &dyn Appender, position: Position, stream: &StreamId, version: Version) -> bool {
    let record = log.read_one(position).ok().flatten();
    record.is_some_and(|record| {
        record
            .view()
            .is_ok_and(|view| view.header.stream == stream.as_str() && view.header.version == version.get())
    })
}

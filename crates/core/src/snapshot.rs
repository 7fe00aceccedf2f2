//! Snapshots: states of long streams, kept so that a command need not fold all events again. Derived from the log and
//! outside of it; what cannot be trusted is ignored, and replays never look at them.

use crate::domain::{Aggregate, Event, State};
use crate::{Position, StreamId, Version};
use rmpv::Value;
use sha2::{Digest, Sha256};
use std::io;

/// Largest state in bytes that is kept as a snapshot.
pub const SNAPSHOT_LEN_MAX: usize = 256 * 1024;
/// Deepest nesting of a state that is compared.
const DEPTH_MAX: usize = 128;

/// The state of a stream after one of its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The stream.
    pub stream: StreamId,
    /// Version of the last event that is in the state.
    pub version: Version,
    /// Position of that event.
    pub position: Position,
    /// See [`snapshot_schema`]. A snapshot of another schema is ignored.
    pub schema: u64,
    /// The state as [`encode_state`] wrote it. Personal values stand in it marked, as in events.
    pub state: Vec<u8>,
}

/// Keeps snapshots, at most one for each stream. Nothing here may fail a command: what cannot be kept or read is as if
/// it was not there.
pub trait SnapshotStore: Send + Sync + 'static {
    /// The snapshot of a stream, undamaged, of this log's epoch and not beyond its durable head; `None` if there is none.
    /// May block on the disk.
    fn find(&self, stream: &StreamId) -> Option<Snapshot>;

    /// Keeps a snapshot of events that are all durable, some time later; never blocks. Dropped when too many wait.
    fn keep(&self, snapshot: Snapshot);

    /// At most `limit` snapshots of a category, from all over it. Waits until the store is ready, and may block on the
    /// disk.
    fn sample(&self, category: &str, limit: usize) -> Vec<Snapshot>;

    /// Forgets all snapshots of a category. May block on the disk.
    fn discard(&self, category: &str);
}

/// What a snapshot of `A` is stamped with: a number that changes with the fields of the state and with its events.
pub fn snapshot_schema<A: Aggregate>() -> u64 {
    let mut hash = Sha256::new();
    hash.update(A::SCHEMA);
    for known in A::Event::TYPES {
        hash.update(format!("\n{}@{}", known.name, known.version));
    }
    let hash: [u8; 32] = hash.finalize().into();
    hash.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

/// A state as MessagePack with named fields. The error says what of it cannot be written.
pub fn encode_state<S: State>(state: &S) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(128);
    rmp_serde::encode::write_named(&mut bytes, state).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// The state that [`encode_state`] wrote.
pub fn decode_state<S: State>(bytes: &[u8]) -> Result<S, String> {
    rmp_serde::from_slice(bytes).map_err(|error| error.to_string())
}

/// How many bytes [`encode_state`] would write; zero for a state that cannot be written.
pub fn encoded_state_len<S: State>(state: &S) -> usize {
    let mut counter = Counter(0);
    match rmp_serde::encode::write_named(&mut counter, state) {
        Ok(()) => counter.0,
        Err(_) => 0,
    }
}

struct Counter(usize);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether two encoded states say the same. The order in maps and lists does not count: that of a hash map or hash set
/// differs each time it is written. Bytes that are no MessagePack are the same as nothing.
pub fn same_state(one: &[u8], other: &[u8]) -> bool {
    let read = |mut bytes: &[u8]| {
        let value = rmpv::decode::read_value_with_max_depth(&mut bytes, DEPTH_MAX).ok()?;
        bytes.is_empty().then(|| sorted(value))
    };
    matches!((read(one), read(other)), (Some(one), Some(other)) if one == other)
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut items: Vec<Value> = items.into_iter().map(sorted).collect();
            items.sort_by_cached_key(bytes_of);
            Value::Array(items)
        }
        Value::Map(entries) => {
            let mut entries: Vec<_> = entries.into_iter().map(|(k, v)| (sorted(k), sorted(v))).collect();
            entries.sort_by_cached_key(|(k, _)| bytes_of(k));
            Value::Map(entries)
        }
        other => other,
    }
}

fn bytes_of(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to a Vec cannot fail.
    let _ = rmpv::encode::write_value(&mut bytes, value);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Personal;
    use serde::{Deserialize, Serialize};
    use std::collections::{HashMap, HashSet};

    #[derive(Default, Serialize, Deserialize, PartialEq, Debug)]
    struct Basket {
        owner: Personal<String>,
        lines: HashMap<String, u64>,
        seen: HashSet<u64>,
    }

    impl State for Basket {
        const SCHEMA: &'static str = "basket";
    }

    fn basket(lines: u64) -> Basket {
        Basket {
            owner: Personal::new("Ann".to_owned()),
            lines: (0..lines).map(|line| (format!("p-{line}"), line)).collect(),
            seen: (0..lines).collect(),
        }
    }

    #[test]
    fn a_state_comes_back_as_it_was_and_its_length_is_known_beforehand() {
        let bytes = encode_state(&basket(100)).unwrap();
        assert_eq!(decode_state::<Basket>(&bytes).unwrap(), basket(100));
        assert_eq!(encoded_state_len(&basket(100)), bytes.len());
        assert!(decode_state::<Basket>(&bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn states_are_compared_by_what_they_say_not_by_the_order_of_their_maps() {
        let encoded = |lines| encode_state(&basket(lines)).unwrap();
        for _ in 0..8 {
            assert!(same_state(&encoded(100), &encoded(100)));
        }
        assert!(!same_state(&encoded(100), &encoded(99)));
        assert!(!same_state(&encoded(100)[1..], &encoded(100)[1..]), "no MessagePack");
        assert!(!same_state(&[], &[]));
    }
}

//! What a verification compares large sets with, without keeping either: digests of facts, and short keys of streams.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

/// Order-independent digest of facts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Digest {
    pub(super) count: u64,
    sum: u64,
}

impl Digest {
    /// Adds a fact: a number under some bytes.
    pub(super) fn add(&mut self, bytes: &[u8], number: u64) {
        let mut mixed = number ^ 0x9e37_79b9_7f4a_7c15;
        for chunk in bytes.chunks(8) {
            let word = chunk.iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
            mixed = mix(mixed, word);
        }
        self.finish(mixed);
    }

    /// Adds a fact: a number under a number.
    pub(super) fn add_number(&mut self, under: u64, number: u64) {
        self.finish(mix(number ^ 0x9e37_79b9_7f4a_7c15, under));
    }

    /// With the facts of another one.
    pub(super) fn join(&mut self, other: Self) {
        self.count += other.count;
        self.sum = self.sum.wrapping_add(other.sum);
    }

    fn finish(&mut self, mixed: u64) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(mixed.wrapping_mul(0xc4ce_b9fe_1a85_ec53));
    }
}

fn mix(mixed: u64, word: u64) -> u64 {
    let mixed = (mixed ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 32)
}

/// Stands for a stream's name: a keyed hash, so wide that no two names of one log have the same.
pub(super) type StreamKey = u128;

/// Makes the keys of streams; they hold within one verification.
#[derive(Default)]
pub(super) struct StreamKeys([RandomState; 2]);

impl StreamKeys {
    pub(super) fn of(&self, stream: &str) -> StreamKey {
        let [high, low] = &self.0;
        u128::from(high.hash_one(stream)) << 64 | u128::from(low.hash_one(stream))
    }
}

/// Streams by their keys.
pub(super) type ByStream<T> = HashMap<StreamKey, T, BuildHasherDefault<AsItIs>>;

/// Takes a key, which is a hash already, as it is.
#[derive(Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_of_facts_in_any_order() {
        let (mut one, mut other) = (Digest::default(), Digest::default());
        one.add(b"a key", 1);
        one.add_number(7, 2);
        let mut joined = Digest::default();
        joined.add_number(7, 2);
        other.add(b"a key", 1);
        joined.join(other);
        assert_eq!(one, joined);
        joined.add_number(2, 7);
        assert_ne!(one, joined);
    }

    #[test]
    fn streams_are_told_apart() {
        let keys = StreamKeys::default();
        let mut streams: ByStream<u32> = ByStream::default();
        for number in 0..1_000 {
            streams.insert(keys.of(&format!("orders/{number}")), number);
        }
        assert_eq!((streams.len(), streams.get(&keys.of("orders/7"))), (1_000, Some(&7)));
    }
}

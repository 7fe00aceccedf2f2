//! What is appended while a record is made: appends that their number tells entirely, so that whoever opens an image
//! knows what must stand there; and the marks that say what was begun and what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use annals_core::{Append, NewEvent, StreamId};
use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

/// Type of all events.
pub const EVENT_TYPE: &str = "Recorded";
/// How many streams there are.
const STREAMS: u64 = 40;

/// The append of this number: 1 to 1,000 events, or one larger than a block. Every payload begins with the number of the
/// append and its own (u64, u32, little endian), and is not compressible.
///
/// # Errors
///
/// Never, unless its stream has no valid name.
pub fn append(seed: u64, number: u64) -> Result<Append> {
    let mut random = StdRng::seed_from_u64(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let (count, bytes) = match random.random_range(0..100) {
        0..70 => (random.random_range(1..6), 20..400),
        70..88 => (random.random_range(10..60), 20..300),
        88..91 => (1_000, 12..40),
        91..97 => (1, 60_000..200_000),
        _ => (random.random_range(2..6), 10_000..60_000),
    };
    let events = (0..count).map(|place: u32| {
        let mut payload = vec![0; random.random_range(bytes.clone()).max(12)];
        random.fill_bytes(&mut payload);
        payload[..8].copy_from_slice(&number.to_le_bytes());
        payload[8..12].copy_from_slice(&place.to_le_bytes());
        let mut event = NewEvent::new(EVENT_TYPE, payload);
        event.content_type = "application/octet-stream".into();
        event
    });
    let events = events.collect();
    let stream: StreamId = format!("cut/s{}", random.random_range(0..STREAMS)).parse()?;
    Ok(Append::new(stream, events))
}

/// The number of the append and the place that a payload names.
#[must_use]
pub fn named_by(payload: &[u8]) -> Option<(u64, u32)> {
    let (number, rest) = payload.split_first_chunk()?;
    Some((u64::from_le_bytes(*number), u32::from_le_bytes(*rest.first_chunk()?)))
}

/// The idempotency key of an append.
#[must_use]
pub fn key(number: u64) -> String {
    format!("append-{number}")
}

/// The mark that an append begins.
#[must_use]
pub fn begun_mark(number: u64) -> String {
    format!("begun {number}\n")
}

/// The mark that an append was acknowledged: positions of its first and last event.
#[must_use]
pub fn acknowledged_mark(number: u64, first: u64, last: u64) -> String {
    format!("acknowledged {number} {first} {last}\n")
}

/// What the marks say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// Appends that were begun.
    pub begun: BTreeSet<u64>,
    /// Appends that were acknowledged, with the positions of their first and last event.
    pub acknowledged: BTreeMap<u64, (u64, u64)>,
}

impl Marks {
    /// Reads marks.
    ///
    /// # Errors
    ///
    /// When a line is none.
    pub fn read(text: &str) -> Result<Self> {
        let mut marks = Self::default();
        for line in text.lines() {
            let mut words = line.split(' ');
            let kind = words.next();
            let numbers: Vec<u64> = words
                .map(str::parse)
                .collect::<Result<_, _>>()
                .with_context(|| line.to_owned())?;
            match (kind, numbers.as_slice()) {
                (Some("begun"), [number]) => {
                    marks.begun.insert(*number);
                }
                (Some("acknowledged"), [number, first, last]) => {
                    marks.acknowledged.insert(*number, (*first, *last));
                }
                _ => anyhow::bail!("no mark: {line:?}"),
            }
        }
        Ok(marks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_append_is_told_by_its_number_alone() {
        assert_eq!(append(1, 7).unwrap(), append(1, 7).unwrap());
        assert_ne!(append(1, 7).unwrap(), append(1, 8).unwrap());
        let append = append(1, 7).unwrap();
        assert_eq!(named_by(&append.events[0].payload), Some((7, 0)));
    }

    #[test]
    fn a_few_hundred_appends_hold_every_kind() {
        let appends: Vec<Append> = (0..300).map(|number| append(1, number).unwrap()).collect();
        let count = |count: usize| appends.iter().filter(|append| append.events.len() == count).count();
        assert!(count(1) > 10 && count(1_000) > 1);
        let larger = |append: &&Append| append.events[0].payload.len() > 64 * 1024;
        assert!(appends.iter().any(|append| larger(&append)), "larger than a block");
    }

    #[test]
    fn marks_are_read_as_they_were_written() {
        let text = [begun_mark(1), begun_mark(2), acknowledged_mark(2, 5, 9)].concat();
        let marks = Marks::read(&text).unwrap();
        assert_eq!(marks.begun, [1, 2].into());
        assert_eq!(marks.acknowledged, [(2, (5, 9))].into());
        assert!(Marks::read("acknowledged 1\n").is_err());
    }
}

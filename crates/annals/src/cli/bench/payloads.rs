//! What events hold: JSON of a fixed size whose text differs from event to event, so that it compresses like real notes. Also
//! the benchmark of the log alone reads this file, so that both measure the same.

use bytes::Bytes;
use std::sync::{Arc, OnceLock};

/// Bytes of an event's JSON.
pub(super) const EVENT_BYTES: usize = 200;
/// How many different payloads there are: far more than fit into one block.
const DIFFERENT: u64 = 4_096;
const WORDS: [&str; 16] = [
    "please ",
    "deliver ",
    "before ",
    "noon ",
    "to the ",
    "back ",
    "door ",
    "and ",
    "ring ",
    "twice ",
    "leave it ",
    "with ",
    "our ",
    "neighbour ",
    "thank you ",
    "again ",
];

/// Payloads one after the other; each worker begins at another place.
#[derive(Clone)]
pub(super) struct Payloads {
    all: Arc<[Bytes]>,
    next: usize,
}

impl Payloads {
    pub(super) fn of(worker: usize) -> Self {
        static ALL: OnceLock<Arc<[Bytes]>> = OnceLock::new();
        let all = ALL.get_or_init(|| (0..DIFFERENT).map(|number| Bytes::from(json(number))).collect());
        Self {
            all: Arc::clone(all),
            next: worker.wrapping_mul(331),
        }
    }

    /// The JSON of an event or command: an object with a `note`, exactly [`EVENT_BYTES`] long.
    pub(super) fn next_json(&mut self) -> &Bytes {
        self.next = (self.next + 1) % self.all.len();
        &self.all[self.next]
    }
}

fn json(number: u64) -> String {
    let mut text = format!(
        r#"{{"note":"order ord-{number} of customer cus-{}, amount {}: "#,
        number % 977,
        number * 37 % 10_000
    );
    let mut word = number;
    while text.len() < EVENT_BYTES {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        text.push_str(WORDS[(word >> 60) as usize]);
    }
    text.truncate(EVENT_BYTES - 2);
    text.push_str("\"}");
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_payload_is_json_of_exactly_its_size_and_differs_from_the_next() {
        use super::*;
        let mut payloads = Payloads::of(3);
        let mut before = Bytes::new();
        for _ in 0..DIFFERENT {
            let payload = payloads.next_json().clone();
            assert_eq!(payload.len(), EVENT_BYTES);
            let value: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            assert!(value["note"].is_string(), "{value}");
            assert_ne!(payload, before);
            before = payload;
        }
    }
}

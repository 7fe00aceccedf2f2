//! Ids of new events: uuid v7 (RFC 9562) with the recorded millisecond, a counter, and bits that are random per boot.
//!
//! Ids of one boot share their last six bytes, so they compress well; the counter keeps ids of one millisecond apart.

use annals_core::EventId;
use uuid::{Builder, Uuid};

pub(crate) struct EventIds {
    counter: u32,
    boot: [u8; 6],
}

impl EventIds {
    pub(crate) fn new() -> Self {
        let random = Uuid::new_v4().into_bytes();
        let mut boot = [0; 6];
        boot.copy_from_slice(&random[10..]);
        Self {
            counter: u32::from_be_bytes([0, random[0], random[1], random[2]]),
            boot,
        }
    }

    /// The next id, stamped with this recorded time (microseconds since 1970).
    pub(crate) fn next(&mut self, recorded: i64) -> EventId {
        self.counter = self.counter.wrapping_add(1);
        let mut tail = [0; 10];
        // The version takes four bits of the first byte and the variant two of the third: 26 bits of the counter fit.
        tail[..2].copy_from_slice(&((self.counter >> 14) as u16 & 0x0fff).to_be_bytes());
        tail[2..4].copy_from_slice(&((self.counter & 0x3fff) as u16).to_be_bytes());
        tail[4..].copy_from_slice(&self.boot);
        let millis = u64::try_from(recorded / 1000).unwrap_or_default();
        EventId::Uuid(Builder::from_unix_timestamp_millis(millis, &tail).into_uuid())
    }
}

/// The millisecond that a uuid v7 was made in; `None` for any other id.
pub(crate) fn millis_of(id: &EventId) -> Option<i64> {
    let EventId::Uuid(uuid) = id else { return None };
    let (seconds, nanos) = (uuid.get_version_num() == 7).then(|| uuid.get_timestamp())??.to_unix();
    Some(i64::try_from(seconds).ok()? * 1000 + i64::from(nanos / 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_millisecond_differ_and_tell_their_time() {
        let mut ids = EventIds::new();
        let made: std::collections::HashSet<_> = (0..100_000).map(|_| ids.next(1_700_000_000_123_456)).collect();
        assert_eq!(made.len(), 100_000);
        assert!(made.iter().all(|id| millis_of(id) == Some(1_700_000_000_123)));
    }
}

//! Timers that go off: which are due, and up to which one all have gone off, so that none does twice.

use crate::store::layout::index_range;
use crate::store::{RowStore, Scan, StoreError};
use annals_core::{EventLog, IndexValue, LogError, Position};
use chrono::Utc;
use serde::{Deserialize, Serialize};

/// Keys whose timers go off together.
const AT_ONCE: usize = 256;
/// The only index of a state.
const NEXT_DUE: u16 = 0;

/// Up to where timers have gone off, in the order in which they are due, those of one moment in the order of their keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fired {
    /// Microseconds since 1970.
    due: i64,
    /// Of those that are due then, up to this key; without it all.
    key: Option<String>,
    /// Only timers that were set up to here are meant.
    at: Position,
}

impl Fired {
    /// None has.
    pub(crate) fn nothing() -> Self {
        Self {
            due: i64::MIN,
            key: None,
            at: Position::ZERO,
        }
    }

    /// Of the timers that were set before an event, those that were due when it was recorded are not to be done any more;
    /// if it is still to come, those that are due now.
    pub(crate) fn before(log: &dyn EventLog, first: Position) -> Result<Self, LogError> {
        let due = match log.read_one(first)? {
            Some(record) => record.view()?.header.recorded,
            None => log.now().unwrap_or_else(Utc::now).timestamp_micros(),
        };
        let at = first.previous();
        Ok(Self { due, key: None, at })
    }

    /// All up to those of this key that are due then have gone off.
    pub(crate) fn up_to(due: i64, key: &str, at: Position) -> Self {
        let key = Some(key.to_owned());
        Self { due, key, at }
    }

    /// Whether the timer of this key has gone off.
    pub(crate) fn covers(&self, due: i64, key: &str, set: Position) -> bool {
        let until = self.key.as_deref();
        let before = due < self.due || (due == self.due && until.is_none_or(|until| key <= until));
        before && set <= self.at
    }

    /// The later one of two.
    pub(crate) fn later(self, other: Self) -> Self {
        let after = |one: &Self, two: &Self| {
            let key = match (&one.key, &two.key) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(one), Some(two)) => one >= two,
            };
            one.due > two.due || (one.due == two.due && key)
        };
        if after(&other, &self) { other } else { self }
    }
}

/// Keys with a timer that is due, and when it is, in that order.
pub(crate) fn due(store: &RowStore, now: i64) -> Result<Vec<(i64, String)>, StoreError> {
    scan(store, Some(now), AT_ONCE)
}

/// When the next timer is due.
pub(crate) fn next(store: &RowStore) -> Result<Option<i64>, StoreError> {
    Ok(scan(store, None, 1)?.first().map(|(due, _)| *due))
}

fn scan(store: &RowStore, until: Option<i64>, limit: usize) -> Result<Vec<(i64, String)>, StoreError> {
    let until = until.map(|until| IndexValue::Number(until.into()));
    let mut found = Vec::new();
    let range = index_range(NEXT_DUE, None, until.as_ref());
    store.reader().scan_index(range, false, &mut |_, value, key| {
        let due = read_due(value).ok_or_else(|| StoreError::Damaged("a timer's time cannot be read".into()))?;
        found.push((due, key.to_owned()));
        Ok(if found.len() < limit { Scan::Go } else { Scan::Stop })
    })?;
    Ok(found)
}

/// The number in an index value.
fn read_due(value: &[u8]) -> Option<i64> {
    let (_, number) = value.split_first()?;
    let number = i128::from_be_bytes(*number.first_chunk()?) ^ i128::MIN;
    i64::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::layout::index_value;

    #[test]
    fn the_time_in_an_index_entry_can_be_read_again() {
        for due in [i64::MIN, -1, 0, 1_704_067_200_000_000, i64::MAX] {
            assert_eq!(read_due(&index_value(&IndexValue::Number(due.into()))), Some(due));
        }
    }

    #[test]
    fn what_went_off_is_known_by_time_key_and_place() {
        let at = Position::new(9);
        let fired = Fired::up_to(50, "m", at);
        assert!(fired.covers(49, "z", at) && fired.covers(50, "m", at) && fired.covers(50, "a", Position::new(3)));
        assert!(!fired.covers(50, "n", at) && !fired.covers(51, "a", at));
        assert!(!fired.covers(49, "a", at.next()), "set after that");
        assert!(!Fired::nothing().covers(0, "a", at));
        let later = Fired::up_to(50, "n", at.next());
        assert_eq!(fired.clone().later(later.clone()), later);
        assert_eq!(later.clone().later(fired), later);
    }
}

//! Which events a view or reactor passes by because a person said so.

use annals_core::Position;
use std::collections::{HashMap, HashSet};

/// Events that are passed by, for one key or for all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Skips {
    events: HashSet<Position>,
    keys: HashMap<Position, HashSet<String>>,
}

impl Skips {
    pub(crate) fn add(&mut self, position: Position, key: Option<String>) {
        match key {
            Some(key) => drop(self.keys.entry(position).or_default().insert(key)),
            None => drop(self.events.insert(position)),
        }
    }

    /// Whether the event is passed by for all keys, without being looked into.
    pub(crate) fn event(&self, position: Position) -> bool {
        !self.events.is_empty() && self.events.contains(&position)
    }

    /// Whether the event is passed by for this key.
    pub(crate) fn key(&self, position: Position, key: &str) -> bool {
        !self.keys.is_empty() && self.keys.get(&position).is_some_and(|keys| keys.contains(key))
    }

    /// Whether a failure of this event, for this key if it is known, is settled by a skip.
    pub(crate) fn settles(&self, position: Position, key: Option<&str>) -> bool {
        self.event(position) || key.is_some_and(|key| self.key(position, key))
    }
}

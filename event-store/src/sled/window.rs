//! The newest events by type and tags, for the conditions of appends: the writer looks nowhere else, and never scans.
//!
//! Kept only while somebody appends with conditions: the first one begins it, and it ends when none came for a while,
//! so that a log without conditions pays nothing. A condition that asks further back than the window begins is not
//! answered here: its caller looks it up again, up to a later position.

use crate::admission::Matched;
use annals_core::{EventQuery, Header, Position};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Most events in the window.
const EVENTS_MAX: usize = 65_536;
/// About how many bytes of tags and bookkeeping it holds at most.
const BYTES_MAX: usize = 16 << 20;
/// About how many bytes an event takes beside its tags.
const EVENT_BYTES: usize = 48;
/// About how many bytes a tag takes beside its text, in the event and in the map.
const TAG_BYTES: usize = 64;
/// After so many events without a condition the window ends.
const IDLE_EVENTS_MAX: usize = 262_144;

struct Event {
    kind: Arc<str>,
    tags: Box<[Arc<str>]>,
}

impl Event {
    fn bytes(&self) -> usize {
        EVENT_BYTES + self.tags.iter().map(|tag| TAG_BYTES + tag.len()).sum::<usize>()
    }
}

/// A type or tag: its text, kept once, and the newest event that has it.
struct Newest {
    text: Arc<str>,
    position: Position,
}

/// The events after `begin`, up to the last that was given a position.
pub(super) struct Window {
    active: bool,
    begin: Position,
    events: VecDeque<Event>,
    types: HashMap<Arc<str>, Newest>,
    tags: HashMap<Arc<str>, Newest>,
    bytes: usize,
    idle: usize,
    events_max: usize,
    bytes_max: usize,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            active: false,
            begin: Position::ZERO,
            events: VecDeque::new(),
            types: HashMap::new(),
            tags: HashMap::new(),
            bytes: 0,
            idle: 0,
            events_max: EVENTS_MAX,
            bytes_max: BYTES_MAX,
        }
    }

    /// Says that a condition is about to be asked, and that `last` is the newest position given so far.
    pub(super) fn begin(&mut self, last: Position) {
        self.idle = 0;
        if !self.active {
            (self.active, self.begin) = (true, last);
        }
    }

    /// Adds the next event of the log.
    pub(super) fn add(&mut self, position: Position, header: &Header<'_>) {
        if !self.active {
            return;
        }
        self.idle += 1;
        if self.idle > IDLE_EVENTS_MAX {
            let (events_max, bytes_max) = (self.events_max, self.bytes_max);
            *self = Self {
                events_max,
                bytes_max,
                ..Self::new()
            };
            return;
        }
        let event = Event {
            kind: note(&mut self.types, header.event_type, position),
            tags: header
                .tags
                .iter()
                .map(|tag| note(&mut self.tags, tag, position))
                .collect(),
        };
        self.bytes += event.bytes();
        self.events.push_back(event);
        while self.events.len() > self.events_max || self.bytes > self.bytes_max {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(event) = self.events.pop_front() else { return };
        self.begin = self.begin.next();
        self.bytes -= event.bytes();
        forget(&mut self.types, &event.kind, self.begin);
        for tag in &event.tags {
            forget(&mut self.tags, tag, self.begin);
        }
    }

    /// Whether an event after `after` matches.
    pub(super) fn first_match(&self, query: &EventQuery, after: Position) -> Matched {
        if !self.active || after < self.begin {
            return Matched::Unknown;
        }
        let since = |map: &HashMap<Arc<str>, Newest>, text: &str| {
            map.get(text)
                .map(|newest| newest.position)
                .filter(|position| *position > after)
        };
        let tagged = query.tags().iter().all(|tag| since(&self.tags, tag.as_str()).is_some());
        let of_type = query.types().is_empty() || query.types().iter().any(|kind| since(&self.types, kind).is_some());
        if !tagged || !of_type {
            return Matched::No;
        }
        // Every part is there since: whether one event has them all, only the events themselves say. Rarely asked.
        let skip = after.since(self.begin) as usize;
        let found = self
            .events
            .iter()
            .skip(skip)
            .position(|event| query.matches(&event.kind, &event.tags));
        found.map_or(Matched::No, |index| Matched::At(after.plus(index as u64 + 1)))
    }
}

/// Notes the newest event that has this text; the text as it is kept.
fn note(map: &mut HashMap<Arc<str>, Newest>, text: &str, position: Position) -> Arc<str> {
    if let Some(newest) = map.get_mut(text) {
        newest.position = position;
        return newest.text.clone();
    }
    let text: Arc<str> = text.into();
    let newest = Newest {
        text: text.clone(),
        position,
    };
    map.insert(text.clone(), newest);
    text
}

/// Forgets a text if the event at `position`, which leaves the window, was the newest that had it.
fn forget(map: &mut HashMap<Arc<str>, Newest>, text: &str, position: Position) {
    if map.get(text).is_some_and(|newest| newest.position <= position) {
        map.remove(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use annals_core::{EventIdRef, Tag};

    fn add(window: &mut Window, position: u64, kind: &str, tags: &[&str]) {
        let mut header = Header::new("a/1", position, EventIdRef::Text("x"), kind, 0);
        header.tags = tags.to_vec();
        window.add(Position::new(position), &header);
    }

    fn query(types: &[&str], tags: &[&str]) -> EventQuery {
        let types = types.iter().map(|kind| (*kind).to_owned().into()).collect();
        EventQuery::new(types, tags.iter().map(|tag| Tag::parse(tag).unwrap()).collect()).unwrap()
    }

    fn begun(at: u64) -> Window {
        let mut window = Window::new();
        window.begin(Position::new(at));
        window
    }

    #[test]
    fn nothing_is_kept_until_somebody_asks() {
        let mut window = Window::new();
        add(&mut window, 1, "A", &["x=1"]);
        assert!(window.events.is_empty());
        assert_eq!(
            window.first_match(&query(&["A"], &[]), Position::ZERO),
            Matched::Unknown
        );
        window.begin(Position::new(1));
        add(&mut window, 2, "A", &["x=1"]);
        assert_eq!(
            window.first_match(&query(&["A"], &[]), Position::ZERO),
            Matched::Unknown
        );
        let found = window.first_match(&query(&["A"], &["x=1"]), Position::new(1));
        assert_eq!(found, Matched::At(Position::new(2)));
    }

    #[test]
    fn only_one_event_with_all_parts_matches() {
        let mut window = begun(10);
        add(&mut window, 11, "A", &["x=1"]);
        add(&mut window, 12, "B", &["y=1"]);
        let both = query(&[], &["x=1", "y=1"]);
        assert_eq!(window.first_match(&both, Position::new(10)), Matched::No);
        add(&mut window, 13, "C", &["y=1", "x=1"]);
        assert_eq!(
            window.first_match(&both, Position::new(10)),
            Matched::At(Position::new(13))
        );
        assert_eq!(window.first_match(&both, Position::new(13)), Matched::No);
        assert_eq!(
            window.first_match(&query(&["B"], &["x=1"]), Position::new(10)),
            Matched::No
        );
    }

    #[test]
    fn what_left_the_window_is_not_answered_and_not_kept() {
        let mut window = begun(0);
        window.events_max = 4;
        for position in 1..=10 {
            add(&mut window, position, "A", &[&format!("x={position}")]);
        }
        assert_eq!((window.events.len(), window.tags.len(), window.types.len()), (4, 4, 1));
        assert_eq!(
            window.first_match(&query(&[], &["x=3"]), Position::new(2)),
            Matched::Unknown
        );
        assert_eq!(
            window.first_match(&query(&[], &["x=8"]), Position::new(6)),
            Matched::At(Position::new(8))
        );
        window.bytes_max = 1;
        add(&mut window, 11, "A", &[]);
        assert_eq!(
            (window.events.len(), window.tags.len(), window.types.len(), window.bytes),
            (0, 0, 0, 0)
        );
        assert_eq!(window.first_match(&query(&["A"], &[]), Position::new(11)), Matched::No);
    }

    #[test]
    fn a_window_that_nobody_asks_ends() {
        let mut window = begun(0);
        window.events_max = 4;
        for position in 1..=IDLE_EVENTS_MAX as u64 + 1 {
            add(&mut window, position, "A", &[]);
        }
        assert!(!window.active && window.events.is_empty());
    }
}

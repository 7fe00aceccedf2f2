//! A generation of the tail: postings of consecutive events in few, large pieces of memory. A posting points back to the
//! one before it of the same name, so that an event costs no allocation of its own.

use super::index::Entry;
use super::names::{Name, ShortHash, appended_name, command_name, id_name, short};
use super::tail::Run;
use annals_core::{Header, LogError, Position, StreamHead, Version};
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use std::hash::BuildHasher as _;

/// Stands for "no posting before".
const NONE: u32 = u32::MAX;

struct Slot {
    name_start: u32,
    name_len: u32,
    /// Version of the first posting, for streams.
    first: u64,
    count: u32,
    /// The newest posting.
    last: u32,
}

struct Posting {
    event: u32,
    before: u32,
}

/// Postings of names of one kind.
#[derive(Default)]
struct Postings {
    hasher: DefaultHashBuilder,
    table: HashTable<u32>,
    slots: Vec<Slot>,
    text: Vec<u8>,
    postings: Vec<Posting>,
}

impl Postings {
    fn name(&self, slot: &Slot) -> &[u8] {
        &self.text[slot.name_start as usize..(slot.name_start + slot.name_len) as usize]
    }

    fn find(&self, name: &[u8]) -> Option<&Slot> {
        let hash = self.hasher.hash_one(name);
        let at = self
            .table
            .find(hash, |at| self.name(&self.slots[*at as usize]) == name)?;
        self.slots.get(*at as usize)
    }

    fn add(&mut self, name: &[u8], first: u64, event: u32) {
        let hash = self.hasher.hash_one(name);
        let posting = self.postings.len() as u32;
        let found = self
            .table
            .find(hash, |at| self.name(&self.slots[*at as usize]) == name)
            .copied();
        if let Some(slot) = found.and_then(|at| self.slots.get_mut(at as usize)) {
            // An event that has a tag twice is found once.
            if self.postings[slot.last as usize].event != event {
                let before = std::mem::replace(&mut slot.last, posting);
                slot.count += 1;
                self.postings.push(Posting { event, before });
            }
            return;
        }
        let slot = Slot {
            name_start: self.text.len() as u32,
            name_len: name.len() as u32,
            first,
            count: 1,
            last: posting,
        };
        self.text.extend_from_slice(name);
        self.postings.push(Posting { event, before: NONE });
        let at = self.slots.len() as u32;
        self.slots.push(slot);
        let Self {
            hasher,
            table,
            slots,
            text,
            ..
        } = self;
        table.insert_unique(hash, at, |at| {
            let slot = &slots[*at as usize];
            hasher.hash_one(&text[slot.name_start as usize..(slot.name_start + slot.name_len) as usize])
        });
    }

    /// The events of a slot, newest first.
    fn back(&self, slot: &Slot) -> impl Iterator<Item = u32> + '_ {
        let mut at = slot.last;
        std::iter::from_fn(move || {
            let posting = self.postings.get(at as usize)?;
            at = posting.before;
            Some(posting.event)
        })
    }

    /// Slots in the order of their names.
    fn sorted(&self) -> Vec<&Slot> {
        let mut slots: Vec<&Slot> = self.slots.iter().collect();
        slots.sort_unstable_by_key(|slot| self.name(slot));
        slots
    }
}

/// What the index is to be told of a stretch of the log.
#[derive(Default)]
pub(super) struct Generation {
    base: Position,
    events: u32,
    streams: Postings,
    tags: Postings,
    commands: HashMap<Name, u32>,
    appended: HashMap<Name, u32>,
    ids: HashMap<Name, u32>,
}

impl Generation {
    /// How many events it holds.
    pub(super) fn len(&self) -> usize {
        self.events as usize
    }

    /// How many keys it gives the index.
    pub(super) fn key_count(&self) -> usize {
        let hashes = self.commands.len() + self.appended.len() + self.ids.len();
        self.streams.slots.len() + self.tags.slots.len() + hashes
    }

    fn position(&self, event: u32) -> Position {
        self.base.plus(u64::from(event))
    }

    /// Remembers one event, the one that follows the last. One that came with an id of its own has a source, and can be
    /// found by that id. `command` is the name of its command, if it is known.
    pub(super) fn add(&mut self, position: Position, header: &Header<'_>, command: Option<Name>) {
        if self.events == 0 {
            self.base = position;
        }
        let event = self.events;
        // Invariant: positions are gapless, so that a posting need not hold its own. Anything else stops the writer.
        assert_eq!(self.position(event), position, "an event follows the one before it");
        self.events += 1;
        self.streams.add(header.stream.as_bytes(), header.version, event);
        for tag in &header.tags {
            self.tags.add(tag.as_bytes(), 0, event);
        }
        if let Some(key) = header.key {
            let name = command.unwrap_or_else(|| command_name(header.stream, key));
            self.commands.insert(name, event);
        }
        if let Some(source) = header.source {
            let id = header.id.to_owned();
            self.appended.insert(appended_name(&id, header.stream, source), event);
            self.ids.entry(id_name(&id)).or_insert(event);
        }
    }

    /// The head of a stream, up to a position.
    pub(super) fn stream_head(&self, stream: &str, durable: Position) -> Option<StreamHead> {
        let slot = self.streams.find(stream.as_bytes())?;
        let mut version = slot.first + u64::from(slot.count);
        for event in self.streams.back(slot) {
            version -= 1;
            let position = self.position(event);
            if position <= durable {
                let version = Version::new(version);
                return Some(StreamHead { version, position });
            }
        }
        None
    }

    /// Positions of a stream from a version on; the run begins there, or where the generation does.
    pub(super) fn run(&self, stream: &str, from: Version) -> Option<Run> {
        let slot = self.streams.find(stream.as_bytes())?;
        let first = slot.first.max(from.get());
        let count = (slot.first + u64::from(slot.count)).saturating_sub(first) as usize;
        let newest = self.streams.back(slot).take(count);
        let mut positions: Vec<Position> = newest.map(|event| self.position(event)).collect();
        positions.reverse();
        let first = Version::new(first);
        Some(Run { first, positions })
    }

    /// Positions of a tag after a position, ascending.
    pub(super) fn tagged(&self, tag: &str, after: Position) -> Vec<Position> {
        let Some(slot) = self.tags.find(tag.as_bytes()) else {
            return Vec::new();
        };
        let newest = self.tags.back(slot).map(|event| self.position(event));
        let mut positions: Vec<Position> = newest.take_while(|position| *position > after).collect();
        positions.reverse();
        positions
    }

    fn named(&self, names: &HashMap<Name, u32>, name: &Name) -> Option<Position> {
        names.get(name).map(|event| self.position(*event))
    }

    pub(super) fn command(&self, name: &Name) -> Option<Position> {
        self.named(&self.commands, name)
    }

    pub(super) fn appended(&self, name: &Name) -> Option<Position> {
        self.named(&self.appended, name)
    }

    /// The first event with an id.
    pub(super) fn id(&self, name: &Name) -> Option<Position> {
        self.named(&self.ids, name)
    }

    /// The heads of all streams.
    pub(super) fn heads(&self) -> impl Iterator<Item = (&str, StreamHead)> {
        self.streams.slots.iter().filter_map(|slot| {
            let name = std::str::from_utf8(self.streams.name(slot)).ok()?;
            let event = self.streams.postings.get(slot.last as usize)?.event;
            let head = StreamHead {
                version: Version::new(slot.first + u64::from(slot.count) - 1),
                position: self.position(event),
            };
            Some((name, head))
        })
    }

    /// Tells all entries in the order of the index: kind, name, version of the first (streams), positions.
    pub(super) fn for_each_sorted(
        &self,
        mut each: impl FnMut(u8, &[u8], u64, &[u64]) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        for (kind, names) in [
            (Entry::Appended, &self.appended),
            (Entry::Id, &self.ids),
            (Entry::Command, &self.commands),
        ] {
            let position = |event: &u32| self.position(*event).get();
            let mut hashes: Vec<(ShortHash, u64)> = names
                .iter()
                .map(|(name, event)| (short(name), position(event)))
                .collect();
            hashes.sort_unstable();
            for (hash, position) in hashes {
                each(kind.prefix(), &hash, 0, &[position])?;
            }
        }
        let mut positions = Vec::new();
        for (kind, names) in [(b's', &self.streams), (b't', &self.tags)] {
            for slot in names.sorted() {
                positions.clear();
                positions.extend(names.back(slot).map(|event| self.position(event).get()));
                positions.reverse();
                each(kind, names.name(slot), slot.first, &positions)?;
            }
        }
        Ok(())
    }
}

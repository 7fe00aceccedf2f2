//! The states of all streams in memory: one budget in bytes and in count for all aggregates.

use crate::state::Loaded;
use annals_core::{Aggregate, StreamId, encoded_state_len};
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use std::any::Any;
use std::sync::Arc;
use tokio::sync::Mutex;

/// The place of one stream's state in memory. Whoever holds the lock is the only one on this node to decide a command
/// of the stream. Empty when the state is not known, also while an append is under way: so a request that is given up
/// in the middle leaves no stale state behind.
pub(crate) type Slot<A> = Arc<Mutex<Option<Loaded<A>>>>;

/// What a slot with a small state takes in memory: lock, name, the cache's own entry, the state.
const SLOT_BYTES: u64 = 512;
/// Up to so many bytes, written, a state is small.
const SMALL_STATE_BYTES: u64 = 64;
/// How much more room a state takes in memory than written: allocations, spare room of lists, nodes of maps.
const IN_MEMORY_FACTOR: u64 = 3;
/// The cache is cut into this many parts, each with its part of the budget.
const SHARDS: usize = 16;
/// Growth by so many bytes of events is not worth measuring a state anew. Little, because what is not measured counts in
/// full: most states are far smaller than their events, and one that counts too much pushes out others.
const UNMEASURED_MAX: u64 = SMALL_STATE_BYTES;

/// About how large a state is: measured when it may have doubled, and in between the events that were folded into it
/// count in full.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct StateSize {
    measured: u64,
    grown: u64,
    /// The weight that the cache counts for its slot.
    counted: u64,
}

impl StateSize {
    /// Says that events of so many bytes were folded into the state.
    pub(crate) fn grow(&mut self, bytes: usize) {
        self.grown += bytes as u64;
    }

    /// About how many bytes the state has when it is written; measures it if that is not known well enough.
    pub(crate) fn of<A: Aggregate>(&mut self, state: &A) -> u64 {
        if self.grown > self.measured.max(UNMEASURED_MAX) {
            *self = Self {
                measured: encoded_state_len(state) as u64,
                grown: 0,
                counted: self.counted,
            };
        }
        self.measured + self.grown
    }
}

#[derive(Clone)]
struct Kept {
    slot: Arc<dyn Any + Send + Sync>,
    weight: u64,
}

#[derive(Clone)]
struct ByWeight;

impl Weighter<StreamId, Kept> for ByWeight {
    fn weight(&self, _: &StreamId, kept: &Kept) -> u64 {
        kept.weight
    }
}

/// The slots of all streams.
///
/// A slot that is evicted while it is in use may have a second one beside it. That costs a conflict in the log and
/// another attempt, never a wrong decision: every decision is checked against the log before it counts.
pub(crate) struct States {
    slots: Cache<StreamId, Kept, ByWeight>,
    /// What a slot counts at least, which bounds their count.
    least: u64,
    /// What a slot may count; a larger state is not kept.
    most: u64,
}

impl States {
    /// At most about so many states of at most about so many bytes together.
    pub(crate) fn new(states_max: usize, bytes_max: u64) -> Self {
        let states_max = states_max.max(SHARDS);
        let bytes_max = bytes_max.max(SLOT_BYTES * SHARDS as u64);
        let least = (bytes_max / states_max as u64).max(SLOT_BYTES);
        let options = OptionsBuilder::new()
            .shards(SHARDS)
            .estimated_items_capacity(states_max.max(32 * SHARDS))
            .weight_capacity(bytes_max)
            .build();
        let slots = match options {
            Ok(options) => Cache::with_options(
                options,
                ByWeight,
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            ),
            // The options above lack nothing that they need.
            Err(_) => Cache::with_weighter(states_max, bytes_max, ByWeight),
        };
        let most = slots.shard_capacity() / 2;
        Self { slots, least, most }
    }

    /// The slot of a stream.
    pub(crate) fn slot<A: Aggregate>(&self, stream: &StreamId) -> Slot<A> {
        if let Some(slot) = self.slots.get(stream).and_then(|kept| kept.slot.downcast().ok()) {
            return slot;
        }
        let fresh = || {
            Ok::<_, std::convert::Infallible>(Kept {
                slot: Arc::new(Mutex::new(None::<Loaded<A>>)),
                weight: self.least,
            })
        };
        let kept = self
            .slots
            .get_or_insert_with(stream, fresh)
            .unwrap_or_else(|never| match never {});
        // A category belongs to one aggregate, so the slot of a stream is always of one type.
        kept.slot.downcast().unwrap_or_default()
    }

    /// Counts what a state has grown to; forgets one that is too large to be kept. Call it with the slot's lock held.
    pub(crate) fn count<A: Aggregate>(&self, stream: &StreamId, slot: &Slot<A>, state: &mut Option<Loaded<A>>) {
        let Some(loaded) = state else { return };
        let bytes = loaded.size.of(&loaded.state);
        let weight = SLOT_BYTES + bytes.saturating_sub(SMALL_STATE_BYTES) * IN_MEMORY_FACTOR;
        if weight <= self.least.max(loaded.size.counted) {
            return;
        }
        // In powers of two, so that a state that grows is seldom counted anew.
        let weight = weight.next_power_of_two();
        let too_large = weight > self.most;
        if too_large {
            *state = None;
        } else {
            loaded.size.counted = weight;
        }
        let weight = if too_large { self.least } else { weight };
        let slot = Arc::clone(slot) as Arc<dyn Any + Send + Sync>;
        self.slots.insert(stream.clone(), Kept { slot, weight });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use annals_core::*;

    #[derive(Event)]
    enum NoteEvent {
        Noted { text: String },
    }

    #[derive(Command)]
    enum NoteCommand {
        Note { text: String },
    }

    #[derive(Default, State)]
    struct Notes {
        texts: Vec<String>,
    }

    impl Aggregate for Notes {
        const CATEGORY: &'static str = "notes";
        type Command = NoteCommand;
        type Event = NoteEvent;

        fn decide(&self, NoteCommand::Note { text }: NoteCommand) -> Decision<NoteEvent> {
            accept([NoteEvent::Noted { text }])
        }

        fn evolve(&mut self, NoteEvent::Noted { text }: &NoteEvent) {
            self.texts.push(text.clone());
        }
    }

    fn stream(number: usize) -> StreamId {
        StreamId::new("notes", &format!("n-{number}")).unwrap()
    }

    fn fill(states: &States, number: usize, texts: usize) {
        let slot = states.slot::<Notes>(&stream(number));
        let mut guard = slot.try_lock().unwrap();
        let mut loaded = Loaded::<Notes>::default();
        for _ in 0..texts {
            loaded.state.evolve(&NoteEvent::Noted { text: "x".repeat(1000) });
            loaded.size.grow(1010);
        }
        *guard = Some(loaded);
        states.count(&stream(number), &slot, &mut guard);
    }

    fn kept(states: &States, of: usize) -> (usize, usize) {
        let held = (0..of).filter_map(|number| {
            let slot = states
                .slots
                .peek(&stream(number))?
                .slot
                .downcast::<Mutex<Option<Loaded<Notes>>>>();
            let texts = slot.ok()?.try_lock().ok()?.as_ref()?.state.texts.len();
            Some(texts)
        });
        held.fold((0, 0), |(states, texts), more| (states + 1, texts + more))
    }

    #[test]
    fn large_states_push_each_other_out_within_the_budget_in_bytes() {
        let states = States::new(100_000, 16 << 20);
        for number in 0..2_000 {
            fill(&states, number, 50);
        }
        let (_, texts) = kept(&states, 2_000);
        assert!(states.slots.weight() <= 16 << 20, "{}", states.slots.weight());
        assert!(
            (100..=16_000).contains(&texts),
            "{texts} texts of 1,000 bytes are kept in 16 MiB"
        );
    }

    #[test]
    fn small_states_are_bounded_by_their_count() {
        let states = States::new(1_024, 1 << 30);
        for number in 0..4_096 {
            fill(&states, number, 0);
        }
        let (count, _) = kept(&states, 4_096);
        assert!((256..=1_100).contains(&count), "{count}");
    }

    #[test]
    fn a_state_larger_than_its_share_is_not_kept_but_its_slot_is() {
        let states = States::new(1_024, 16 << 20);
        let before = states.slot::<Notes>(&stream(1));
        fill(&states, 1, 5_000);
        let after = states.slot::<Notes>(&stream(1));
        assert!(Arc::ptr_eq(&before, &after), "commands still wait for each other");
        assert!(after.try_lock().unwrap().is_none());
    }

    #[test]
    fn a_small_state_of_many_events_counts_as_what_it_is() {
        let mut size = StateSize::default();
        let state = Notes {
            texts: vec!["x".into()],
        };
        for _ in 0..100_000 {
            size.grow(100);
            assert!(size.of(&state) <= 2 * UNMEASURED_MAX);
        }
    }

    #[derive(Default, State)]
    struct Count {
        events: u64,
    }

    impl Aggregate for Count {
        const CATEGORY: &'static str = "counts";
        type Command = NoteCommand;
        type Event = NoteEvent;

        fn decide(&self, NoteCommand::Note { text }: NoteCommand) -> Decision<NoteEvent> {
            accept([NoteEvent::Noted { text }])
        }

        fn evolve(&mut self, _event: &NoteEvent) {
            self.events += 1;
        }
    }

    #[test]
    fn small_states_of_many_large_events_are_all_kept() {
        const STATES: usize = 1_000;
        let states = States::new(2 * STATES, 2 * STATES as u64 * SLOT_BYTES);
        for _ in 0..50 {
            for number in 0..STATES {
                let slot = states.slot::<Count>(&stream(number));
                let mut guard = slot.try_lock().unwrap();
                let loaded = guard.get_or_insert_with(Loaded::<Count>::default);
                loaded.state.evolve(&NoteEvent::Noted { text: "x".repeat(200) });
                loaded.size.grow(210);
                states.count(&stream(number), &slot, &mut guard);
            }
        }
        let kept = (0..STATES).filter(|number| states.slots.peek(&stream(*number)).is_some());
        let events = kept.filter(|number| {
            let slot = states.slot::<Count>(&stream(*number));
            let guard = slot.try_lock().unwrap();
            guard.as_ref().is_some_and(|loaded| loaded.state.events == 50)
        });
        assert_eq!(events.count(), STATES, "none was folded anew in between");
    }
}

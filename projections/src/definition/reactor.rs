//! A reactor without its Rust type.

use super::change::Change;
use super::table::{Failure, Load, Table, Wanted};
use annals_core::{Catalog, CommandCall, IndexValue, Key, Position, Reactor, RecordRef, Recorded, State, Timer};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Timers that one key may have.
const TIMERS_MAX: usize = 100;
/// An event that occurred longer than this before it was recorded belongs to a history that is loaded: it sets no timer.
const LATE: Duration = Duration::from_secs(24 * 60 * 60);
/// Another one makes all states be folded anew.
const KEPT_AS: &str = "state and timers";

/// What is known of a reactor: its name, and how it reacts.
#[derive(Clone)]
pub struct ReactorDefinition {
    name: &'static str,
    fingerprint: Arc<str>,
    reactor: Arc<dyn AnyReactor>,
}

impl ReactorDefinition {
    /// The definition of a reactor.
    pub fn of<R: Reactor>(reactor: R) -> Self {
        Self {
            name: R::NAME,
            fingerprint: super::fingerprint(&[R::NAME, R::State::SCHEMA, KEPT_AS]).into(),
            reactor: Arc::new(TypedReactor {
                reactor: Arc::new(reactor),
            }),
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Changes with name and state schema.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// An empty table to fold events into.
    pub(crate) fn table(&self) -> Box<dyn StateTable> {
        self.reactor.table()
    }
}

impl fmt::Debug for ReactorDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReactorDefinition")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A command that an event called for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reaction {
    /// Key whose state called for it; commands of one key are dispatched in order.
    pub(crate) key: String,
    /// Which of the event's commands and timers, from 1.
    pub(crate) number: u32,
    pub(crate) call: CommandCall,
}

/// A timer that is set: kept with the state of its key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SetTimer {
    /// Recorded time from which on it goes off, microseconds since 1970.
    pub(crate) due: i64,
    /// The event that set it.
    pub(crate) position: Position,
    /// Which of the event's commands and timers, from 1.
    pub(crate) number: u32,
    pub(crate) call: CommandCall,
    /// The event's id.
    pub(crate) causation: String,
    /// The event's correlation.
    pub(crate) correlation: String,
}

/// States of a reactor in memory, between two writes.
pub(crate) trait StateTable: Send {
    /// Folds an event into the states it is routed to, of these only the ones whose key `wanted` takes, and, if
    /// `reactions` are asked for, adds the commands that it calls for. After an error the table is worthless: clear it.
    fn apply(
        &mut self,
        catalog: &Catalog,
        record: &RecordRef<'_>,
        wanted: &mut Wanted<'_>,
        load: &mut Load<'_>,
        reactions: Option<&mut Vec<Reaction>>,
    ) -> Result<(), Failure>;

    /// Takes the timers of a key that are due first, if that is at `until` or before. `at` is how far the states are.
    fn fire(&mut self, key: &str, at: Position, until: i64, load: &mut Load<'_>) -> Result<Vec<SetTimer>, Failure>;

    /// How many states changed since the last [`StateTable::take_changes`].
    fn changed(&self) -> usize;

    /// How many bytes the states in memory have, about.
    fn bytes(&self) -> usize;

    /// The states that changed, in the order of their keys.
    fn take_changes(&mut self, state_bytes_max: usize) -> Result<Vec<Change>, Failure>;

    /// Forgets all states.
    fn clear(&mut self);
}

trait AnyReactor: Send + Sync {
    fn table(&self) -> Box<dyn StateTable>;
}

struct TypedReactor<R> {
    reactor: Arc<R>,
}

impl<R: Reactor> AnyReactor for TypedReactor<R> {
    fn table(&self) -> Box<dyn StateTable> {
        Box::new(TypedTable {
            reactor: Arc::clone(&self.reactor),
            states: Table::new(next_due, false),
        })
    }
}

/// A state as it is stored. Its only index is when its next timer is due.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(bound(serialize = "S: Serialize", deserialize = "S: DeserializeOwned"))]
struct Kept<S> {
    state: S,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    timers: Vec<SetTimer>,
}

fn next_due<S>(kept: &Kept<S>) -> Vec<Option<IndexValue>> {
    let due = kept.timers.iter().map(|timer| timer.due).min();
    vec![due.map(|due| IndexValue::Number(due.into()))]
}

impl<S> Kept<S> {
    /// Sets and cancels timers. `number` is that of the last of the event's commands and timers so far.
    fn set(&mut self, timers: Vec<Timer>, record: &RecordRef<'_>, number: &mut u32) -> Result<(), Failure> {
        let occurred = record.header.occurred.unwrap_or(record.header.recorded);
        let late = record.header.recorded.saturating_sub(occurred) > LATE.as_micros() as i64;
        for timer in timers {
            let (delay, call) = match timer {
                Timer::CancelAll => {
                    self.timers.clear();
                    continue;
                }
                Timer::After(delay, call) => (delay, call),
            };
            *number += 1;
            if late {
                continue;
            }
            if self.timers.len() >= TIMERS_MAX {
                return Err(Failure::Code(format!("a key has at most {TIMERS_MAX} timers")));
            }
            let delay = i64::try_from(delay.as_micros()).unwrap_or(i64::MAX);
            self.timers.push(SetTimer {
                due: record.header.recorded.saturating_add(delay),
                position: record.position,
                number: *number,
                call,
                causation: record.header.id.to_string(),
                correlation: record.correlation_id(),
            });
        }
        Ok(())
    }
}

struct TypedTable<R: Reactor> {
    reactor: Arc<R>,
    states: Table<Kept<R::State>>,
}

impl<R: Reactor> TypedTable<R> {
    /// Folds the event into one state; returns the commands that it calls for, with their numbers.
    fn change(
        &mut self,
        key: &Key,
        record: &RecordRef<'_>,
        event: &Recorded<'_, R::Event>,
        load: &mut Load<'_>,
        mode: &mut Mode<'_>,
    ) -> Result<Vec<(u32, CommandCall)>, Failure> {
        let reactor = &self.reactor;
        self.states.change(key, record.position, load, |_, kept| {
            let kept = kept.get_or_insert_default();
            reactor.evolve(&mut kept.state, event);
            let timers = reactor.timers(&kept.state, event)?;
            // Timers are numbered behind the commands, so these are counted also where they are not wanted.
            let calls = if mode.reacting || mode.several || !timers.is_empty() {
                reactor.react(&kept.state, event)?
            } else {
                Vec::new()
            };
            let first = *mode.number + 1;
            *mode.number += calls.len() as u32;
            kept.set(timers, record, mode.number)?;
            Ok((first..).zip(calls).filter(|_| mode.reacting).collect())
        })?
    }
}

/// How an event is folded into one of its states.
struct Mode<'a> {
    reacting: bool,
    /// Whether it has several states.
    several: bool,
    /// Commands and timers of the event so far.
    number: &'a mut u32,
}

impl<R: Reactor> StateTable for TypedTable<R> {
    fn apply(
        &mut self,
        catalog: &Catalog,
        record: &RecordRef<'_>,
        wanted: &mut Wanted<'_>,
        load: &mut Load<'_>,
        mut reactions: Option<&mut Vec<Reaction>>,
    ) -> Result<(), Failure> {
        let Some(event) = catalog.decode::<R::Event>(record)? else {
            return Ok(());
        };
        let keys: Vec<Key> = self.reactor.route(&event).into_iter().collect();
        let mut number = 0;
        for key in &keys {
            if !wanted(key.as_str()) {
                continue;
            }
            let mut mode = Mode {
                reacting: reactions.is_some(),
                several: keys.len() > 1,
                number: &mut number,
            };
            let calls = self.change(key, record, &event, load, &mut mode)?;
            if let Some(reactions) = reactions.as_deref_mut() {
                reactions.extend(calls.into_iter().map(|(number, call)| Reaction {
                    key: key.as_str().to_owned(),
                    number,
                    call,
                }));
            }
        }
        Ok(())
    }

    fn fire(&mut self, key: &str, at: Position, until: i64, load: &mut Load<'_>) -> Result<Vec<SetTimer>, Failure> {
        self.states.change(&Key::from(key), at, load, |_, kept| {
            let Some(kept) = kept else { return Vec::new() };
            let due = kept.timers.iter().map(|timer| timer.due).min();
            let goes_off = |timer: &mut SetTimer| Some(timer.due) == due && timer.due <= until;
            kept.timers.extract_if(.., goes_off).collect()
        })
    }

    fn changed(&self) -> usize {
        self.states.changed()
    }

    fn bytes(&self) -> usize {
        self.states.bytes()
    }

    fn take_changes(&mut self, state_bytes_max: usize) -> Result<Vec<Change>, Failure> {
        self.states.take_changes(state_bytes_max)
    }

    fn clear(&mut self) {
        self.states.clear();
    }
}

//! A reactor without its Rust type.

use super::change::Change;
use super::table::{Failure, Load, Table, Wanted};
use annals_core::{Catalog, CommandCall, Reactor, RecordRef, State};
use std::fmt;
use std::sync::Arc;

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
            fingerprint: super::fingerprint(&[R::NAME, R::State::SCHEMA]).into(),
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
    pub(crate) call: CommandCall,
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
            states: Table::new(|_| Vec::new(), false),
        })
    }
}

struct TypedTable<R: Reactor> {
    reactor: Arc<R>,
    states: Table<R::State>,
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
        for key in self.reactor.route(&event) {
            if !wanted(key.as_str()) {
                continue;
            }
            let text = key.as_str().to_owned();
            let reacting = reactions.is_some();
            let calls = self.states.change(&key, record.position, load, |_, state| {
                let state = state.get_or_insert_default();
                self.reactor.evolve(state, &event);
                if reacting {
                    self.reactor.react(state, &event)
                } else {
                    Ok(Vec::new())
                }
            })??;
            if let Some(reactions) = reactions.as_deref_mut() {
                reactions.extend(calls.into_iter().map(|call| Reaction {
                    key: text.clone(),
                    call,
                }));
            }
        }
        Ok(())
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

//! An aggregate without its Rust type, so that several of them can be kept together.

use crate::fold::{StateFold, TypedFold};
use crate::handler::{Handler, Shared, TypedHandler};
use annals_core::{Aggregate, Catalog, Command, Event, EventType};
use std::fmt;
use std::sync::Arc;

/// What is known of an aggregate: its names, and how its commands are decided and its events folded.
#[derive(Clone)]
pub struct AggregateDefinition {
    category: &'static str,
    command_names: &'static [&'static str],
    event_types: &'static [EventType],
    own: fn(&mut Catalog, &'static str) -> Result<(), &'static str>,
    fold: fn() -> Box<dyn StateFold>,
    handler: fn(&Shared) -> Arc<dyn Handler>,
}

impl AggregateDefinition {
    /// The definition of `A`.
    pub fn of<A: Aggregate>() -> Self {
        Self {
            category: A::CATEGORY,
            command_names: A::Command::NAMES,
            event_types: A::Event::TYPES,
            own: |catalog, category| catalog.own::<A::Event>(category),
            fold: || Box::new(TypedFold::<A>::default()),
            handler: |shared| Arc::new(TypedHandler::<A>::new(shared)),
        }
    }

    /// Category of its streams.
    pub fn category(&self) -> &'static str {
        self.category
    }

    /// Names of its commands.
    pub fn command_names(&self) -> &'static [&'static str] {
        self.command_names
    }

    /// Types of its events.
    pub fn event_types(&self) -> &'static [EventType] {
        self.event_types
    }

    /// Says in the catalog that its events belong to its category. The error is the name of a type that another
    /// category owns.
    pub fn own(&self, catalog: &mut Catalog) -> Result<(), &'static str> {
        (self.own)(catalog, self.category)
    }

    /// An empty state to fold records into.
    pub fn fold(&self) -> Box<dyn StateFold> {
        (self.fold)()
    }

    pub(crate) fn handler(&self, shared: &Shared) -> Arc<dyn Handler> {
        (self.handler)(shared)
    }
}

impl fmt::Debug for AggregateDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AggregateDefinition")
            .field("category", &self.category)
            .field("command_names", &self.command_names)
            .finish_non_exhaustive()
    }
}

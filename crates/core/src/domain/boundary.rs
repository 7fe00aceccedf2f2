//! Decisions beside an aggregate's own stream: [`DecisionModel`] over the events of a [`Boundary`], in any stream.

use super::aggregate::{Aggregate, Decision};
use super::event::DecodeError;
use super::event_set::{Catalog, EventSet};
use crate::event_id::{InvalidTag, Tag};
use crate::personal::Personal;
use crate::record::RecordRef;
use std::fmt;

/// A tag as domain code names it. The value of a personal one never reaches the log: a keyed hash stands for it there,
/// see [`crate::Appender::personal_tag`].
#[derive(Clone, PartialEq, Eq)]
pub struct EventTag {
    key: &'static str,
    value: Box<str>,
    personal: bool,
}

impl EventTag {
    /// The tag `key=value`.
    pub fn new(key: &'static str, value: impl fmt::Display) -> Self {
        Self {
            key,
            value: value.to_string().into(),
            personal: false,
        }
    }

    /// A tag whose value belongs to a person; `None` if the value was erased.
    pub fn personal<T: fmt::Display>(key: &'static str, value: &Personal<T>) -> Option<Self> {
        value.get().map(|value| Self {
            key,
            value: value.to_string().into(),
            personal: true,
        })
    }

    /// The tag as it stands in the log; `keyed` makes the one of a personal value.
    pub fn to_tag(&self, keyed: impl FnOnce(&str, &str) -> Result<Tag, InvalidTag>) -> Result<Tag, InvalidTag> {
        if self.personal {
            keyed(self.key, &self.value)
        } else {
            Tag::new(self.key, &self.value)
        }
    }
}

/// Never shows a personal value: it would end up in a log file.
impl fmt::Debug for EventTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = if self.personal { "[personal]" } else { &self.value };
        write!(f, "{}={value}", self.key)
    }
}

/// A field that can stand in a tag: whatever can be displayed, and [`Personal`] values of that.
#[doc(hidden)]
pub trait TagValue {
    /// The tag; `None` if the value was erased.
    fn event_tag(&self, key: &'static str) -> Option<EventTag>;
}

impl<T: fmt::Display + ?Sized> TagValue for T {
    fn event_tag(&self, key: &'static str) -> Option<EventTag> {
        Some(EventTag::new(key, self))
    }
}

impl<T: fmt::Display> TagValue for Personal<T> {
    fn event_tag(&self, key: &'static str) -> Option<EventTag> {
        EventTag::personal(key, self)
    }
}

/// The events that a decision depends on, in whatever stream they stand: those that carry all of these tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boundary {
    types: Vec<&'static str>,
    tags: Vec<EventTag>,
}

impl Boundary {
    /// The events with this tag.
    pub fn tagged(tag: EventTag) -> Self {
        Self {
            types: Vec::new(),
            tags: vec![tag],
        }
    }

    /// Of those only the ones that carry this tag as well.
    #[must_use]
    pub fn and(mut self, tag: EventTag) -> Self {
        self.tags.push(tag);
        self
    }

    /// Of those only the ones of these types. Types that were renamed are named with all their names.
    #[must_use]
    pub fn of_types(mut self, types: impl IntoIterator<Item = &'static str>) -> Self {
        self.types.extend(types);
        self
    }

    /// The types; any if there are none.
    pub fn types(&self) -> &[&'static str] {
        &self.types
    }

    /// The tags.
    pub fn tags(&self) -> &[EventTag] {
        &self.tags
    }
}

/// What a command of an aggregate depends on beside the aggregate's state: folded from the events of a boundary for
/// this one decision. The events of the decision are appended only if no event of the boundary came meanwhile; if one
/// did, all is read and decided anew.
pub trait DecisionModel: Send + Sync + 'static {
    /// Whose commands it helps to decide.
    type Aggregate: Aggregate;
    /// What it reads.
    type Event: EventSet;

    /// The events it depends on.
    fn boundary(&self) -> Boundary;

    /// Folds one of them, in the order of the log.
    fn evolve(&mut self, event: &super::Recorded<'_, Self::Event>);

    /// Decides the command, with the aggregate's state at hand. Pure, as [`Aggregate::decide`] is.
    fn decide(
        &self,
        state: &Self::Aggregate,
        command: <Self::Aggregate as Aggregate>::Command,
    ) -> Decision<<Self::Aggregate as Aggregate>::Event>;
}

/// A [`DecisionModel`] of the aggregate `A`, whatever its type.
pub struct Beside<A: Aggregate>(Box<dyn Model<A>>);

impl<A: Aggregate> Beside<A> {
    /// This model.
    pub fn new(model: impl DecisionModel<Aggregate = A>) -> Self {
        Self(Box::new(model))
    }

    /// The events it depends on.
    pub fn boundary(&self) -> Boundary {
        self.0.boundary()
    }

    /// Folds a record of the boundary. One that is not what its type says, or that the model does not read, passes it by.
    pub fn apply(&mut self, catalog: &Catalog, record: &RecordRef<'_>) -> Result<(), DecodeError> {
        self.0.apply(catalog, record)
    }

    /// Decides the command.
    pub fn decide(&self, state: &A, command: A::Command) -> Decision<A::Event> {
        self.0.decide(state, command)
    }
}

impl<A: Aggregate> fmt::Debug for Beside<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Beside").field(&self.0.boundary()).finish()
    }
}

trait Model<A: Aggregate>: Send + Sync {
    fn boundary(&self) -> Boundary;
    fn apply(&mut self, catalog: &Catalog, record: &RecordRef<'_>) -> Result<(), DecodeError>;
    fn decide(&self, state: &A, command: A::Command) -> Decision<A::Event>;
}

impl<A: Aggregate, M: DecisionModel<Aggregate = A>> Model<A> for M {
    fn boundary(&self) -> Boundary {
        DecisionModel::boundary(self)
    }

    fn apply(&mut self, catalog: &Catalog, record: &RecordRef<'_>) -> Result<(), DecodeError> {
        if let Some(event) = catalog.decode::<M::Event>(record)? {
            self.evolve(&event);
        }
        Ok(())
    }

    fn decide(&self, state: &A, command: A::Command) -> Decision<A::Event> {
        DecisionModel::decide(self, state, command)
    }
}

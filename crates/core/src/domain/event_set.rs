//! Sets of events that a view or a reactor reads, and the recorded event as it is handed to them.

use super::event::{DecodeError, Event, Payload};
use crate::record::RecordRef;
use crate::{Position, Version};
use chrono::{DateTime, Utc};
use std::collections::HashMap;

/// What a view or reactor reads. Every [`Event`] enum is one; derive a larger one on an enum of them:
/// `#[derive(EventSet)] enum ShopEvent { Order(OrderEvent), Payment(PaymentEvent) }`. What it does not name it never sees.
pub trait EventSet: Sized + Send + Sync + 'static {
    /// Whether the set has an event type of this name.
    fn reads(name: &str) -> bool;

    /// The event of type `name`; `None` if the set has no such type.
    fn decode(name: &str, payload: Payload<'_>) -> Result<Option<Self>, DecodeError>;
}

impl<E: Event> EventSet for E {
    fn reads(name: &str) -> bool {
        E::TYPES
            .iter()
            .any(|known| known.name == name || known.was.contains(&name))
    }

    fn decode(name: &str, payload: Payload<'_>) -> Result<Option<Self>, DecodeError> {
        <E as Event>::decode(name, payload)
    }
}

/// Which category owns which event type, so that an event appended elsewhere under a known name is not taken for one
/// that an aggregate decided.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    owners: HashMap<&'static str, &'static str>,
}

impl Catalog {
    /// Says that the events of `E` belong to `category`. The error is the name of a type that another one owns.
    pub fn own<E: Event>(&mut self, category: &'static str) -> Result<(), &'static str> {
        for known in E::TYPES {
            for &name in std::iter::once(&known.name).chain(known.was) {
                if self
                    .owners
                    .insert(name, category)
                    .is_some_and(|other| other != category)
                {
                    return Err(name);
                }
            }
        }
        Ok(())
    }

    /// Whether an aggregate owns the category.
    pub fn owns_category(&self, category: &str) -> bool {
        self.owners.values().any(|owner| *owner == category)
    }

    /// Whether a record is what its type says: of a type that nobody owns, or in its owner's category.
    pub fn admits(&self, record: &RecordRef<'_>) -> bool {
        self.owners
            .get(record.header.event_type)
            .is_none_or(|owner| *owner == record.header.category())
    }

    /// Decodes a record for the set `S`; `None` if the set does not read it.
    pub fn decode<'a, S: EventSet>(&self, record: &'a RecordRef<'a>) -> Result<Option<Recorded<'a, S>>, DecodeError> {
        if !self.admits(record) {
            return Ok(None);
        }
        Recorded::decode(record)
    }
}

/// An event as it was recorded: typed data, and all that the log knows about it.
#[derive(Debug, Clone)]
pub struct Recorded<'a, E> {
    record: &'a RecordRef<'a>,
    data: E,
}

impl<'a, E> Recorded<'a, E> {
    /// An event with the record it came from.
    pub fn new(record: &'a RecordRef<'a>, data: E) -> Self {
        Self { record, data }
    }

    /// What happened.
    pub fn data(&self) -> &E {
        &self.data
    }

    /// The same event with its data turned into something else.
    pub fn map<F>(self, f: impl FnOnce(E) -> F) -> Recorded<'a, F> {
        Recorded {
            record: self.record,
            data: f(self.data),
        }
    }

    /// Place in the log.
    pub fn position(&self) -> Position {
        self.record.position
    }

    /// Place in the stream.
    pub fn version(&self) -> Version {
        Version::new(self.record.header.version)
    }

    /// The stream's category.
    pub fn category(&self) -> &'a str {
        self.record.header.category()
    }

    /// The stream's id, without its category: `ord-17`.
    pub fn stream_id(&self) -> &'a str {
        self.record.header.stream_id()
    }

    /// The event's id.
    pub fn id(&self) -> String {
        self.record.header.id.to_string()
    }

    /// The event's type.
    pub fn event_type(&self) -> &'a str {
        self.record.header.event_type
    }

    /// When the log recorded it.
    pub fn recorded_at(&self) -> DateTime<Utc> {
        self.record.recorded_at()
    }

    /// When it occurred in the business; the recorded time if nothing else was said.
    pub fn occurred_at(&self) -> DateTime<Utc> {
        self.record.occurred_at()
    }

    /// Who did it.
    pub fn actor(&self) -> Option<&'a str> {
        self.record.header.actor
    }

    /// What it belongs to.
    pub fn correlation_id(&self) -> String {
        self.record.correlation_id()
    }

    /// What caused it.
    pub fn causation_id(&self) -> Option<&'a str> {
        self.record.header.causation
    }

    /// The record it came from.
    pub fn record(&self) -> &'a RecordRef<'a> {
        self.record
    }
}

impl<'a, S: EventSet> Recorded<'a, S> {
    /// Decodes a record; `None` if the set does not read its type.
    pub fn decode(record: &'a RecordRef<'a>) -> Result<Option<Self>, DecodeError> {
        let header = &record.header;
        let payload = Payload {
            content_type: header.content_type,
            schema_version: header.schema,
            bytes: record.payload,
        };
        Ok(S::decode(header.event_type, payload)?.map(|data| Self { record, data }))
    }
}

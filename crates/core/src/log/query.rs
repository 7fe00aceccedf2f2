//! Which events an append depends on: a query over types and tags, and the condition that no such event came since.

use crate::record::{MalformedRecord, Record, RecordRef};
use crate::{Position, Tag};
use std::borrow::Cow;

/// Most types in one query.
pub const QUERY_TYPES_MAX: usize = 32;
/// Most tags in one query.
pub const QUERY_TAGS_MAX: usize = 32;

/// Events by what they are: of any of these types (of any type if there are none), carrying all of these tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventQuery {
    types: Vec<Cow<'static, str>>,
    tags: Vec<Tag>,
}

/// A query that is empty or too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a query names 1 to {QUERY_TYPES_MAX} types or 1 to {QUERY_TAGS_MAX} tags or both; this one has {types} types and \
     {tags} tags: name at least one, and no more"
)]
pub struct InvalidQuery {
    types: usize,
    tags: usize,
}

impl EventQuery {
    /// The events of any of these types that carry all of these tags. At least one type or tag is needed.
    pub fn new(types: Vec<Cow<'static, str>>, tags: Vec<Tag>) -> Result<Self, InvalidQuery> {
        let empty = types.is_empty() && tags.is_empty();
        if empty || types.len() > QUERY_TYPES_MAX || tags.len() > QUERY_TAGS_MAX {
            return Err(InvalidQuery {
                types: types.len(),
                tags: tags.len(),
            });
        }
        Ok(Self { types, tags })
    }

    /// The types; any if there are none.
    pub fn types(&self) -> &[Cow<'static, str>] {
        &self.types
    }

    /// The tags; an event must carry all of them.
    pub fn tags(&self) -> &[Tag] {
        &self.tags
    }

    /// Whether an event of this type with these tags is meant.
    pub fn matches<T: AsRef<str>>(&self, event_type: &str, tags: &[T]) -> bool {
        let of_type = self.types.is_empty() || self.types.iter().any(|wanted| wanted == event_type);
        of_type
            && self
                .tags
                .iter()
                .all(|wanted| tags.iter().any(|tag| tag.as_ref() == wanted.as_str()))
    }

    /// Whether this record is meant.
    pub fn matches_record(&self, record: &RecordRef<'_>) -> bool {
        self.matches(record.header.event_type, &record.header.tags)
    }
}

/// The condition that no event after a position matches a query: what the appender has read still stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendCondition {
    /// Which events it depends on.
    pub query: EventQuery,
    /// Up to where they were read; at most the durable head.
    pub after: Position,
}

/// What a query found.
#[derive(Debug, Clone)]
pub struct Matching {
    /// The events, in the order of the log.
    pub records: Vec<Record>,
    /// Up to where the log was looked at: every matching event up to here is among `records`.
    pub reached: Position,
}

impl Matching {
    /// Takes what matches of the records; true once there are `limit` of them.
    pub fn take(
        &mut self,
        query: &EventQuery,
        records: impl IntoIterator<Item = Result<Record, MalformedRecord>>,
        limit: usize,
    ) -> Result<bool, MalformedRecord> {
        for record in records {
            let record = record?;
            self.reached = record.position();
            if query.matches_record(&record.view()?) {
                self.records.push(record);
            }
            if self.records.len() >= limit {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> Tag {
        Tag::parse(text).unwrap()
    }

    #[test]
    fn an_event_matches_by_any_type_and_by_all_tags() {
        let query = EventQuery::new(vec!["A".into(), "B".into()], vec![tag("x=1"), tag("y=2")]).unwrap();
        assert!(query.matches("B", &["y=2", "z=3", "x=1"]));
        assert!(!query.matches("C", &["x=1", "y=2"]));
        assert!(!query.matches("A", &["x=1"]));
        let any_type = EventQuery::new(vec![], vec![tag("x=1")]).unwrap();
        assert!(any_type.matches("C", &["x=1"]) && !any_type.matches("C", &["x=2"]));
        let any_tags = EventQuery::new(vec!["A".into()], vec![]).unwrap();
        assert!(any_tags.matches("A", &[] as &[&str]) && !any_tags.matches("B", &["x=1"]));
    }

    #[test]
    fn a_query_names_something_and_not_too_much() {
        assert!(EventQuery::new(vec![], vec![]).is_err());
        assert!(EventQuery::new(vec!["A".into(); QUERY_TYPES_MAX + 1], vec![]).is_err());
        assert!(EventQuery::new(vec![], vec![tag("x=1"); QUERY_TAGS_MAX + 1]).is_err());
        assert!(EventQuery::new(vec!["A".into(); QUERY_TYPES_MAX], vec![tag("x=1"); QUERY_TAGS_MAX]).is_ok());
    }
}

//! Who set each field, and what differs between two moments: of rows and of states alike.

use crate::cli::moment::Moment;
use annals_core::{EventLog, Position, RecordRef};
use annals_projections::{EventNote, differences, leaves};
use anyhow::{Result, anyhow};
use chrono::SecondsFormat;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::str::FromStr;

/// Columns of `--blame`, behind those that say whose fields they are.
pub(super) const BLAME_COLUMNS: [&str; 7] = ["field", "value", "position", "recordedtime", "type", "actor", "event"];
/// Columns of `--diff`.
pub(super) const DIFF_COLUMNS: [&str; 3] = ["field", "before", "after"];

/// Fields with their values and the event that last set each.
#[derive(Debug, Default)]
pub(super) struct Blame(BTreeMap<String, (Value, Rc<Cause>)>);

/// An event, shared by all fields that it set.
#[derive(Debug)]
pub(super) struct Cause {
    position: Position,
    note: EventNote,
}

impl Cause {
    pub(super) fn of(record: &RecordRef<'_>) -> Rc<Self> {
        Rc::new(Self {
            position: record.position,
            note: EventNote::of(record),
        })
    }
}

impl Blame {
    /// The event made this of it; `None` deletes it.
    pub(super) fn version(&mut self, value: Option<&Value>, cause: &Rc<Cause>) {
        let before = std::mem::take(&mut self.0);
        for (field, value) in value.map(leaves).unwrap_or_default() {
            let since = match before.get(&field) {
                Some((same, since)) if same == value => Rc::clone(since),
                _ => Rc::clone(cause),
            };
            self.0.insert(field, (value.clone(), since));
        }
    }

    /// A line for each field.
    pub(super) fn lines(&self) -> Vec<Value> {
        let line = |(field, (value, cause)): (&String, &(Value, Rc<Cause>))| {
            json!({
                "field": field,
                "value": value,
                "position": cause.position.to_string(),
                "recordedtime": cause.note.recorded_at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
                "type": cause.note.event_type,
                "actor": cause.note.actor,
                "event": cause.note.id,
            })
        };
        self.0.iter().map(line).collect()
    }
}

/// The lines of what differs, with what says whose fields they are in front.
pub(super) fn diff_lines(before: Option<&Value>, after: Option<&Value>) -> Vec<Value> {
    differences(before, after)
        .into_iter()
        .map(|change| json!({ "field": change.field, "before": change.before, "after": change.after }))
        .collect()
}

/// `--diff A..B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Between {
    from: Moment,
    to: Moment,
}

impl Between {
    /// The two positions.
    pub(super) fn positions(self, log: &dyn EventLog) -> Result<(Position, Position)> {
        let (from, to) = (self.from.position(log)?, self.to.position(log)?);
        if from > to {
            return Err(anyhow!("--diff {from}..{to} runs backwards: write {to}..{from}"));
        }
        Ok((from, to))
    }
}

impl FromStr for Between {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = text
            .split_once("..")
            .ok_or("write two moments, as in 1200..1234 or 2017-10-02..2017-10-03")?;
        Ok(Self {
            from: from.parse()?,
            to: to.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_blamed_on_the_event_that_last_changed_it() {
        let mut blame = Blame::default();
        let at = |position| {
            let note = EventNote {
                id: "e".into(),
                event_type: "T".into(),
                stream: "s/1".into(),
                recorded_at: chrono::DateTime::UNIX_EPOCH,
                actor: None,
            };
            let position = Position::new(position);
            Rc::new(Cause { position, note })
        };
        blame.version(Some(&json!({"a": 1, "b": {"c": 1}})), &at(3));
        blame.version(Some(&json!({"a": 2, "b": {"c": 1}})), &at(5));
        blame.version(Some(&json!({"a": 1, "b": {"c": 1, "d": 4}})), &at(7));
        let found: Vec<_> = blame
            .0
            .iter()
            .map(|(field, (_, cause))| (field.as_str(), cause.position.get()))
            .collect();
        assert_eq!(found, [("a", 7), ("b.c", 3), ("b.d", 7)]);
        blame.version(None, &at(8));
        blame.version(Some(&json!({"a": 1})), &at(9));
        let found: Vec<_> = blame
            .0
            .iter()
            .map(|(field, (_, cause))| (field.as_str(), cause.position.get()))
            .collect();
        assert_eq!(found, [("a", 9)], "what was deleted in between is new");
    }

    #[test]
    fn two_moments_are_positions_or_times() {
        assert!("3..7".parse::<Between>().is_ok());
        assert!("2017-10-02..2017-10-03T01:00:00Z".parse::<Between>().is_ok());
        for text in ["3", "3..", "..", "a..b"] {
            assert!(text.parse::<Between>().is_err(), "{text}");
        }
    }
}

//! What people decide about views and reactors, as events in the stream `$operations/NAME`: the log is the truth about
//! them, too. A view or reactor reads its stream before it folds anything, so that a skip holds from the first event on.

use super::skips::Skips;
use annals_core::{
    Append, Direction, Event, EventLog, LogError, Metadata, NewEvent, Payload, Position, Recorded, StreamId, Version,
};

/// Category of the streams. It begins with `$`, so nobody else appends to it.
const CATEGORY: &str = "$operations";
/// Events that are read at once.
const PAGE: usize = 500;

/// The stream of decisions about the view or reactor of this name.
pub fn operation_stream(name: &str) -> Result<StreamId, OperationError> {
    StreamId::new(CATEGORY, name).map_err(|error| OperationError::Name(format!("{name:?}: {error}")))
}

/// Why a decision could not be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OperationError {
    /// There is no such view or reactor.
    #[error("there is no view or reactor {name:?}; {}", crate::error::known_text(known))]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// There is no such dead letter, or no longer.
    #[error("there is no dead letter {0:?}: it was settled meanwhile, or the view was rebuilt; list them again")]
    UnknownLetter(String),
    /// A name that no stream can have.
    #[error("no view or reactor has the name {0}")]
    Name(String),
    /// The reactor does not rest: it does not know from where to go on.
    #[error(
        "reactor {name} was not paused, it waits to be told which event is the first that it has not answered: say it with \
         `annals projections resume {name} --from POSITION`, or {{\"from\": \"POSITION\"}} over REST. {detail}"
    )]
    Waits {
        /// The reactor.
        name: String,
        /// Why it does not know.
        detail: String,
    },
    /// The view or reactor does not rest: it has stopped.
    #[error("{name} was not paused, it has stopped, and resuming it would change nothing: {detail}")]
    Stopped {
        /// The view or reactor.
        name: String,
        /// Why, and what to do about it.
        detail: String,
    },
    /// The decision has no reason, or too long a one.
    #[error("{0}")]
    Reason(String),
    /// The decision could not be written.
    #[error("the decision could not be written: {0}")]
    Encode(String),
    /// An event that says no decision about the view or reactor.
    #[error("{0}")]
    NoDecision(String),
}

/// What is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verb {
    /// What failed is tried again.
    Retry(What),
    /// What failed is passed by, for good.
    Skip(What),
    /// The view or reactor rests, also after a restart.
    Pause,
    /// It goes on.
    Resume,
}

/// What failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct What {
    /// The event.
    pub position: Position,
    /// The key, if it is known.
    pub key: Option<String>,
    /// Which of the event's commands, for a command of a reactor.
    pub number: Option<u32>,
}

/// A decision about a view or reactor, ready to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    name: String,
    version: Option<u32>,
    verb: Verb,
    reason: String,
    from: Option<Position>,
}

/// Longest reason in bytes.
const REASON_LEN_MAX: usize = 1_000;

impl Operation {
    /// A decision about the view of this version, or about a reactor. A skip needs a reason.
    pub fn new(name: &str, version: Option<u32>, verb: Verb, reason: &str) -> Result<Self, OperationError> {
        let reason = reason.trim();
        if reason.len() > REASON_LEN_MAX {
            let len = reason.len();
            let text = format!("the reason has {len} bytes, at most {REASON_LEN_MAX} are kept: say it shorter");
            return Err(OperationError::Reason(text));
        }
        if matches!(verb, Verb::Skip(_)) && reason.is_empty() {
            let text = "a skip needs a reason, because rows will lack the event for good: say why".to_owned();
            return Err(OperationError::Reason(text));
        }
        Ok(Self {
            name: name.to_owned(),
            version,
            verb,
            reason: reason.to_owned(),
            from: None,
        })
    }

    /// The decision about the view or reactor `name` that an event of this type and payload says, as another node sends
    /// it to be recorded.
    pub fn of_event(name: &str, event_type: &str, payload: Payload<'_>) -> Result<Self, OperationError> {
        let decoded = OperationEvent::decode(event_type, payload)
            .map_err(|error| OperationError::NoDecision(format!("the event says no decision: {error}")))?;
        let Some(event) = decoded else {
            let known: Vec<_> = OperationEvent::TYPES.iter().map(|known| known.name).collect();
            return Err(OperationError::NoDecision(format!(
                "{event_type:?} is no decision; there are: {}",
                known.join(", ")
            )));
        };
        if matches!(event, OperationEvent::ProjectionResumed { from: Some(_), .. }) {
            return Err(OperationError::NoDecision(
                "a reactor is told from where to go on at its own node: leave `from` out".to_owned(),
            ));
        }
        let said = event.said();
        if said.projection != name {
            return Err(OperationError::NoDecision(format!(
                "the event is about {:?}, not about {name:?}: send it there",
                said.projection
            )));
        }
        Self::new(name, said.version, said.verb, &said.reason)
    }

    /// Of a reactor that is resumed: told from where to go on.
    #[must_use]
    pub fn going_on_from(mut self, from: Position) -> Self {
        self.from = Some(from);
        self
    }

    /// The view or reactor that it is about.
    pub fn projection(&self) -> &str {
        &self.name
    }

    /// The append that records it, on behalf of whoever the metadata names.
    pub fn append(&self, metadata: Metadata) -> Result<Append, OperationError> {
        let event = self.event();
        let payload = event
            .encode()
            .map_err(|error| OperationError::Encode(error.to_string()))?;
        let new = NewEvent::new(event.event_type().name, payload);
        let mut append = Append::new(operation_stream(&self.name)?, vec![new]);
        append.metadata = metadata;
        Ok(append)
    }

    fn event(&self) -> OperationEvent {
        let (projection, reason) = (self.name.clone(), self.reason.clone());
        let version = self.version;
        match self.verb.clone() {
            Verb::Retry(What { position, key, number }) => OperationEvent::DeadLetterRetried {
                projection,
                version,
                position: position.get(),
                key,
                number,
                reason,
            },
            Verb::Skip(What { position, key, number }) => OperationEvent::DeadLetterSkipped {
                projection,
                version,
                position: position.get(),
                key,
                number,
                reason,
            },
            Verb::Pause => OperationEvent::ProjectionPaused { projection, reason },
            Verb::Resume => OperationEvent::ProjectionResumed {
                projection,
                reason,
                from: self.from.map(Position::get),
            },
        }
    }
}

/// As it stands in the log.
#[derive(Debug, Clone, PartialEq, Event)]
enum OperationEvent {
    DeadLetterRetried {
        projection: String,
        version: Option<u32>,
        position: u64,
        key: Option<String>,
        number: Option<u32>,
        reason: String,
    },
    DeadLetterSkipped {
        projection: String,
        version: Option<u32>,
        position: u64,
        key: Option<String>,
        number: Option<u32>,
        reason: String,
    },
    ProjectionPaused {
        projection: String,
        reason: String,
    },
    ProjectionResumed {
        projection: String,
        reason: String,
        /// From where a reactor was told to go on; absent for one that was only paused.
        from: Option<u64>,
    },
}

/// A decision as a worker meets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) verb: Verb,
    pub(crate) reason: String,
    /// Where it stands in the log.
    pub(crate) at: Position,
}

/// The decisions about one view or reactor, as far as they were read.
#[derive(Debug, Clone)]
pub(crate) struct Operations {
    stream: Option<StreamId>,
    version: Option<u32>,
    read: Version,
    /// Where the log ended when it was looked at last.
    looked: Option<Position>,
    skips: Skips,
    paused: bool,
}

impl Operations {
    /// Nothing is read yet.
    pub(crate) fn new(name: &str, version: Option<u32>) -> Self {
        Self {
            // Names of views and reactors are checked before they run, and all of them can stand in a stream's name.
            stream: operation_stream(name).ok(),
            version,
            read: Version::ZERO,
            looked: None,
            skips: Skips::default(),
            paused: false,
        }
    }

    /// Those that there are, read up to the head.
    pub(crate) fn of(log: &dyn EventLog, name: &str, version: Option<u32>) -> Result<Self, LogError> {
        let mut operations = Self::new(name, version);
        operations.read(log)?;
        Ok(operations)
    }

    /// Whether this is the stream that they stand in.
    pub(crate) fn are_in(&self, stream: &str) -> bool {
        stream.starts_with('$') && self.stream.as_ref().is_some_and(|own| own.as_str() == stream)
    }

    pub(crate) fn skips(&self) -> &Skips {
        &self.skips
    }

    pub(crate) fn paused(&self) -> bool {
        self.paused
    }

    /// Reads on, unless the log is where it was the last time. Returns what is new about this version.
    pub(crate) fn read(&mut self, log: &dyn EventLog) -> Result<Vec<Decided>, LogError> {
        let head = log.head();
        let Some(stream) = self.stream.clone().filter(|_| self.looked != Some(head)) else {
            return Ok(Vec::new());
        };
        let mut news = Vec::new();
        loop {
            let records = log.read_stream(&stream, self.read.next(), Direction::Forward, PAGE)?;
            let count = records.len();
            for record in records {
                let record = record.view()?;
                self.read = Version::new(record.header.version);
                // One that cannot be read was written by a newer program: what it says is not known here.
                let Ok(Some(event)) = Recorded::<OperationEvent>::decode(&record) else {
                    tracing::warn!(%stream, position = %record.position, "a decision cannot be read: upgrade");
                    continue;
                };
                news.extend(self.take(event.data().clone(), record.position));
            }
            if count < PAGE {
                break;
            }
        }
        self.looked = Some(head);
        Ok(news)
    }

    fn take(&mut self, event: OperationEvent, at: Position) -> Option<Decided> {
        let Said {
            verb, version, reason, ..
        } = event.said();
        let of_all_versions = matches!(verb, Verb::Pause | Verb::Resume);
        if !of_all_versions && version != self.version {
            return None;
        }
        match &verb {
            Verb::Skip(What {
                position,
                key,
                number: None,
            }) => self.skips.add(*position, key.clone()),
            Verb::Pause => self.paused = true,
            Verb::Resume => self.paused = false,
            Verb::Skip(_) | Verb::Retry(_) => {}
        }
        Some(Decided { verb, reason, at })
    }
}

/// What an event says.
struct Said {
    projection: String,
    version: Option<u32>,
    verb: Verb,
    reason: String,
}

impl OperationEvent {
    fn said(self) -> Said {
        let (projection, version, verb, reason) = match self {
            Self::DeadLetterRetried {
                projection,
                version,
                position,
                key,
                number,
                reason,
            } => (projection, version, Verb::Retry(what(position, key, number)), reason),
            Self::DeadLetterSkipped {
                projection,
                version,
                position,
                key,
                number,
                reason,
            } => (projection, version, Verb::Skip(what(position, key, number)), reason),
            Self::ProjectionPaused { projection, reason } => (projection, None, Verb::Pause, reason),
            Self::ProjectionResumed { projection, reason, .. } => (projection, None, Verb::Resume, reason),
        };
        Said {
            projection,
            version,
            verb,
            reason,
        }
    }
}

fn what(position: u64, key: Option<String>, number: Option<u32>) -> What {
    What {
        position: Position::new(position),
        key,
        number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use annals_core::CONTENT_TYPE_JSON;

    fn read(event_type: &str, data: &str) -> Result<Operation, OperationError> {
        let payload = Payload {
            content_type: CONTENT_TYPE_JSON,
            schema_version: 1,
            bytes: data.as_bytes(),
        };
        Operation::of_event("orders", event_type, payload)
    }

    #[test]
    fn a_decision_that_another_node_sends_is_recorded_as_it_was_taken() {
        let what = What {
            position: Position::new(7),
            key: Some("ord-1".into()),
            number: None,
        };
        let skip = Operation::new("orders", Some(2), Verb::Skip(what), "sent twice").unwrap();
        let append = skip.append(Metadata::default()).unwrap();
        let event = &append.events[0];
        let data = annals_core::to_json(&event.payload).unwrap().to_string();
        assert_eq!(read(&event.event_type, &data).unwrap(), skip);
        let pause = read("ProjectionPaused", r#"{"projection":"orders","reason":""}"#).unwrap();
        assert_eq!(pause, Operation::new("orders", None, Verb::Pause, "").unwrap());
    }

    #[test]
    fn what_is_no_decision_about_the_view_is_refused() {
        let refused = |event_type, data| read(event_type, data).unwrap_err().to_string();
        assert!(refused("OrderPlaced", "{}").contains("DeadLetterSkipped"));
        assert!(refused("ProjectionPaused", "{}").contains("no decision"));
        assert!(refused("ProjectionPaused", r#"{"projection":"payments","reason":""}"#).contains("payments"));
        let skip = r#"{"projection":"orders","version":1,"position":1,"key":null,"number":null,"reason":" "}"#;
        assert!(refused("DeadLetterSkipped", skip).contains("needs a reason"));
        let resumed = r#"{"projection":"orders","reason":"","from":1}"#;
        assert!(refused("ProjectionResumed", resumed).contains("at its own node"));
    }
}

//! One command being decided: known key first, then the state, then the decision, then the append.

use crate::beside::{read_beside, tags};
use crate::guard::{caught, caught_async};
use crate::handler::Call;
use crate::known::known_answer;
use crate::snapshots::Snapshots;
use crate::state::{Loaded, evolve, load};
use crate::{CommandError, CommandOutcome};
use annals_core::{
    Aggregate, Append, AppendCondition, AppendError, Appended, Appender, Catalog, Command, CommandKey, DecodeError,
    Event, Expected, InvalidCommand, NewEvent, StreamHead, Version,
};
use std::sync::Arc;
use tokio::sync::MutexGuard;

/// What an attempt came to.
pub(crate) enum Step {
    Done(CommandOutcome),
    /// The state was not the newest: try again with a new one.
    Stale,
}

/// The command, which `decide` consumes and another attempt needs again.
pub(crate) enum Pending<C> {
    /// As it was read.
    New(C),
    /// Prepared, and not decided yet: the command, and what it can be read from again.
    Prepared(C, Vec<u8>),
    /// Decided at least once.
    Decided(Vec<u8>),
    /// It was lost to a panic or rejected by `prepare`.
    Gone,
}

/// One command, and the right to decide it on this node.
pub(crate) struct Deciding<'a, A: Aggregate> {
    pub(crate) log: &'a Arc<dyn Appender>,
    pub(crate) catalog: &'a Arc<Catalog>,
    pub(crate) call: &'a Call,
    pub(crate) key: Option<CommandKey>,
    pub(crate) command: Pending<A::Command>,
    pub(crate) slot: MutexGuard<'a, Option<Loaded<A>>>,
    pub(crate) snapshots: Option<&'a Snapshots<A>>,
}

impl<A: Aggregate> Deciding<'_, A> {
    /// Tries once. Reads of the log are called right here although they may block: for a stream's head, a key and a
    /// page of a stream they are look-ups in memory or in the page cache, which take less than handing them over.
    pub(crate) async fn attempt(&mut self) -> Result<Step, CommandError> {
        let cached = self.slot.is_some();
        let head = match &*self.slot {
            Some(loaded) => loaded.head(),
            None => self.log.stream_head(&self.call.stream)?,
        };
        if let Some(outcome) = self.known(head)? {
            return Ok(Step::Done(outcome));
        }
        self.prepare().await?;
        // Taken out while it is in use, and put back only when it is known to be what the log says.
        let loaded = match (self.slot.take(), head) {
            (Some(loaded), _) => loaded,
            (None, None) => Loaded::default(),
            (None, Some(head)) => load(self.log, &self.call.stream, head, self.snapshots).await?,
        };
        let decided = self.decide(&loaded).await;
        match decided {
            Ok((events, condition)) if !events.is_empty() => self.append(loaded, events, condition).await,
            // No append will check these against the log, so it is done here.
            Ok(_) | Err(CommandError::Rejected(_) | CommandError::VersionConflict { .. })
                if cached && !self.is_newest(&loaded)? =>
            {
                Ok(Step::Stale)
            }
            Ok(_) => {
                let outcome = self.unchanged(&loaded);
                *self.slot = Some(loaded);
                Ok(Step::Done(outcome))
            }
            Err(error) => {
                if !matches!(error, CommandError::Panicked { .. }) {
                    *self.slot = Some(loaded);
                }
                Err(error)
            }
        }
    }

    /// The first answer, if the key is known. A stream without events knows none.
    fn known(&self, head: Option<StreamHead>) -> Result<Option<CommandOutcome>, CommandError> {
        match (&self.key, head) {
            (Some(key), Some(_)) => known_answer(self.log.as_ref(), &self.call.stream, key),
            _ => Ok(None),
        }
    }

    async fn prepare(&mut self) -> Result<(), CommandError> {
        let command = match std::mem::replace(&mut self.command, Pending::Gone) {
            Pending::New(command) => command,
            other => {
                self.command = other;
                return Ok(());
            }
        };
        let prepared = caught_async(A::prepare(command))
            .await
            .map_err(|detail| self.panicked("prepare", detail))??;
        let bytes = prepared.to_msgpack()?;
        self.command = Pending::Prepared(prepared, bytes);
        Ok(())
    }

    fn next_command(&mut self) -> Result<A::Command, CommandError> {
        let again = |bytes: &[u8]| A::Command::from_msgpack(&self.call.command, bytes);
        let (command, bytes) = match std::mem::replace(&mut self.command, Pending::Gone) {
            Pending::Prepared(command, bytes) => (command, bytes),
            Pending::Decided(bytes) => (again(&bytes)?, bytes),
            Pending::New(_) | Pending::Gone => {
                return Err(CommandError::Invalid(InvalidCommand::Body {
                    command: self.call.command.clone(),
                    detail: "it could not be prepared".into(),
                }));
            }
        };
        self.command = Pending::Decided(bytes);
        Ok(command)
    }

    /// The events of the command, and the condition under which they may be appended if it depends on other streams.
    async fn decide(&mut self, loaded: &Loaded<A>) -> Result<(Vec<A::Event>, Option<AppendCondition>), CommandError> {
        let expected_version = match self.call.expected {
            Expected::Any => loaded.version,
            Expected::None => Version::ZERO,
            Expected::Exact(version) => version,
        };
        if expected_version != loaded.version {
            return Err(CommandError::VersionConflict {
                stream: self.call.stream.clone(),
                expected: self.call.expected,
                actual: loaded.version,
            });
        }
        let command = self.next_command()?;
        let id = self.call.stream.id();
        let model = caught(|| A::check_id(id, &command).map(|()| A::beside(id, &command)))
            .map_err(|detail| self.panicked("beside", detail))??;
        let Some(model) = model else {
            let decided = caught(|| loaded.state.decide(command)).map_err(|detail| self.panicked("decide", detail))?;
            return Ok((decided?, None));
        };
        let (model, condition) = read_beside(self.log, self.catalog, self.call, model).await?;
        let decided =
            caught(|| model.decide(&loaded.state, command)).map_err(|detail| self.panicked("decide", detail))?;
        Ok((decided?, Some(condition)))
    }

    fn is_newest(&self, loaded: &Loaded<A>) -> Result<bool, CommandError> {
        let head = self.log.stream_head(&self.call.stream)?;
        Ok(head.map_or(Version::ZERO, |head| head.version) == loaded.version)
    }

    async fn append(
        &mut self,
        loaded: Loaded<A>,
        events: Vec<A::Event>,
        condition: Option<AppendCondition>,
    ) -> Result<Step, CommandError> {
        let new: Vec<NewEvent> = events
            .iter()
            .map(|event| self.new_event(event))
            .collect::<Result<_, _>>()?;
        let bytes = new.iter().map(|event| event.payload.len()).sum();
        let append = Append {
            stream: self.call.stream.clone(),
            expected: match loaded.version {
                Version::ZERO => Expected::None,
                version => Expected::Exact(version),
            },
            events: new,
            metadata: self.call.metadata.clone(),
            command: self.key.clone(),
            condition,
        };
        match self.log.append(append).await {
            Ok(appended) => {
                if !appended.duplicate {
                    *self.slot = self.evolved(loaded, &events, bytes, &appended);
                }
                Ok(Step::Done(self.outcome(appended)))
            }
            // What it depends on changed, the stream itself did not: its version is looked at first.
            Err(AppendError::ConditionFailed { .. } | AppendError::ConditionOutrun { .. }) => {
                *self.slot = Some(loaded);
                Ok(Step::Stale)
            }
            Err(AppendError::VersionConflict { .. }) if self.call.expected == Expected::Any => Ok(Step::Stale),
            Err(error) => Err(error.into()),
        }
    }

    /// The state with the new events in it. `None` if it cannot be had: it is then read from the log, which says why.
    fn evolved(
        &self,
        mut loaded: Loaded<A>,
        events: &[A::Event],
        bytes: usize,
        appended: &Appended,
    ) -> Option<Loaded<A>> {
        for event in events {
            evolve(&mut loaded, &self.call.stream, event)
                .inspect_err(|error| tracing::error!(%error, "a recorded event cannot be folded"))
                .ok()?;
        }
        loaded.count(events.len(), bytes);
        let version = loaded.version.plus(events.len() as u64);
        loaded.version = version;
        loaded.position = appended.position;
        (version == appended.version).then_some(loaded)
    }

    fn new_event(&self, event: &A::Event) -> Result<NewEvent, CommandError> {
        let known = event.event_type();
        let payload = event.encode().map_err(|error| self.unwritable(&error))?;
        let mut new = NewEvent::new(known.name, payload);
        new.schema_version = known.version;
        new.tags = tags(self.log.as_ref(), &event.tags())?;
        new.occurred_at = self.call.occurred_at;
        Ok(new)
    }

    fn outcome(&self, appended: Appended) -> CommandOutcome {
        CommandOutcome {
            stream: self.call.stream.clone(),
            version: appended.version,
            position: appended.position,
            events: appended.events,
            duplicate: appended.duplicate,
        }
    }

    fn unchanged(&self, loaded: &Loaded<A>) -> CommandOutcome {
        CommandOutcome {
            stream: self.call.stream.clone(),
            version: loaded.version,
            position: loaded.position,
            events: Vec::new(),
            duplicate: false,
        }
    }

    fn panicked(&self, code: &'static str, detail: String) -> CommandError {
        CommandError::Panicked {
            stream: self.call.stream.clone(),
            code,
            detail,
        }
    }

    fn unwritable(&self, error: &DecodeError) -> CommandError {
        CommandError::Unwritable {
            stream: self.call.stream.clone(),
            command: self.call.command.clone(),
            detail: error.to_string(),
        }
    }
}

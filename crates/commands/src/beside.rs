//! What a command depends on beside its stream: the model is folded from the log here, and tags of personal values are
//! keyed here, those of new events and those that are asked for alike.

use crate::CommandError;
use crate::guard::caught;
use crate::handler::Call;
use annals_core::{
    Aggregate, AppendCondition, Appender, Beside, Catalog, EventQuery, EventTag, LogError, Position, Record, Rejection,
    Tag,
};
use std::sync::Arc;

/// How many records are read at a time; what takes more than one page is read on a thread that may block.
const PAGE_RECORDS: usize = 256;

/// Tags as they stand in this log, each once. Their values come from the command's fields, so if one cannot be a tag it
/// is the command that cannot be accepted.
pub(crate) fn tags<L: Appender + ?Sized>(log: &L, tags: &[EventTag]) -> Result<Vec<Tag>, Rejection> {
    let mut written: Vec<Tag> = Vec::with_capacity(tags.len());
    for tag in tags {
        let tag = tag
            .to_tag(|key, value| log.personal_tag(key, value))
            .map_err(|error| Rejection {
                code: "invalid-tag".into(),
                message: error.to_string(),
            })?;
        if !written.contains(&tag) {
            written.push(tag);
        }
    }
    Ok(written)
}

/// The model with all events of its boundary in it, and the condition that none came since.
pub(crate) async fn read_beside<A: Aggregate>(
    log: &Arc<dyn Appender>,
    catalog: &Arc<Catalog>,
    call: &Call,
    model: Beside<A>,
) -> Result<(Beside<A>, AppendCondition), CommandError> {
    let stream = &call.stream;
    let panicked = |detail| CommandError::Panicked {
        stream: stream.clone(),
        code: "beside",
        detail,
    };
    let boundary = caught(|| model.boundary()).map_err(panicked)?;
    let types = boundary.types().iter().map(|name| (*name).into()).collect();
    let query = EventQuery::new(types, tags(log.as_ref(), boundary.tags())?);
    let query = query.map_err(|error| CommandError::Unwritable {
        stream: stream.clone(),
        command: call.command.clone(),
        detail: format!("its boundary cannot be asked for: {error}"),
    })?;
    let mut reading = Reading {
        model,
        query,
        reached: Position::ZERO,
    };
    // One page is a look-up in memory or in the page cache, which takes less than handing it over.
    if !reading.page(log, catalog, call)? {
        let (log, catalog, owned) = (Arc::clone(log), Arc::clone(catalog), call.stream.clone());
        let rest = tokio::task::spawn_blocking(move || {
            while !reading.next(&log, &catalog).map_err(|error| error.at(&owned))? {}
            Ok::<_, CommandError>(reading)
        });
        reading = rest.await.map_err(|error| panicked(error.to_string()))??;
    }
    let condition = AppendCondition {
        query: reading.query,
        after: reading.reached,
    };
    Ok((reading.model, condition))
}

/// A model on its way through the log.
struct Reading<A: Aggregate> {
    model: Beside<A>,
    query: EventQuery,
    reached: Position,
}

/// Why a record could not be folded.
enum Unfolded {
    Log(LogError),
    Event(Position, annals_core::DecodeError),
    Panicked(String),
}

impl Unfolded {
    fn at(self, stream: &annals_core::StreamId) -> CommandError {
        let stream = stream.clone();
        match self {
            Self::Log(error) => error.into(),
            Self::Event(position, error) => CommandError::Undecodable {
                stream,
                position,
                error,
            },
            Self::Panicked(detail) => CommandError::Panicked {
                stream,
                code: "evolve",
                detail,
            },
        }
    }
}

impl<A: Aggregate> Reading<A> {
    fn page(&mut self, log: &Arc<dyn Appender>, catalog: &Catalog, call: &Call) -> Result<bool, CommandError> {
        self.next(log, catalog).map_err(|error| error.at(&call.stream))
    }

    /// Folds the next page; true if there is no further one.
    fn next(&mut self, log: &Arc<dyn Appender>, catalog: &Catalog) -> Result<bool, Unfolded> {
        let found = log.read_matching(&self.query, self.reached, PAGE_RECORDS);
        let found = found.map_err(Unfolded::Log)?;
        for record in &found.records {
            self.fold(catalog, record)?;
        }
        self.reached = found.reached;
        Ok(found.records.len() < PAGE_RECORDS)
    }

    fn fold(&mut self, catalog: &Catalog, record: &Record) -> Result<(), Unfolded> {
        let view = record.view().map_err(|error| Unfolded::Log(error.into()))?;
        caught(|| self.model.apply(catalog, &view))
            .map_err(Unfolded::Panicked)?
            .map_err(|error| Unfolded::Event(record.position(), error))
    }
}

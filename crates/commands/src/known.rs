//! Commands that the log already knows by their idempotency key: their answer is rebuilt from the log.

use crate::{CommandError, CommandOutcome};
use annals_core::{
    AppendedEvent, CommandKey, Direction, EventLog, LogError, MalformedRecord, Position, Record, StreamId, Version,
};

/// The answer that the command with this key got the first time; `None` if the key is new in the stream.
pub(crate) fn known_answer<L: EventLog + ?Sized>(
    log: &L,
    stream: &StreamId,
    key: &CommandKey,
) -> Result<Option<CommandOutcome>, CommandError> {
    let Some(position) = log.find_command(stream, &key.key)? else {
        return Ok(None);
    };
    let first = log.read_one(position)?.ok_or_else(|| missing(position))?;
    let first = first.view().map_err(LogError::from)?;
    if first.header.fingerprint != Some(key.fingerprint) {
        return Err(CommandError::KeyReused {
            stream: stream.clone(),
            key: key.key.clone(),
            position,
        });
    }
    let count = first.header.place.count as usize;
    let from = Version::new(first.header.version);
    let records = log.read_stream(stream, from, Direction::Forward, count)?;
    if records.len() != count {
        return Err(missing(position.plus(records.len() as u64)).into());
    }
    let events: Vec<AppendedEvent> = records
        .iter()
        .map(appended)
        .collect::<Result<_, _>>()
        .map_err(LogError::from)?;
    Ok(Some(CommandOutcome {
        stream: stream.clone(),
        version: from.plus(count as u64).previous(),
        position: events.last().map_or(position, |event| event.position),
        events,
        duplicate: true,
    }))
}

fn appended(record: &Record) -> Result<AppendedEvent, MalformedRecord> {
    let record = record.view()?;
    Ok(AppendedEvent {
        id: record.header.id.to_owned(),
        event_type: record.header.event_type.to_owned().into(),
        position: record.position,
    })
}

fn missing(position: Position) -> LogError {
    LogError::Damaged {
        position,
        detail: "the index names an event of a command here, and the log has none".into(),
    }
}

//! Decides whether an append is accepted and which places its events get. Pure: what is known of the log comes in
//! through [`Known`], so both engines follow the same rules.

use annals_core::{
    APPEND_BYTES_MAX, APPEND_EVENTS_MAX, Append, AppendCondition, AppendError, Appended, AppendedEvent, Block, EventId,
    EventIdRef, EventQuery, Expected, HEADER_LEN_MAX, Header, LogError, NewEvent, PlaceInAppend, Position, Record,
    StreamHead, StreamId, Version,
};
use std::collections::HashSet;

/// Longest text of one metadata field in bytes.
const FIELD_LEN_MAX: usize = 1024;
/// Longest event type in bytes.
const EVENT_TYPE_LEN_MAX: usize = 256;

/// What the writer knows of the log, pending appends of the same group included.
pub(crate) trait Known {
    fn stream_head(&self, stream: &StreamId) -> Result<Option<StreamHead>, LogError>;
    fn find_command(&self, stream: &StreamId, key: &str) -> Result<Option<Position>, LogError>;
    fn find_appended(&self, stream: &StreamId, source: &str, id: &EventId) -> Result<Option<Position>, LogError>;
    fn record(&self, position: Position) -> Result<Option<Record>, LogError>;
    fn first_match(&self, query: &EventQuery, after: Position) -> Result<Matched, LogError>;
}

/// Whether an event after a position matches a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Matched {
    No,
    /// One that does is here.
    At(Position),
    /// It reaches further back than what is known.
    Unknown,
}

/// What becomes of an append that is not refused.
pub(crate) enum Admission {
    /// It was appended before.
    Known(Appended),
    /// Its events follow the stream's version `after`. Events that the log already has are named with their places.
    New {
        after: Version,
        known: Vec<Option<Position>>,
    },
    /// Its condition reaches further back than what is known here: it must be checked again, up to a later position.
    Outrun,
}

/// Checks what needs no knowledge of the log; returns about how many bytes the append takes.
pub(crate) fn check_bounds(append: &Append) -> Result<usize, AppendError> {
    let count = append.events.len();
    if count == 0 || count > APPEND_EVENTS_MAX {
        return Err(AppendError::Invalid(format!(
            "an append has 1 to {APPEND_EVENTS_MAX} events, this one has {count}"
        )));
    }
    let meta = &append.metadata;
    let fields = [&meta.actor, &meta.correlation_id, &meta.causation_id, &meta.traceparent];
    if fields.into_iter().flatten().any(|text| text.len() > FIELD_LEN_MAX) {
        return Err(AppendError::Invalid(format!(
            "actor, ids and traceparent have at most {FIELD_LEN_MAX} bytes each"
        )));
    }
    let shared: usize = fields.into_iter().flatten().map(String::len).sum();
    let mut bytes = 0;
    for event in &append.events {
        let header = shared + append.stream.as_str().len() + header_len(event);
        if header > HEADER_LEN_MAX {
            let kind = &event.event_type;
            return Err(AppendError::Invalid(format!(
                "what describes event {kind} takes {header} bytes, at most {HEADER_LEN_MAX}: shorten its extensions or tags"
            )));
        }
        bytes += Block::record_len(header, event.payload.len());
        check_event(event)?;
    }
    // The texts of field names are not the caller's: only what was given counts against the bound.
    let given: usize = append
        .events
        .iter()
        .map(|event| event.payload.len() + texts_len(event))
        .sum();
    bytes += append.condition.as_ref().map_or(0, condition_len);
    if given > APPEND_BYTES_MAX {
        Err(AppendError::TooLarge { bytes: given })
    } else {
        Ok(bytes)
    }
}

fn condition_len(condition: &AppendCondition) -> usize {
    let tags = condition.query.tags().iter().map(|tag| tag.as_str().len());
    let types = condition.query.types().iter().map(|kind| kind.len());
    tags.chain(types).sum()
}

/// A condition's position is one that its caller has read, so it is not beyond the durable head.
pub(crate) fn check_condition(condition: &AppendCondition, head: Position) -> Result<(), AppendError> {
    if condition.after <= head {
        return Ok(());
    }
    Err(AppendError::Invalid(format!(
        "the append's condition speaks of what comes after position {}, and the log ends at {head}: name a position that \
         was read from this log",
        condition.after
    )))
}

fn check_event(event: &NewEvent) -> Result<(), AppendError> {
    let kind = &event.event_type;
    let valid = (1..=EVENT_TYPE_LEN_MAX).contains(&kind.len()) && !kind.chars().any(char::is_control);
    if !valid {
        return Err(AppendError::Invalid(format!(
            "an event type has 1 to {EVENT_TYPE_LEN_MAX} bytes without control characters"
        )));
    }
    if event.extensions.len() > annals_core::EXTENSIONS_MAX {
        let max = annals_core::EXTENSIONS_MAX;
        return Err(AppendError::Invalid(format!(
            "event {kind} has more than {max} extensions"
        )));
    }
    if event.tags.len() > annals_core::TAGS_MAX {
        return Err(AppendError::Invalid(format!(
            "event {kind} has more than {} tags",
            annals_core::TAGS_MAX
        )));
    }
    Ok(())
}

fn texts_len(event: &NewEvent) -> usize {
    let options = [event.source.as_ref(), event.dataschema.as_ref()];
    event.event_type.len()
        + event.content_type.len()
        + event.tags.iter().map(|tag| tag.as_str().len()).sum::<usize>()
        + options.into_iter().flatten().map(String::len).sum::<usize>()
        + event
            .extensions
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum::<usize>()
}

/// An upper bound of the header's length without what all events of the append share.
fn header_len(event: &NewEvent) -> usize {
    // 256 for the field names, 128 for an id, 255 for a key, 5 for each length in front of a text.
    640 + texts_len(event) + 5 * (event.tags.len() + 2 * event.extensions.len())
}

/// Decides an append. The order of the checks is part of the contract: a known key answers before the expected version
/// is looked at, and that before the condition.
pub(crate) fn admit(append: &Append, known: &dyn Known, own_source: &str) -> Result<Admission, AppendError> {
    let log = AppendError::Log;
    if let Some(appended) = known_command(append, known)? {
        return Ok(Admission::Known(appended));
    }
    let already = known_events(append, known, own_source)?;
    let head = known.stream_head(&append.stream).map_err(log)?;
    let version = head.map_or(Version::ZERO, |head| head.version);
    if already.iter().all(Option::is_some) {
        return repeat(append, &already, known).map(Admission::Known);
    }
    let fits = match append.expected {
        Expected::Any => true,
        Expected::None => version == Version::ZERO,
        Expected::Exact(expected) => version == expected,
    };
    if !fits {
        let (stream, expected) = (append.stream.clone(), append.expected);
        return Err(AppendError::VersionConflict {
            stream,
            expected,
            actual: version,
        });
    }
    if let Some(AppendCondition { query, after }) = &append.condition {
        match known.first_match(query, *after).map_err(log)? {
            Matched::No => {}
            Matched::At(position) => {
                return Err(AppendError::ConditionFailed {
                    position,
                    after: *after,
                });
            }
            Matched::Unknown => return Ok(Admission::Outrun),
        }
    }
    Ok(Admission::New {
        after: version,
        known: already,
    })
}

fn known_command(append: &Append, known: &dyn Known) -> Result<Option<Appended>, AppendError> {
    let log = AppendError::Log;
    let Some(command) = &append.command else {
        return Ok(None);
    };
    let Some(first) = known.find_command(&append.stream, &command.key).map_err(log)? else {
        return Ok(None);
    };
    let missing = || no_record(first);
    let record = known.record(first).map_err(log)?.ok_or_else(missing)?;
    let view = record.view().map_err(|error| log(error.into()))?;
    if view.header.fingerprint != Some(command.fingerprint) {
        let (stream, key) = (append.stream.clone(), command.key.clone());
        return Err(AppendError::KeyReused {
            stream,
            key,
            position: first,
        });
    }
    let count = u64::from(view.header.place.count);
    let mut appended = Appended {
        version: Version::new(view.header.version + count - 1),
        position: first.plus(count - 1),
        events: Vec::with_capacity(count as usize),
        duplicate: true,
    };
    for position in first.get()..first.get() + count {
        let record = known
            .record(Position::new(position))
            .map_err(log)?
            .ok_or_else(missing)?;
        let view = record.view().map_err(|error| log(error.into()))?;
        appended.events.push(AppendedEvent {
            id: view.header.id.to_owned(),
            event_type: view.header.event_type.to_owned().into(),
            position: view.position,
        });
    }
    Ok(Some(appended))
}

/// An index or an append said that there is a record.
fn no_record(position: Position) -> AppendError {
    let detail = "there is no record".into();
    AppendError::Log(LogError::Damaged { position, detail })
}

fn known_events(append: &Append, known: &dyn Known, own_source: &str) -> Result<Vec<Option<Position>>, AppendError> {
    let mut seen = HashSet::new();
    let mut already = Vec::with_capacity(append.events.len());
    for event in &append.events {
        let Some(id) = &event.id else {
            already.push(None);
            continue;
        };
        let source = event.source.as_deref().unwrap_or(own_source);
        if !seen.insert((source, id)) {
            return Err(AppendError::Invalid(format!(
                "event id {id} stands twice in one append: give each its own id"
            )));
        }
        let found = known.find_appended(&append.stream, source, id);
        already.push(found?);
    }
    Ok(already)
}

/// The answer to an append whose events are all in the log, as it was the first time.
fn repeat(append: &Append, already: &[Option<Position>], known: &dyn Known) -> Result<Appended, AppendError> {
    let log = AppendError::Log;
    let pairs = append.events.iter().zip(already);
    let events: Vec<AppendedEvent> = pairs
        .filter_map(|(event, position)| {
            let (id, event_type) = (event.id.clone()?, event.event_type.clone());
            Some(AppendedEvent {
                id,
                event_type,
                position: (*position)?,
            })
        })
        .collect();
    let position = events.iter().map(|event| event.position).max().unwrap_or_default();
    let missing = || no_record(position);
    let record = known.record(position).map_err(log)?.ok_or_else(missing)?;
    let version = Version::new(record.view().map_err(|error| log(error.into()))?.header.version);
    Ok(Appended {
        version,
        position,
        events,
        duplicate: true,
    })
}

/// Where the events of an accepted append stand, and what they are stamped with.
pub(crate) struct Stamp<'a> {
    /// Place of the first new event in the log.
    pub first: Position,
    /// Version of the stream before it.
    pub after: Version,
    /// For each event its place if the log already has it.
    pub known: &'a [Option<Position>],
    /// Recorded time, microseconds since 1970.
    pub recorded: i64,
    /// Name of this log's own source.
    pub own_source: &'a str,
}

/// Encodes the new events of an accepted append; `push` gets header and payload of each in order.
pub(crate) fn encode(
    append: &Append,
    stamp: &Stamp<'_>,
    mut new_id: impl FnMut() -> EventId,
    mut push: impl FnMut(&Header<'_>, &[u8], &[u8]),
) -> Appended {
    let count = stamp.known.iter().filter(|known| known.is_none()).count() as u32;
    let mut appended = Appended {
        version: stamp.after.plus(u64::from(count)),
        position: stamp.first.plus(u64::from(count)).previous(),
        events: Vec::with_capacity(append.events.len()),
        duplicate: false,
    };
    let mut first_id = None;
    let (mut index, mut bytes) = (0, Vec::with_capacity(256));
    for (event, known) in append.events.iter().zip(stamp.known) {
        let id = event.id.clone().unwrap_or_else(&mut new_id);
        let place = known.unwrap_or_else(|| stamp.first.plus(u64::from(index)));
        if known.is_none() {
            index += 1;
            let correlation = append.metadata.correlation_id.as_deref().or(first_id.as_deref());
            let header = header_of(append, event, &id, stamp, PlaceInAppend { index, count }, correlation);
            bytes.clear();
            header.encode(&mut bytes);
            push(&header, &bytes, &event.payload);
            if count > 1 && first_id.is_none() {
                first_id = Some(id.to_string());
            }
        }
        appended.events.push(AppendedEvent {
            id,
            event_type: event.event_type.clone(),
            position: place,
        });
    }
    appended
}

fn header_of<'a>(
    append: &'a Append,
    event: &'a NewEvent,
    id: &'a EventId,
    stamp: &Stamp<'a>,
    place: PlaceInAppend,
    correlation: Option<&'a str>,
) -> Header<'a> {
    let version = stamp.after.get() + u64::from(place.index);
    let mut header = Header::new(
        append.stream.as_str(),
        version,
        EventIdRef::from(id),
        &event.event_type,
        stamp.recorded,
    );
    let meta = &append.metadata;
    header.schema = event.schema_version;
    header.occurred = event.occurred_at.map(|time| time.timestamp_micros());
    header.tags = event.tags.iter().map(annals_core::Tag::as_str).collect();
    header.correlation = correlation;
    header.causation = meta.causation_id.as_deref();
    header.actor = meta.actor.as_deref();
    header.traceparent = meta.traceparent.as_deref();
    if let (1, Some(command)) = (place.index, &append.command) {
        header.key = Some(&command.key);
        header.fingerprint = Some(command.fingerprint);
    }
    header.place = place;
    header.content_type = &event.content_type;
    // Written also if it is this log's own, for events that came with an id: it says that they can be found by it.
    header.source = event
        .source
        .as_deref()
        .or(event.id.is_some().then_some(stamp.own_source));
    header.dataschema = event.dataschema.as_deref();
    header.extensions = event
        .extensions
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    header
}

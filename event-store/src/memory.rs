//! The engine in memory: the model that every other engine is compared with. Keeps nothing when dropped.

use crate::admission::{Admission, Known, Matched, Stamp, admit, check_bounds, check_condition, encode};
use crate::clock::LogClock;
use crate::event_ids::EventIds;
use crate::head::DurableHead;
use crate::secret::LogSecret;
use annals_core::{
    Append, AppendError, Appended, Appender, Block, BoxFuture, Direction, Epoch, EventId, EventLog, EventQuery,
    Fingerprint, LogError, Position, Record, RecordRef, StreamHead, StreamId, Version,
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many records a block of this engine holds at most.
const BLOCK_RECORDS: usize = 256;

/// A log in memory.
#[derive(Clone)]
pub struct MemoryLog {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    own_source: String,
    epoch: Epoch,
    secret: LogSecret,
    head: DurableHead,
    state: Mutex<State>,
}

struct State {
    records: Vec<(i64, Bytes, Bytes)>,
    streams: HashMap<StreamId, Vec<Position>>,
    commands: HashMap<(StreamId, String), Position>,
    appended: HashMap<(StreamId, String, EventId), Position>,
    ids: HashMap<EventId, Position>,
    clock: LogClock,
    event_ids: EventIds,
}

impl MemoryLog {
    /// An empty log of this name.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        let state = State {
            records: Vec::new(),
            streams: HashMap::new(),
            commands: HashMap::new(),
            appended: HashMap::new(),
            ids: HashMap::new(),
            clock: LogClock::new(0),
            event_ids: EventIds::new(),
        };
        let shared = Shared {
            own_source: format!("annals/{name}"),
            name,
            epoch: Epoch::random(),
            secret: LogSecret::random(),
            head: DurableHead::default(),
            state: Mutex::new(state),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Sets the log's clock ahead, as if so much time had gone by: for tests of what happens later.
    pub fn advance(&self, by: Duration) {
        self.state().clock.advance(by);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held leaves whole records only: they are pushed after everything that can fail.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append_now(&self, append: &Append) -> Result<Appended, AppendError> {
        check_bounds(append)?;
        let mut state = self.state();
        if let Some(condition) = &append.condition {
            check_condition(condition, Position::new(state.records.len() as u64))?;
        }
        let recorded = state.clock.now()?;
        let (after, known) = match admit(append, &*state, &self.shared.own_source)? {
            Admission::Known(appended) => return Ok(appended),
            Admission::New { after, known } => (after, known),
            // This engine knows all events, so nothing outruns it.
            Admission::Outrun => return Err(AppendError::ConditionOutrun { attempts: 1 }),
        };
        let first = Position::new(state.records.len() as u64 + 1);
        let stamp = Stamp {
            first,
            after,
            known: &known,
            recorded,
            own_source: &self.shared.own_source,
        };
        let State { records, event_ids, .. } = &mut *state;
        let appended = encode(
            append,
            &stamp,
            || event_ids.next(recorded),
            |_, header, payload| {
                records.push((
                    recorded,
                    Bytes::copy_from_slice(header),
                    Bytes::copy_from_slice(payload),
                ));
            },
        );
        state.remember(append, &appended, &known, &self.shared.own_source);
        let head = Position::new(state.records.len() as u64);
        // While the lock is held: a later append must not be overtaken, or the head would step back.
        self.shared.head.advance(head);
        drop(state);
        Ok(appended)
    }
}

impl State {
    fn remember(&mut self, append: &Append, appended: &Appended, known: &[Option<Position>], own_source: &str) {
        let new = appended
            .events
            .iter()
            .zip(&append.events)
            .zip(known)
            .filter(|(_, known)| known.is_none());
        for ((placed, event), _) in new {
            self.streams
                .entry(append.stream.clone())
                .or_default()
                .push(placed.position);
            self.ids.entry(placed.id.clone()).or_insert(placed.position);
            if let Some(id) = &event.id {
                let source = event.source.clone().unwrap_or_else(|| own_source.to_owned());
                self.appended
                    .insert((append.stream.clone(), source, id.clone()), placed.position);
            }
        }
        // The key stands on the first event that is new, as it does in the record.
        let first = appended.events.iter().zip(known).find(|(_, known)| known.is_none());
        if let (Some(command), Some((first, _))) = (&append.command, first) {
            self.commands
                .insert((append.stream.clone(), command.key.clone()), first.position);
        }
    }
}

impl Known for State {
    fn stream_head(&self, stream: &StreamId) -> Result<Option<StreamHead>, LogError> {
        let positions = self.streams.get(stream);
        Ok(positions.and_then(|positions| {
            let position = *positions.last()?;
            Some(StreamHead {
                version: Version::new(positions.len() as u64),
                position,
            })
        }))
    }

    fn find_command(&self, stream: &StreamId, key: &str) -> Result<Option<Position>, LogError> {
        Ok(self.commands.get(&(stream.clone(), key.to_owned())).copied())
    }

    fn find_appended(&self, stream: &StreamId, source: &str, id: &EventId) -> Result<Option<Position>, LogError> {
        Ok(self
            .appended
            .get(&(stream.clone(), source.to_owned(), id.clone()))
            .copied())
    }

    fn record(&self, position: Position) -> Result<Option<Record>, LogError> {
        let index = position.get().checked_sub(1).map(|index| index as usize);
        let record = index.and_then(|index| self.records.get(index));
        Ok(record.map(|(_, header, payload)| Record::new(position, header.clone(), payload.clone())))
    }

    fn first_match(&self, query: &EventQuery, after: Position) -> Result<Matched, LogError> {
        for (index, (_, header, payload)) in self.records.iter().enumerate().skip(after.get() as usize) {
            let position = Position::new(index as u64 + 1);
            if query.matches_record(&RecordRef::decode(position, header, payload)?) {
                return Ok(Matched::At(position));
            }
        }
        Ok(Matched::No)
    }
}

impl EventLog for MemoryLog {
    fn name(&self) -> &str {
        &self.shared.name
    }

    fn engine(&self) -> &'static str {
        "memory"
    }

    fn epoch(&self) -> Epoch {
        self.shared.epoch
    }

    fn head(&self) -> Position {
        self.shared.head.get()
    }

    fn wait_beyond(&self, position: Position, timeout: Duration) -> Position {
        self.shared.head.wait_beyond(position, timeout)
    }

    fn read(&self, after: Position, bytes_max: usize) -> Result<Vec<Block>, LogError> {
        let state = self.state();
        let (mut blocks, mut size, mut next) = (Vec::new(), 0, after.get() as usize);
        while next < state.records.len() && (size < bytes_max || blocks.is_empty()) {
            let (mut bytes, mut count, first) = (Vec::new(), 0, next);
            while next < state.records.len() && count < BLOCK_RECORDS && (size < bytes_max || count == 0) {
                let (_, header, payload) = &state.records[next];
                size += Block::record_len(header.len(), payload.len());
                Block::push_record(&mut bytes, header, payload);
                (count, next) = (count + 1, next + 1);
            }
            blocks.push(Block::new(Position::new(first as u64 + 1), count as u64, bytes.into()));
        }
        Ok(blocks)
    }

    fn read_stream(
        &self,
        stream: &StreamId,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Record>, LogError> {
        let state = self.state();
        let Some(positions) = state.streams.get(stream) else {
            return Ok(Vec::new());
        };
        let record = |position: &Position| state.record(*position).ok().flatten();
        let from = from.get() as usize;
        Ok(match direction {
            Direction::Forward => positions
                .iter()
                .skip(from.saturating_sub(1))
                .take(limit)
                .filter_map(record)
                .collect(),
            Direction::Backward => positions
                .iter()
                .take(from)
                .rev()
                .take(limit)
                .filter_map(record)
                .collect(),
        })
    }

    fn stream_head(&self, stream: &StreamId) -> Result<Option<StreamHead>, LogError> {
        Known::stream_head(&*self.state(), stream)
    }

    fn find_command(&self, stream: &StreamId, key: &str) -> Result<Option<Position>, LogError> {
        Known::find_command(&*self.state(), stream, key)
    }

    fn find_event(&self, id: &EventId) -> Result<Option<Position>, LogError> {
        Ok(self.state().ids.get(id).copied())
    }

    fn now(&self) -> Option<DateTime<Utc>> {
        self.state().clock.now().ok().map(annals_core::time)
    }

    fn position_at(&self, time: DateTime<Utc>) -> Result<Position, LogError> {
        let micros = time.timestamp_micros();
        Ok(Position::new(
            self.state()
                .records
                .partition_point(|(recorded, ..)| *recorded <= micros) as u64,
        ))
    }
}

impl Appender for MemoryLog {
    fn append(&self, append: Append) -> BoxFuture<'static, Result<Appended, AppendError>> {
        let result = self.append_now(&append);
        Box::pin(std::future::ready(result))
    }

    fn fingerprint(&self, command: &[u8]) -> Fingerprint {
        self.shared.secret.fingerprint(command)
    }
}

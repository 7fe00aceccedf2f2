//! The log of a running server as an [`EventLog`]: blocks over HTTP, each checked before it is used. Reads only.

use crate::http::{Server, path_part, position};
use annals_core::{
    Block, Direction, Epoch, EventId, EventLog, LogError, Position, Record, StreamHead, StreamId, Version,
};
use annals_event_store::decode_frame;
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use serde_json::Value;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often the head is asked for while waiting for it to move.
const POLL: Duration = Duration::from_millis(250);
/// Versions of a stream that are asked for at once.
const STREAM_PAGE: usize = 1_000;

/// The log behind a command API.
pub(crate) struct RemoteLog {
    server: Server,
    name: String,
    domain: Option<String>,
    epoch: Epoch,
    head: AtomicU64,
    /// The block that was read last: streams are read event by event, and neighbours are often wanted next.
    last: Mutex<Option<Block>>,
}

impl RemoteLog {
    /// Connects to the command API at this URL.
    pub(crate) fn connect(url: &str) -> Result<Self> {
        let server = Server::at(url)?;
        let about = server.json("/v1/log")?;
        let text = |field: &str| about.get(field).and_then(Value::as_str).map(str::to_owned);
        let no_log =
            || format!("{url} does not serve a log: name the URL of a command API, such as http://127.0.0.1:8080");
        let epoch = text("epoch").with_context(no_log)?;
        let epoch = uuid::Uuid::parse_str(&epoch).with_context(no_log)?;
        Ok(Self {
            name: text("name").with_context(no_log)?,
            domain: text("domain"),
            epoch: Epoch::from_bytes(epoch.into_bytes()),
            head: AtomicU64::new(position(&about, "head").with_context(no_log)?),
            server,
            last: Mutex::new(None),
        })
    }

    /// The domain that wrote the log, if the server says so.
    pub(crate) fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    fn refresh(&self) -> Result<Position, LogError> {
        let about = self.server.json("/v1/log").map_err(storage)?;
        let head = position(&about, "head").ok_or_else(|| storage("the server does not say where its log ends"))?;
        self.head.store(head, Ordering::Relaxed);
        Ok(Position::new(head))
    }

    /// The blocks that the server sends after a position, checked.
    fn fetch(&self, after: Position) -> Result<Vec<Block>, LogError> {
        let bytes = self
            .server
            .bytes(&format!("/v1/log/blocks?after={after}"))
            .map_err(storage)?;
        let (mut rest, mut blocks, mut next) = (&bytes[..], Vec::new(), after.next());
        while !rest.is_empty() {
            let damaged = |detail: String| LogError::Damaged { position: next, detail };
            let (meta, block, used) = decode_frame(rest).map_err(|error| damaged(error.to_string()))?;
            if meta.epoch != self.epoch {
                return Err(damaged(format!("a block of another epoch, {}", meta.epoch)));
            }
            // The first block may begin earlier, because blocks are sent whole.
            let follows = block.first() == next || (blocks.is_empty() && block.first() < next && block.last() >= next);
            if !follows {
                return Err(damaged(format!("the server's next block begins at {}", block.first())));
            }
            next = block.last().next();
            blocks.push(block);
            rest = &rest[used..];
        }
        if let Some(first) = blocks.first_mut() {
            *first = first.clip(after, first.last())?;
        }
        Ok(blocks)
    }

    fn one(&self, position: Position) -> Result<Option<Record>, LogError> {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let holds = |block: &Block| block.first() <= position && position <= block.last();
        if !last.as_ref().is_some_and(holds) {
            *last = self.fetch(position.previous())?.into_iter().next();
        }
        let Some(block) = last.as_ref().filter(|block| holds(block)) else {
            return Ok(None);
        };
        let block = block.clip(position.previous(), position)?;
        block.records().next().transpose().map_err(LogError::from)
    }

    /// Positions of the events of a stream, as one page of the stream says them.
    fn page(&self, stream: &StreamId, from: Version, direction: Direction, limit: usize) -> Result<Vec<u64>, LogError> {
        let direction = match direction {
            Direction::Forward => "forward",
            Direction::Backward => "backward",
        };
        let path = format!("/v1/streams/{stream}?from_version={from}&limit={limit}&direction={direction}");
        let events = self.server.json(&path).map_err(storage)?;
        let events = events.as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(events.iter().filter_map(|event| position(event, "position")).collect())
    }
}

fn storage(error: impl std::fmt::Display) -> LogError {
    LogError::Storage(format!("{error:#}"))
}

impl EventLog for RemoteLog {
    fn name(&self) -> &str {
        &self.name
    }

    fn engine(&self) -> &'static str {
        "remote"
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// As far as it was when the server was asked last.
    fn head(&self) -> Position {
        Position::new(self.head.load(Ordering::Relaxed))
    }

    fn wait_beyond(&self, position: Position, timeout: Duration) -> Position {
        let until = Instant::now() + timeout;
        loop {
            // A server that cannot be reached is said by the read that follows.
            let head = self.refresh().unwrap_or_else(|_| self.head());
            if head > position || Instant::now() >= until {
                return head;
            }
            std::thread::sleep(POLL.min(until.saturating_duration_since(Instant::now())));
        }
    }

    fn read(&self, after: Position, _bytes_max: usize) -> Result<Vec<Block>, LogError> {
        // How much comes at once is the server's bound: it sends whole blocks.
        self.fetch(after)
    }

    fn read_one(&self, position: Position) -> Result<Option<Record>, LogError> {
        if position == Position::ZERO {
            Ok(None)
        } else {
            self.one(position)
        }
    }

    fn read_stream(
        &self,
        stream: &StreamId,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Record>, LogError> {
        let positions = self.page(stream, from, direction, limit.min(STREAM_PAGE))?;
        let gone = |position| storage(format!("the server does not send the event at position {position}"));
        positions
            .into_iter()
            .map(|position| self.one(Position::new(position))?.ok_or_else(|| gone(position)))
            .collect()
    }

    fn stream_head(&self, stream: &StreamId) -> Result<Option<StreamHead>, LogError> {
        let last = self.read_stream(stream, Version::new(u64::MAX >> 1), Direction::Backward, 1)?;
        let Some(record) = last.first() else { return Ok(None) };
        let version = Version::new(record.view()?.header.version);
        Ok(Some(StreamHead {
            version,
            position: record.position(),
        }))
    }

    fn find_command(&self, _stream: &StreamId, _key: &str) -> Result<Option<Position>, LogError> {
        Err(storage("idempotency keys cannot be looked up over HTTP"))
    }

    fn find_event(&self, id: &EventId) -> Result<Option<Position>, LogError> {
        let event = self
            .server
            .json(&format!("/v1/events/{}", path_part(&id.to_string())))
            .map_err(storage)?;
        Ok(position(&event, "position").map(Position::new))
    }

    fn position_at(&self, time: DateTime<Utc>) -> Result<Position, LogError> {
        // Recorded times never run backwards, so that the place is found by halving.
        let (mut before, mut after) = (0, self.head().get() + 1);
        while after - before > 1 {
            let middle = Position::new(before + (after - before) / 2);
            let record = self
                .one(middle)?
                .ok_or_else(|| storage(format!("there is no event at position {middle}")))?;
            if record.view()?.recorded_at() <= time {
                before = middle.get()
            } else {
                after = middle.get()
            }
        }
        Ok(Position::new(before))
    }
}

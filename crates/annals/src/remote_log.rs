//! The log of a running server as an [`EventLog`]: blocks over HTTP, each checked before it is used. Reads only.

use crate::follow::{About, FetchError, about, blocks};
use crate::http::{Server, path_part, position};
use annals_core::{
    Block, Direction, Epoch, EventId, EventLog, LogError, Position, Record, StreamHead, StreamId, Version,
};
use anyhow::Result;
use chrono::{DateTime, Utc};
use serde_json::Value;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often the head is asked for while waiting for it to move.
const POLL: Duration = Duration::from_millis(250);
/// Versions of a stream that are asked for at once.
const STREAM_PAGE: usize = 1_000;
/// How long such a page may take.
const PAGE_TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes of records that are asked for at once.
const FETCH_BYTES: usize = 1 << 20;

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
        let about = about(&server)?;
        Ok(Self::of(server, &about))
    }

    /// The log that a server told of.
    pub(crate) fn of(server: Server, about: &About) -> Self {
        Self {
            server,
            name: about.name.clone(),
            domain: about.domain.clone(),
            epoch: about.epoch,
            head: AtomicU64::new(about.head.get()),
            last: Mutex::new(None),
        }
    }

    /// The domain that wrote the log, if the server says so.
    pub(crate) fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// Takes it as known that the log reaches to this position.
    pub(crate) fn reach(&self, head: Position) {
        self.head.fetch_max(head.get(), Ordering::Relaxed);
    }

    fn refresh(&self) -> Result<Position, LogError> {
        let about = self.server.json("/v1/log").map_err(storage)?;
        let head = position(&about, "head").ok_or_else(|| storage("the server does not say where its log ends"))?;
        self.head.store(head, Ordering::Relaxed);
        Ok(Position::new(head))
    }

    /// The blocks that the server sends after a position, checked.
    fn fetch(&self, after: Position) -> Result<Vec<Block>, LogError> {
        match blocks(&self.server, self.epoch, after, FETCH_BYTES, Duration::ZERO) {
            Ok(fetched) => Ok(fetched.blocks),
            Err(FetchError::Unreachable(why)) => Err(LogError::Unreachable(why)),
            Err(FetchError::Damaged { position, detail }) => Err(LogError::Damaged { position, detail }),
            Err(error) => Err(LogError::Damaged {
                position: after.next(),
                detail: error.to_string(),
            }),
        }
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
        let unreachable = |error: anyhow::Error| LogError::Unreachable(format!("{error:#}"));
        let reply = self.server.ask(&path, PAGE_TIME_MAX).map_err(unreachable)?;
        match reply.status {
            200 => {}
            404 if reply.is_problem("unknown-stream") => return Ok(Vec::new()),
            500.. => return Err(LogError::Unreachable(reply.problem())),
            _ => return Err(storage(reply.problem())),
        }
        let events: Value = serde_json::from_slice(&reply.body).map_err(storage)?;
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

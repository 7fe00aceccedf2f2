//! The log of a command node as a query node follows it: blocks over HTTP, each checked before it is folded.
//!
//! One thread keeps in contact and brings the newest blocks; views that are behind fetch what they need, one at a time,
//! into a cache that all of them share, and another thread fetches what follows while they fold. While the command node
//! cannot be reached, there is simply nothing new. Should it tell another history than the one that was followed, this log
//! ends: whoever follows then begins anew.

mod cache;
mod decision;
mod fetch;
mod known;
mod tail;

pub(crate) use fetch::{About, FetchError, about, blocks};

use crate::http::Server;
use crate::remote_log::RemoteLog;
use annals_api::LogContact;
use annals_core::{
    Append, AppendError, Appended, Appender, Block, BoxFuture, Direction, Epoch, EventId, EventLog, Fingerprint,
    LogError, Position, Record, StreamHead, StreamId, Version,
};
use anyhow::Result;
use chrono::{DateTime, Utc};
use known::{Known, Turn};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of blocks that are kept for views that stand near each other.
const CACHE_BYTES_MAX: usize = 32 << 20;
/// Bytes of records that are asked for at once, whatever a reader wants.
const FETCH_BYTES: usize = 2 << 20;
/// How long a read waits for a log that cannot be reached before it comes back with nothing.
const PATIENCE: Duration = Duration::from_millis(250);

/// A log that another node has.
pub(crate) struct FollowedLog {
    line: Arc<Line>,
    /// For what is asked seldom: streams, single events, times.
    remote: RemoteLog,
}

/// What the thread that keeps in contact shares with the readers.
struct Line {
    server: Server,
    name: String,
    epoch: Epoch,
    known: Mutex<Known>,
    changed: Condvar,
    /// Something should be fetched before it is asked for.
    wanted: Condvar,
}

impl FollowedLog {
    /// Follows the log that `about` tells of. If the server did not say so itself just now, `heard` is false: then it is
    /// what was known of it, and stands until there is contact.
    pub(crate) fn start(server: &Server, about: &About, heard: bool) -> Result<Self> {
        let line = Arc::new(Line {
            server: server.clone(),
            name: about.name.clone(),
            epoch: about.epoch,
            known: Mutex::new(Known::new(about.head, heard, CACHE_BYTES_MAX)),
            changed: Condvar::new(),
            wanted: Condvar::new(),
        });
        let (follower, scout) = (Arc::clone(&line), Arc::clone(&line));
        std::thread::Builder::new()
            .name("annals-follow".into())
            .spawn(move || tail::run(&follower))?;
        std::thread::Builder::new()
            .name("annals-ahead".into())
            .spawn(move || scout.run_ahead())?;
        Ok(Self {
            line,
            remote: RemoteLog::of(server.clone(), about),
        })
    }

    /// What is known of the command node.
    pub(crate) fn contact(&self) -> LogContact {
        let known = self.line.known();
        LogContact {
            url: self.line.server.url().to_owned(),
            age: known.age(),
            trouble: known.trouble(),
        }
    }

    /// Why this history has ended, if it has.
    pub(crate) fn ended(&self) -> Option<String> {
        self.line.known().ended.clone()
    }

    /// Lets go: nothing is fetched any more, and those who wait come back.
    pub(crate) fn close(&self) {
        self.line.known().closed = true;
        self.line.changed.notify_all();
    }

    /// A log for questions about single streams and events, as far as the head is known; only while there is contact.
    fn remote(&self) -> Result<&RemoteLog, LogError> {
        let reachable = self.line.known().reachable();
        reachable.map_err(|why| self.out_of_reach(&why))?;
        self.remote.reach(self.head());
        Ok(&self.remote)
    }
}

impl FollowedLog {
    /// An error that names the command node.
    fn out_of_reach(&self, why: &str) -> LogError {
        LogError::Unreachable(format!("the command node at {}: {why}", self.line.server.url()))
    }
}

impl Drop for FollowedLog {
    fn drop(&mut self) {
        self.close();
    }
}

impl Line {
    /// What stands behind this lock is whole at any time, so a panic elsewhere does not spoil it.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something changes, at most for `time`.
    fn wait<'a>(&self, known: MutexGuard<'a, Known>, time: Duration) -> MutexGuard<'a, Known> {
        let waited = self.changed.wait_timeout(known, time);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Blocks from the cache, else from the command node. Nothing at the head, and when it cannot be reached.
    fn read(&self, after: Position, bytes_max: usize) -> Result<Vec<Block>, LogError> {
        let until = Instant::now() + PATIENCE;
        let mut known = self.known();
        loop {
            let blocks = known.cache.after(after, bytes_max)?;
            if !blocks.is_empty() || known.head <= after || known.is_over() {
                return Ok(blocks);
            }
            match known.turn() {
                Turn::Mine => {
                    drop(known);
                    let fetched = fetch::blocks(&self.server, self.epoch, after, FETCH_BYTES, Duration::ZERO);
                    known = self.known();
                    known.read_over(fetched);
                    self.changed.notify_all();
                }
                Turn::Wait => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(Vec::new());
                    }
                    known = self.wait(known, left);
                }
            }
        }
    }

    /// Fetches what readers will ask for next while they fold what they have.
    fn run_ahead(&self) {
        let mut known = self.known();
        while !known.is_over() {
            match known.ahead() {
                Some(after) => {
                    drop(known);
                    let fetched = fetch::blocks(&self.server, self.epoch, after, FETCH_BYTES, Duration::ZERO);
                    known = self.known();
                    known.read_over(fetched);
                    self.changed.notify_all();
                }
                None => {
                    let waited = self.wanted.wait_timeout(known, PATIENCE);
                    known = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    fn wait_beyond(&self, position: Position, timeout: Duration) -> Position {
        let until = Instant::now() + timeout;
        let mut known = self.known();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if known.head > position || left.is_zero() || known.closed {
                return known.head;
            }
            known = self.wait(known, left);
        }
    }
}

impl EventLog for FollowedLog {
    fn name(&self) -> &str {
        &self.line.name
    }

    fn engine(&self) -> &'static str {
        "followed"
    }

    fn epoch(&self) -> Epoch {
        self.line.epoch
    }

    /// As far as the command node said last.
    fn head(&self) -> Position {
        self.line.known().head
    }

    fn wait_beyond(&self, position: Position, timeout: Duration) -> Position {
        self.line.wait_beyond(position, timeout)
    }

    fn read(&self, after: Position, bytes_max: usize) -> Result<Vec<Block>, LogError> {
        let blocks = self.line.read(after, bytes_max)?;
        if let Some(last) = blocks.last()
            && self.line.known().expect(last.last())
        {
            self.line.wanted.notify_one();
        }
        Ok(blocks)
    }

    fn read_one(&self, position: Position) -> Result<Option<Record>, LogError> {
        if position == Position::ZERO || position > self.head() {
            return Ok(None);
        }
        let blocks = self.line.read(position.previous(), 1)?;
        let out_of_reach = || self.out_of_reach(&format!("no answer about position {position}"));
        let block = blocks.first().ok_or_else(out_of_reach)?;
        block.records().next().transpose().map_err(LogError::from)
    }

    fn read_stream(
        &self,
        stream: &StreamId,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Record>, LogError> {
        self.remote()?.read_stream(stream, from, direction, limit)
    }

    fn stream_head(&self, stream: &StreamId) -> Result<Option<StreamHead>, LogError> {
        self.remote()?.stream_head(stream)
    }

    fn find_command(&self, stream: &StreamId, key: &str) -> Result<Option<Position>, LogError> {
        self.remote()?.find_command(stream, key)
    }

    fn find_event(&self, id: &EventId) -> Result<Option<Position>, LogError> {
        self.remote()?.find_event(id)
    }

    fn position_at(&self, time: DateTime<Utc>) -> Result<Position, LogError> {
        self.remote()?.position_at(time)
    }
}

/// Decisions about views are recorded by the command node; all other appends are refused, and told where to go.
impl Appender for FollowedLog {
    fn append(&self, append: Append) -> BoxFuture<'static, Result<Appended, AppendError>> {
        let line = Arc::clone(&self.line);
        let recording = tokio::task::spawn_blocking(move || decision::record(&line, &append));
        Box::pin(async move {
            let lost = |error| AppendError::Unreachable(format!("whether it was recorded is unknown: {error}"));
            recording.await.map_err(lost).flatten()
        })
    }

    /// The log's secret is not here, and neither is anything that a fingerprint could be compared with.
    fn fingerprint(&self, _command: &[u8]) -> Fingerprint {
        Fingerprint::default()
    }
}

//! The thread that keeps in contact with the command node: it asks for what comes after the head and waits for it, and
//! when there is no answer asks again, ever more seldom, until there is one.

use super::fetch::{About, FetchError, Fetched, about, blocks};
use super::{FETCH_BYTES, Line};
use annals_core::{Block, Position};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// How long the command node may hold an answer back when there is nothing new: so old is what a node knows at most
/// while all is well.
const WAIT: Duration = Duration::from_millis(500);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Keeps in contact until the log is closed or its history ends.
pub(super) fn run(line: &Line) {
    let mut tail = Tail { line, last: None };
    let mut backoff = BACKOFF_MIN;
    let mut known = line.known().trouble().is_none();
    while !line.known().is_over() {
        let heard = if known { tail.listen() } else { tail.meet() };
        match heard {
            Ok(()) => (known, backoff) = (true, BACKOFF_MIN),
            Err(why) => {
                known = false;
                tracing::warn!(url = line.server.url(), why, "the log is not followed for now");
                line.known().lose(why);
                pause(line, jitter(backoff));
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
}

struct Tail<'a> {
    line: &'a Line,
    /// Position and checksum of an event that was seen: a log that has another one there is not the one that is followed.
    last: Option<(Position, u32)>,
}

impl Tail<'_> {
    /// Takes what comes after the head. The error says why there is no contact any more.
    fn listen(&mut self) -> Result<(), String> {
        let after = self.line.known().head;
        let Fetched { blocks, head } =
            blocks(&self.line.server, self.line.epoch, after, FETCH_BYTES, WAIT).map_err(|error| said(&error))?;
        self.last = blocks.last().and_then(last_of).or(self.last);
        self.line.known().hear(head, blocks);
        self.line.changed.notify_all();
        Ok(())
    }

    /// After a break: takes up contact again, if it is still the same log. Ends the history if it is told anew.
    fn meet(&mut self) -> Result<(), String> {
        let about = about(&self.line.server).map_err(|error| said(&error))?;
        if about.name != self.line.name {
            return Err(format!(
                "{} serves the log {:?} now, not {:?}: start that one again, or this node with another --log and another \
                 --data directory",
                self.line.server.url(),
                about.name,
                self.line.name
            ));
        }
        let read = self.line.known().head;
        if about.epoch != self.line.epoch {
            self.end(format!(
                "the log {:?} was in epoch {} and is in epoch {} now, as after a restore: all views are built anew",
                about.name, self.line.epoch, about.epoch
            ));
        } else if about.head < read {
            self.end(format!(
                "the log {:?} ended at {read} and ends at {} now, in the same epoch {}: it lost events",
                about.name, about.head, about.epoch
            ));
        } else {
            self.compare(&about)?;
            self.line.known().hear(about.head, Vec::new());
        }
        self.line.changed.notify_all();
        Ok(())
    }

    fn end(&self, why: String) {
        self.line.known().ended = Some(why);
    }

    /// An error unless the event that was seen last is still the one that stands there.
    fn compare(&self, about: &About) -> Result<(), String> {
        let Some((position, checksum)) = self.last else {
            return Ok(());
        };
        let again = blocks(
            &self.line.server,
            self.line.epoch,
            position.previous(),
            1,
            Duration::ZERO,
        )
        .map_err(|error| said(&error))?;
        let first = again
            .blocks
            .first()
            .and_then(|block| block.clip(position.previous(), position).ok());
        match first.as_ref().and_then(last_of) {
            Some((_, found)) if found == checksum => Ok(()),
            _ => Err(format!(
                "the log {:?} has another event at position {position} than this node read, in the same epoch {}: events \
                 were lost and others took their places; restore it with `annals restore`, which gives it a new epoch, or \
                 start this node with a new --data directory",
                about.name, about.epoch
            )),
        }
    }
}

/// Position and checksum of a block's last event.
fn last_of(block: &Block) -> Option<(Position, u32)> {
    let (position, header, payload) = block.raw_records().last()?.ok()?;
    Some((position, checksum(header, payload)))
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(header), payload)
}

fn said(error: &FetchError) -> String {
    error.to_string()
}

/// Half of the time, and a random part of the other half: nodes that lost the same command node do not come back all at
/// once.
fn jitter(time: Duration) -> Duration {
    let random = RandomState::new().hash_one(Instant::now()) % 1_000;
    time / 2 + time / 2 * (random as u32) / 1_000
}

/// Waits, unless the log is closed meanwhile.
fn pause(line: &Line, time: Duration) {
    let until = Instant::now() + time;
    let mut known = line.known();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || known.is_over() {
            return;
        }
        known = line.wait(known, left);
    }
}

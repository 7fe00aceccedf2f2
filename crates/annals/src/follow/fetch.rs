//! What a command API says of its log, and its blocks, checked before anybody folds them.

use crate::http::{Server, position};
use annals_core::{Block, Epoch, Position};
use annals_event_store::decode_frame;
use serde_json::Value;
use std::time::Duration;

/// How long an answer may take, beside the wait that was asked for.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// What `GET /v1/log` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) name: String,
    /// The domain that wrote the log, if the server says so.
    pub(crate) domain: Option<String>,
    pub(crate) epoch: Epoch,
    pub(crate) head: Position,
}

/// Blocks that follow a position, and where the log ended when they were sent.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) blocks: Vec<Block>,
    pub(crate) head: Position,
}

/// Why blocks could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    /// No answer, or one that says that it cannot be given.
    #[error("{0}")]
    Unreachable(String),
    /// The server says that the log is damaged.
    #[error("{detail}")]
    Damaged {
        /// Where.
        position: Position,
        /// What the server says.
        detail: String,
    },
    /// The answer is not what a log sends.
    #[error("{0}")]
    Malformed(String),
    /// The log tells another history than the one asked for.
    #[error("the log is in epoch {0}")]
    OtherEpoch(Epoch),
    /// The log ends before the position asked for.
    #[error("the log ends before that position")]
    BeyondHead,
}

/// Asks what log the server has.
pub(crate) fn about(server: &Server) -> Result<About, FetchError> {
    let reply = server
        .ask("/v1/log", ANSWER_TIME_MAX)
        .map_err(|error| unreachable(&error))?;
    if reply.status >= 500 {
        return Err(FetchError::Unreachable(format!(
            "{} answers {}",
            server.url(),
            reply.problem()
        )));
    }
    let no_log = || {
        FetchError::Malformed(format!(
            "{} does not serve a log: name the URL of a command API, such as http://127.0.0.1:8080",
            server.url()
        ))
    };
    let about: Value = serde_json::from_slice(&reply.body).map_err(|_| no_log())?;
    let text = |field: &str| about.get(field).and_then(Value::as_str).map(str::to_owned);
    Ok(About {
        name: text("name").ok_or_else(no_log)?,
        domain: text("domain"),
        epoch: text("epoch").as_deref().and_then(epoch).ok_or_else(no_log)?,
        head: position(&about, "head").map(Position::new).ok_or_else(no_log)?,
    })
}

/// Asks for blocks after a position, about `bytes_max` bytes of them. Waits up to `wait` if there are none yet.
pub(crate) fn blocks(
    server: &Server,
    of: Epoch,
    after: Position,
    bytes_max: usize,
    wait: Duration,
) -> Result<Fetched, FetchError> {
    let mut path = format!("/v1/log/blocks?after={after}&limit_bytes={bytes_max}");
    if !wait.is_zero() {
        path.push_str(&format!("&wait={}", wait.as_millis()));
    }
    let reply = server
        .ask(&path, ANSWER_TIME_MAX + wait)
        .map_err(|error| unreachable(&error))?;
    // A log of another epoch may also be too short for the question, and then says only that in its headers.
    if let Some(found) = epoch(reply.header("annals-epoch")).filter(|found| *found != of) {
        return Err(FetchError::OtherEpoch(found));
    }
    match reply.status {
        200 => {}
        400 if reply.is_problem("position-beyond-head") => return Err(FetchError::BeyondHead),
        status => {
            let text = format!("{} answers {}", server.url(), reply.problem());
            if let Some(position) = reply.position().filter(|_| reply.is_problem("log-damaged")) {
                return Err(FetchError::Damaged { position, detail: text });
            }
            let passes = status >= 500 || status == 429;
            return Err(if passes {
                FetchError::Unreachable(text)
            } else {
                FetchError::Malformed(text)
            });
        }
    }
    let blocks = checked(&reply.body, of, after)?;
    let reached = blocks.last().map_or(after, Block::last);
    let head = reply.header("annals-head").parse().map_or(reached, Position::new);
    Ok(Fetched {
        blocks,
        head: head.max(reached),
    })
}

/// The blocks in an answer: every checksum right, of this epoch, and without a gap from `after` on.
fn checked(bytes: &[u8], of: Epoch, after: Position) -> Result<Vec<Block>, FetchError> {
    let (mut rest, mut blocks, mut next) = (bytes, Vec::<Block>::new(), after.next());
    while !rest.is_empty() {
        let malformed =
            |what: String| FetchError::Malformed(format!("the block at position {next} was sent wrong: {what}"));
        let (meta, block, used) = decode_frame(rest).map_err(|error| malformed(error.to_string()))?;
        if meta.epoch != of {
            return Err(FetchError::OtherEpoch(meta.epoch));
        }
        // The first block may begin earlier, because blocks are sent whole.
        let follows = block.first() == next || (blocks.is_empty() && block.first() < next && block.last() >= next);
        if !follows {
            return Err(malformed(format!("it begins at {}", block.first())));
        }
        next = block.last().next();
        blocks.push(block);
        rest = &rest[used..];
    }
    if let Some(first) = blocks.first_mut() {
        let clipped = first.clip(after, first.last());
        *first = clipped.map_err(|error| FetchError::Malformed(error.to_string()))?;
    }
    Ok(blocks)
}

fn unreachable(error: &anyhow::Error) -> FetchError {
    FetchError::Unreachable(format!("{error:#}"))
}

fn epoch(text: &str) -> Option<Epoch> {
    let uuid = uuid::Uuid::parse_str(text).ok()?;
    Some(Epoch::from_bytes(uuid.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use annals_event_store::{FrameMeta, encode_frame};

    fn frame(of: Epoch, first: u64, count: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..count {
            Block::push_record(&mut bytes, b"header", b"payload");
        }
        let block = Block::new(Position::new(first), count, bytes.into());
        let meta = FrameMeta {
            epoch: of,
            boot: 0,
            first: block.first(),
            count: count as u32,
            part: 0,
            parts: 1,
        };
        encode_frame(&block, meta)
    }

    #[test]
    fn blocks_are_taken_only_whole_in_order_and_of_the_epoch_that_is_followed() {
        let of = Epoch::random();
        let fine = [frame(of, 1, 10), frame(of, 11, 5)].concat();
        let places = |after: u64| {
            let blocks = checked(&fine, of, Position::new(after)).unwrap();
            blocks
                .iter()
                .map(|block| (block.first().get(), block.last().get()))
                .collect::<Vec<_>>()
        };
        assert_eq!(places(0), [(1, 10), (11, 15)]);
        assert_eq!(places(4), [(5, 10), (11, 15)], "what was read before is cut off");

        let gap = [frame(of, 1, 10), frame(of, 12, 5)].concat();
        let refused = |bytes: &[u8], after: u64| checked(bytes, of, Position::new(after)).unwrap_err().to_string();
        assert!(refused(&gap, 0).contains("begins at 12"), "{}", refused(&gap, 0));
        assert!(refused(&fine, 20).contains("begins at 1"), "all of it was read before");
        assert!(refused(&fine[..fine.len() - 1], 0).contains("position 11"), "cut short");
        let mut spoilt = fine.clone();
        let last = spoilt.len() - 1;
        spoilt[last] ^= 1;
        assert!(refused(&spoilt, 0).contains("position 11"), "another checksum");
        let other = Epoch::random();
        assert_eq!(
            checked(&frame(other, 1, 1), of, Position::ZERO).unwrap_err(),
            FetchError::OtherEpoch(other)
        );
    }
}

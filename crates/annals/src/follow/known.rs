//! What is known of the log that is followed, at any moment. Does no I/O.

use super::cache::Cache;
use super::fetch::{FetchError, Fetched};
use annals_core::{Block, Position};
use std::time::{Duration, Instant};

/// How long readers leave the command node alone after one of them failed.
const PAUSE: Duration = Duration::from_millis(200);

/// See the module.
pub(super) struct Known {
    /// Where the log ended when it was last heard of.
    pub(super) head: Position,
    pub(super) cache: Cache,
    /// Why this history has ended.
    pub(super) ended: Option<String>,
    pub(super) closed: bool,
    heard: Instant,
    /// Why there is no contact.
    lost: Option<String>,
    /// Why the last reader got nothing, and when.
    unread: Option<(Instant, String)>,
    /// Whether somebody is fetching: one at a time, the others find in the cache what it brings.
    fetching: bool,
    /// After which position a reader will go on that nobody has fetched yet.
    ahead: Option<Position>,
}

/// Whose turn it is to fetch.
pub(super) enum Turn {
    Mine,
    Wait,
}

impl Known {
    pub(super) fn new(head: Position, heard: bool, cache_bytes_max: usize) -> Self {
        Self {
            head,
            cache: Cache::new(cache_bytes_max),
            ended: None,
            closed: false,
            heard: Instant::now(),
            lost: (!heard).then(|| "it has not answered since this node was started".to_owned()),
            unread: None,
            fetching: false,
            ahead: None,
        }
    }

    /// Time since the command node was last heard of; since the start, if it never was.
    pub(super) fn age(&self) -> Duration {
        self.heard.elapsed()
    }

    pub(super) fn trouble(&self) -> Option<String> {
        let unread = self.unread.as_ref().map(|(_, why)| why.clone());
        self.ended.clone().or_else(|| self.lost.clone()).or(unread)
    }

    /// An error that says why it makes no sense to ask the command node anything.
    pub(super) fn reachable(&self) -> Result<(), String> {
        match self.ended.as_ref().or(self.lost.as_ref()) {
            Some(why) => Err(why.clone()),
            None => Ok(()),
        }
    }

    /// Whether nothing will be read from here any more.
    pub(super) fn is_over(&self) -> bool {
        self.closed || self.ended.is_some()
    }

    /// The command node answered: its log ends there, and these are some of its blocks.
    pub(super) fn hear(&mut self, head: Position, blocks: Vec<Block>) {
        self.heard = Instant::now();
        self.lost = None;
        self.head = self.head.max(head);
        for block in blocks {
            self.cache.insert(block);
        }
    }

    /// There is no contact.
    pub(super) fn lose(&mut self, why: String) {
        self.lost = Some(why);
    }

    /// Whose turn it is to fetch; who gets it says afterwards what came of it.
    pub(super) fn turn(&mut self) -> Turn {
        let paused = self.unread.as_ref().is_some_and(|(since, _)| since.elapsed() < PAUSE);
        if self.fetching || paused || self.lost.is_some() {
            return Turn::Wait;
        }
        self.fetching = true;
        Turn::Mine
    }

    /// A reader has what comes up to `reached`, and will ask for more. Whether that should be fetched now.
    pub(super) fn expect(&mut self, reached: Position) -> bool {
        let missing = reached < self.head && !self.cache.holds(reached.next());
        if missing {
            self.ahead = Some(reached);
        }
        missing && !self.fetching
    }

    /// What to fetch before it is asked for, if it is not there and nobody else is fetching; says afterwards what came of it.
    pub(super) fn ahead(&mut self) -> Option<Position> {
        let after = self.ahead.take()?;
        if self.cache.holds(after.next()) {
            return None;
        }
        match self.turn() {
            Turn::Mine => Some(after),
            Turn::Wait => None,
        }
    }

    /// What came of a fetch by a reader. Whether there is contact, and with which history, the one who keeps it judges.
    pub(super) fn read_over(&mut self, fetched: Result<Fetched, FetchError>) {
        self.fetching = false;
        match fetched {
            Ok(fetched) => {
                self.unread = None;
                for block in fetched.blocks {
                    self.cache.insert(block);
                }
            }
            Err(error) => self.unread = Some((Instant::now(), error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_is_fetched_once_before_it_is_asked_for() {
        let mut known = Known::new(Position::new(10), true, 1024);
        assert!(!known.expect(Position::new(10)), "nothing follows the head");
        assert_eq!(known.ahead(), None);
        assert!(known.expect(Position::new(4)));
        assert_eq!(known.ahead(), Some(Position::new(4)));
        assert!(!known.expect(Position::new(4)), "somebody is fetching");
        assert_eq!(known.ahead(), None, "and nobody else meanwhile");
        let mut bytes = Vec::new();
        Block::push_record(&mut bytes, b"header", b"payload");
        let blocks = vec![Block::new(Position::new(5), 1, bytes.into())];
        let head = Position::new(10);
        known.read_over(Ok(Fetched { blocks, head }));
        assert!(!known.expect(Position::new(4)), "it is there");
        assert_eq!(known.ahead(), None);
    }

    #[test]
    fn one_reader_fetches_at_a_time_and_none_while_there_is_no_contact() {
        let mut known = Known::new(Position::new(10), false, 1024);
        assert!(matches!(known.turn(), Turn::Wait), "nothing was heard yet");
        known.hear(Position::new(12), Vec::new());
        assert!(matches!(known.turn(), Turn::Mine));
        assert!(matches!(known.turn(), Turn::Wait));
        known.read_over(Err(FetchError::Unreachable("gone".into())));
        assert!(matches!(known.turn(), Turn::Wait), "not at once again");
        assert_eq!(known.trouble().as_deref(), Some("gone"));
        let blocks = Vec::new();
        known.read_over(Ok(Fetched {
            blocks,
            head: Position::new(99),
        }));
        assert!(matches!(known.turn(), Turn::Mine));
        assert_eq!(
            (known.head.get(), known.trouble()),
            (12, None),
            "where the log ends, another says"
        );
    }
}

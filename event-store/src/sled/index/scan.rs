//! Reads several runs as one, in the order of keys, block by block: for merging and for verification.

use super::block::Entries;
use super::run::Run;
use annals_core::LogError;
use std::sync::Arc;

struct Cursor {
    run: Arc<Run>,
    next_block: usize,
    entries: Entries,
}

impl Cursor {
    /// Stands at the first entry whose key is at or after `from`; `None` if there is none.
    fn new(run: Arc<Run>, from: &[u8]) -> Result<Option<Self>, LogError> {
        let next_block = run.find(from, 0);
        let mut cursor = Self {
            run,
            next_block,
            entries: Entries::new(bytes::Bytes::new()),
        };
        while cursor.advance()? {
            if cursor.entries.key.as_slice() >= from {
                return Ok(Some(cursor));
            }
        }
        Ok(None)
    }

    fn advance(&mut self) -> Result<bool, LogError> {
        while !self.entries.read()? {
            if self.next_block >= self.run.block_count() {
                return Ok(false);
            }
            self.entries = self.run.block(self.next_block, None)?;
            self.next_block += 1;
        }
        Ok(true)
    }
}

/// The entries of several runs; those of one key in the order of the runs, which is that of the log.
pub(super) struct Scan {
    cursors: Vec<Cursor>,
    /// The cursor whose entry was given last.
    given: Option<usize>,
}

impl Scan {
    pub(super) fn new(runs: &[Arc<Run>], from: &[u8]) -> Result<Self, LogError> {
        let cursors = runs.iter().map(|run| Cursor::new(run.clone(), from));
        let cursors = cursors.filter_map(Result::transpose).collect::<Result<_, _>>()?;
        Ok(Self { cursors, given: None })
    }

    /// The next entry; after an error there is none.
    pub(super) fn next_entry(&mut self) -> Result<Option<&Entries>, LogError> {
        if let Some(given) = self.given.take() {
            match self.cursors[given].advance() {
                Ok(true) => (),
                Ok(false) => drop(self.cursors.remove(given)),
                Err(error) => {
                    self.cursors.clear();
                    return Err(error);
                }
            }
        }
        let mut least: Option<usize> = None;
        for (at, cursor) in self.cursors.iter().enumerate() {
            let (key, order) = (&cursor.entries.key, cursor.entries.order);
            // Of equal ones the older run comes first.
            let less = least.is_none_or(|least| {
                let other = &self.cursors[least].entries;
                (key, order) < (&other.key, other.order)
            });
            if less {
                least = Some(at);
            }
        }
        self.given = least;
        Ok(least.map(|at| &self.cursors[at].entries))
    }
}

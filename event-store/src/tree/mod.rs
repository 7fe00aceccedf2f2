//! The Merkle tree over the records of a log (RFC 6962), kept beside it: derived, and rebuilt from the log when it is lost.
//!
//! The leaf of the record at position `p` has index `p - 1`; it is hashed from the record's header and the SHA-256 of its
//! payload, see `annals_audit::entry`. Leaves are not stored: a tile of them is hashed from 256 records when somebody
//! asks. Of every 256 leaves 36 bytes stand in a file, of every 65,536 of these again, and so on.

mod follow;
mod levels;

pub use follow::TreeFollower;

use annals_audit::{Checkpoint, Frontier, Hash, Note, ProveError, TILE_WIDTH, Tile, TileSource, TlogProof};
use annals_core::{Block, EventLog, LogError, Position};
use levels::Levels;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// Bytes of records that are read at a time.
const READ_LEN: usize = 1 << 20;
/// The stored hashes are synced, and how far they reach is noted, whenever so many leaves have come: a crash costs
/// hashing that many records again.
const SYNC_EVERY: u64 = 1 << 18;

/// Why the tree cannot say something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The tree's files cannot be used.
    #[error("the tree in {} cannot be used: {detail}; it is derived: with no process running its directory may be deleted", dir.display())]
    Files {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// Asked for more leaves than it has.
    #[error("the tree has {reached} leaves, and not {size} yet")]
    NotYet {
        /// What was asked for.
        size: u64,
        /// How many there are.
        reached: u64,
    },
    /// Asked for a leaf or a tree that there cannot be.
    #[error("{0}")]
    NoSuch(String),
}

/// The tree of one log. It grows when [`LogTree::grow`] or [`LogTree::reach`] is called. Calls may block on the disk.
pub struct LogTree {
    log: Arc<dyn EventLog>,
    dir: PathBuf,
    state: RwLock<State>,
}

struct State {
    frontier: Frontier,
    levels: Levels,
    /// Up to here the stored hashes are known to be durable.
    synced: u64,
}

impl LogTree {
    /// Opens the tree of a log in a directory. What is stored there is taken as far as it fits the log; [`LogTree::grow`]
    /// does the rest.
    pub fn open(dir: &Path, log: Arc<dyn EventLog>) -> Result<Self, TreeError> {
        let levels = Levels::open(dir, log.epoch()).map_err(|error| files(dir, &error))?;
        let tree = Self {
            dir: dir.to_owned(),
            state: RwLock::new(State {
                frontier: Frontier::new(),
                levels,
                synced: 0,
            }),
            log,
        };
        tree.take_what_is_stored()?;
        Ok(tree)
    }

    fn take_what_is_stored(&self) -> Result<(), TreeError> {
        let mut state = self.write();
        let size = state.levels.noted().min(self.log.head().get());
        let stored = (|| {
            state.levels.cut(size)?;
            frontier_of(&state.levels, size)
        })();
        match stored {
            Ok(frontier) => {
                state.synced = frontier.size();
                state.frontier = frontier;
                Ok(())
            }
            Err(error) => {
                tracing::warn!(dir = %self.dir.display(), %error, "the Merkle tree is hashed anew from the log");
                self.begin_anew(&mut state)
            }
        }
    }

    fn begin_anew(&self, state: &mut State) -> Result<(), TreeError> {
        state.frontier = Frontier::new();
        state.synced = 0;
        state.levels.clear().map_err(|error| files(&self.dir, &error))
    }

    /// How many leaves it has: the position of the last record in it.
    pub fn size(&self) -> u64 {
        self.read().frontier.size()
    }

    /// Its size and root, of one moment.
    pub fn head(&self) -> (u64, Hash) {
        let state = self.read();
        (state.frontier.size(), state.frontier.root())
    }

    /// Adds the next records of the log, about 1 MiB of them, and says whether there were any.
    pub fn grow(&self) -> Result<bool, TreeError> {
        let size = self.size();
        let blocks = self.log.read(Position::new(size), READ_LEN)?;
        let mut leaves = Vec::new();
        for block in &blocks {
            hash_leaves(block, usize::MAX, &mut leaves)?;
        }
        if leaves.is_empty() {
            return Ok(false);
        }
        let mut state = self.write();
        if state.frontier.size() != size {
            // Another caller grew it, or it was begun anew: these leaves are not the next ones.
            return Ok(true);
        }
        let State { frontier, levels, .. } = &mut *state;
        for leaf in leaves {
            frontier.push(leaf, |height, _, hash| levels.completed(height, hash));
        }
        levels.write().map_err(|error| files(&self.dir, &error))?;
        if state.frontier.size() - state.synced >= SYNC_EVERY {
            self.sync(&mut state)?;
        }
        Ok(true)
    }

    /// Lets it grow until it has so many leaves. [`TreeError::NotYet`] if the log has fewer records.
    pub fn reach(&self, size: u64) -> Result<(), TreeError> {
        while self.size() < size && self.grow()? {}
        self.has(size)
    }

    /// Makes what is stored durable, so that the next opening has less to hash.
    pub fn save(&self) -> Result<(), TreeError> {
        self.sync(&mut self.write())
    }

    fn sync(&self, state: &mut State) -> Result<(), TreeError> {
        let size = state.frontier.size();
        state.levels.sync(size).map_err(|error| files(&self.dir, &error))?;
        state.synced = size;
        Ok(())
    }

    /// The root that the tree had with so many leaves.
    pub fn root_at(&self, size: u64) -> Result<Hash, TreeError> {
        self.has(size)?;
        annals_audit::root_at(self, size).map_err(|error| self.mend(error))
    }

    /// The proof that the record at this position is in the tree of `size` leaves.
    pub fn inclusion_proof(&self, position: Position, size: u64) -> Result<Vec<Hash>, TreeError> {
        self.has(size)?;
        let Some(index) = position.get().checked_sub(1) else {
            return Err(TreeError::NoSuch(
                "there is no event at position 0: they count from 1".into(),
            ));
        };
        annals_audit::inclusion_proof(self, index, size).map_err(|error| self.mend(error))
    }

    /// The proof that the tree of `to` leaves begins with that of `from`.
    pub fn consistency_proof(&self, from: u64, to: u64) -> Result<Vec<Hash>, TreeError> {
        self.has(to)?;
        annals_audit::consistency_proof(self, from, to).map_err(|error| self.mend(error))
    }

    /// The hashes of a tile, as many as its width.
    pub fn hashes(&self, tile: Tile) -> Result<Vec<Hash>, TreeError> {
        let size = self.size();
        let first = tile.index.checked_mul(u64::from(TILE_WIDTH));
        let there = first.and_then(|first| Tile::holding(tile.level, first, size));
        if there.is_none_or(|there| there.width < tile.width) {
            return Err(TreeError::NoSuch(format!("a tree of {size} leaves has no tile {tile}")));
        }
        let mut hashes = self.tile(tile)?;
        hashes.truncate(usize::from(tile.width));
        Ok(hashes)
    }

    /// The head of the log: how many leaves the tree can have now.
    pub fn log_head(&self) -> u64 {
        self.log.head().get()
    }

    /// The entry of the record at a position: what its leaf is the hash of.
    pub fn entry(&self, position: Position) -> Result<Vec<u8>, TreeError> {
        let none = || TreeError::NoSuch(format!("the log has no event at position {position}"));
        let record = self.log.read_one(position)?.ok_or_else(none)?;
        let record = record.view().map_err(LogError::from)?;
        Ok(annals_audit::entry(record.header_bytes, record.payload))
    }

    /// The proof in a file that the record at a position is covered by a signed checkpoint.
    pub fn proof(&self, position: Position, checkpoint: Note) -> Result<TlogProof, TreeError> {
        let size = Checkpoint::parse(checkpoint.text())
            .map_err(|error| TreeError::NoSuch(error.to_string()))?
            .size;
        self.reach(size)?;
        Ok(TlogProof {
            extra: self.entry(position)?,
            index: position.get().saturating_sub(1),
            path: self.inclusion_proof(position, size)?,
            checkpoint,
        })
    }

    /// The entries under a tile of leaves, each behind its length (u16, big endian): a bundle of C2SP's tlog-tiles.
    pub fn entries(&self, bundle: Tile) -> Result<Vec<u8>, TreeError> {
        // The same question as for the tile, which names what is not there.
        let leaves = self.hashes(Tile { level: 0, ..bundle })?;
        let first = bundle.index.saturating_mul(u64::from(TILE_WIDTH));
        let mut bytes = Vec::new();
        let mut count = 0;
        while count < leaves.len() {
            let blocks = self.log.read(Position::new(first + count as u64), READ_LEN)?;
            for record in blocks.iter().flat_map(Block::raw_records).take(leaves.len() - count) {
                let (_, header, payload) = record.map_err(LogError::from)?;
                let entry = annals_audit::entry(header, payload);
                // A header has at most 32 KiB.
                bytes.extend_from_slice(&(entry.len() as u16).to_be_bytes());
                bytes.extend_from_slice(&entry);
                count += 1;
            }
            if blocks.is_empty() {
                return Err(TreeError::NoSuch(format!("the log ends before tile {bundle}")));
            }
        }
        Ok(bytes)
    }

    fn has(&self, size: u64) -> Result<(), TreeError> {
        let reached = self.size();
        if size > reached {
            Err(TreeError::NotYet { size, reached })
        } else {
            Ok(())
        }
    }

    /// A stored hash that is damaged is hashed anew, with all others.
    fn mend(&self, error: ProveError<TreeError>) -> TreeError {
        match error {
            ProveError::Source(error @ TreeError::Files { .. }) => {
                tracing::error!(%error, "the Merkle tree is damaged, it is hashed anew from the log");
                match self.begin_anew(&mut self.write()) {
                    Ok(()) => error,
                    Err(worse) => worse,
                }
            }
            ProveError::Source(error) => error,
            other => TreeError::NoSuch(other.to_string()),
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TileSource for LogTree {
    type Error = TreeError;

    fn tile(&self, tile: Tile) -> Result<Vec<Hash>, TreeError> {
        let first = tile.index.saturating_mul(u64::from(TILE_WIDTH));
        if tile.level > 0 {
            let read = self.read().levels.read(tile.level, first, tile.width);
            return read.map_err(|error| files(&self.dir, &error));
        }
        let mut hashes = Vec::with_capacity(usize::from(tile.width));
        while hashes.len() < usize::from(tile.width) {
            let after = Position::new(first + hashes.len() as u64);
            let blocks = self.log.read(after, READ_LEN)?;
            if blocks.is_empty() {
                break;
            }
            for block in &blocks {
                hash_leaves(block, usize::from(tile.width), &mut hashes)?;
            }
        }
        Ok(hashes)
    }
}

/// Adds the leaves of a block's records, until there are `enough`.
fn hash_leaves(block: &Block, enough: usize, leaves: &mut Vec<Hash>) -> Result<(), LogError> {
    for record in block.raw_records().take(enough.saturating_sub(leaves.len())) {
        let (_, header, payload) = record?;
        leaves.push(annals_audit::record_leaf(header, payload));
    }
    Ok(())
}

/// The frontier of a tree of so many leaves, a multiple of 256, from the hashes that are stored.
fn frontier_of(levels: &Levels, size: u64) -> std::io::Result<Frontier> {
    let mut peaks = Vec::new();
    for height in (0..u64::BITS).rev().filter(|height| size >> height & 1 == 1) {
        // The full subtree of this height begins where the larger ones end.
        let start = size & !((2_u64 << height).wrapping_sub(1));
        let level = u8::try_from(height / 8).unwrap_or(u8::MAX);
        let count = 1_u16 << (height % 8);
        let hashes = levels.read(level, start >> (height - height % 8), count)?;
        peaks.push(annals_audit::full_root(&hashes));
    }
    Frontier::from_peaks(size, peaks).ok_or_else(|| std::io::Error::other("the stored hashes are of another tree"))
}

fn files(dir: &Path, error: &std::io::Error) -> TreeError {
    TreeError::Files {
        dir: dir.to_owned(),
        detail: error.to_string(),
    }
}

//! Signs what the tree has grown to, after having looked that it still begins with what was signed before.

use super::keys::{KeysError, LogKeys};
use super::segments::SignedCheckpoints;
use crate::data_dir::DataDir;
use crate::tree::{LogTree, TreeError};
use annals_audit::{Checkpoint, Note, Signer};
use annals_core::{Epoch, EventLog};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Pause between two checkpoints that are signed because somebody asks.
const ON_DEMAND: Duration = Duration::from_secs(1);

/// When a checkpoint is signed without being asked for.
#[derive(Debug, Clone, Copy)]
pub struct NotarySettings {
    /// After so many new events.
    pub events: u64,
    /// After so long, if there is anything new.
    pub every: Duration,
}

impl Default for NotarySettings {
    fn default() -> Self {
        Self {
            events: 100_000,
            every: Duration::from_secs(60),
        }
    }
}

/// Why nothing is signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotaryError {
    /// The log is not the one that was signed.
    #[error(
        "the log does not begin with what was signed: the checkpoint of {size} events has root {signed}, the log has {found}; \
         nothing more is signed. Either the log or its checkpoints were changed or exchanged: keep both as evidence, run \
         `annals verify`, and restore a backup"
    )]
    Contradiction {
        /// Size of the checkpoint.
        size: u64,
        /// The root that was signed.
        signed: String,
        /// The root of the log, or what it has instead.
        found: String,
    },
    /// There is no checkpoint of so many events yet, and the last one was signed a moment ago.
    #[error("no checkpoint covers {size} events yet: ask again in a second")]
    NotCovered {
        /// How many events.
        size: u64,
    },
    /// The tree cannot be asked.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The checkpoints cannot be read or written.
    #[error("signed checkpoints in {} cannot be used: {source}", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Signs checkpoints of one log's tree.
pub struct Notary {
    tree: Arc<LogTree>,
    keys: LogKeys,
    checkpoints: SignedCheckpoints,
    dir: PathBuf,
    origin: String,
    /// Origin of the log that this one was restored from, and up to which size both are the same.
    parent: Option<(String, u64)>,
    settings: NotarySettings,
    state: Mutex<State>,
}

struct State {
    /// Whether the tree was found to begin with the latest signed checkpoint.
    compared: bool,
    /// When it was opened, or signed the last time.
    since: Instant,
    signed: bool,
}

impl Notary {
    /// The notary of the log in a data directory, with its tree and its keys, which a new log gets here.
    pub fn of(dir: &DataDir, log: Arc<dyn EventLog>, settings: NotarySettings) -> Result<Self, NotaryError> {
        let own = origin_of(dir, log.epoch());
        let parent = crate::sled::parent(&dir.log_path());
        let parent = parent.map(|(epoch, head)| (origin_of(dir, epoch), head.get()));
        let tree = Arc::new(LogTree::open(&dir.tree_path(), log)?);
        let keys = LogKeys::open(&dir.keys_path(), &own)?;
        Self::open(tree, keys, dir.checkpoints_path(), own, parent, settings)
    }

    /// A notary for the log with this origin. `parent` has the origin of the log that it was restored from and the size
    /// up to which both are the same: all checkpoints name it, so that who trusts the one can go on with the other.
    pub fn open(
        tree: Arc<LogTree>,
        keys: LogKeys,
        dir: PathBuf,
        origin: String,
        parent: Option<(String, u64)>,
        settings: NotarySettings,
    ) -> Result<Self, NotaryError> {
        let checkpoints = SignedCheckpoints::open(&dir).map_err(|source| NotaryError::Io {
            dir: dir.clone(),
            source,
        })?;
        Ok(Self {
            tree,
            keys,
            checkpoints,
            dir,
            origin,
            parent,
            settings,
            state: Mutex::new(State {
                compared: false,
                since: Instant::now(),
                signed: false,
            }),
        })
    }

    /// Signs if enough events have come, or enough time has gone by since the last time.
    pub fn sign_if_due(&self) -> Result<(), NotaryError> {
        let signed = self.checkpoints.latest().map_or(0, |(size, _)| size);
        let new = self.tree.size().saturating_sub(signed);
        let waited = self.lock().since.elapsed();
        if new >= self.settings.events || (new > 0 && waited >= self.settings.every) {
            self.sign()?;
        }
        Ok(())
    }

    /// Signs the tree as it is, unless that has been signed already. The latest checkpoint, if the log has any event.
    pub fn sign(&self) -> Result<Option<String>, NotaryError> {
        let mut state = self.lock();
        let latest = self.checkpoints.latest();
        if let (Some((size, note)), false) = (&latest, state.compared) {
            self.compare(*size, note)?;
        }
        state.compared = true;
        let (size, root) = self.tree.head();
        (state.since, state.signed) = (Instant::now(), true);
        if size == 0 || latest.as_ref().is_some_and(|(signed, _)| *signed >= size) {
            return Ok(latest.map(|(_, note)| note));
        }
        let checkpoint = Checkpoint {
            origin: self.origin.clone(),
            size,
            root,
            extensions: self.parent_line()?.into_iter().collect(),
        };
        let note = signed(&checkpoint, self.keys.signer());
        self.checkpoints.add(size, &note).map_err(|source| self.io(source))?;
        tracing::debug!(size, "signed a checkpoint");
        Ok(Some(note.to_string()))
    }

    /// `parent <origin> <size> <root>`.
    fn parent_line(&self) -> Result<Option<String>, NotaryError> {
        let Some((origin, size)) = &self.parent else {
            return Ok(None);
        };
        let root = self.tree.root_at(*size)?;
        Ok(Some(format!("parent {origin} {size} {root}")))
    }

    /// Brings the tree to the head of the log, and signs it. For the end: nothing is appended any more.
    pub fn finish(&self) -> Result<(), NotaryError> {
        self.tree.reach(self.tree.log_head())?;
        self.sign()?;
        Ok(self.tree.save()?)
    }

    /// The smallest signed checkpoint of at least so many events. One is signed if there is none, at most once a second.
    pub fn covering(&self, size: u64) -> Result<String, NotaryError> {
        self.tree.reach(size)?;
        let signed = self.checkpoints.latest().map_or(0, |(signed, _)| signed);
        if signed < size {
            let state = self.lock();
            if state.signed && state.since.elapsed() < ON_DEMAND {
                return Err(NotaryError::NotCovered { size });
            }
            drop(state);
            self.sign()?;
        }
        let mut found = self.signed_after(size.saturating_sub(1), 1)?;
        found.pop().ok_or(NotaryError::NotCovered { size })
    }

    /// Checkpoints of more than `size` events, the smallest first, at most `limit`.
    pub fn signed_after(&self, size: u64, limit: usize) -> Result<Vec<String>, NotaryError> {
        self.checkpoints.after(size, limit).map_err(|source| self.io(source))
    }

    /// How many events a signed checkpoint is of.
    pub fn size_of(&self, note: &str) -> Result<u64, NotaryError> {
        super::segments::size_of(note).map_err(|source| self.io(source))
    }

    /// Where the signed checkpoints are.
    pub fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// A log that was changed must not get a signature under the change.
    fn compare(&self, size: u64, note: &str) -> Result<(), NotaryError> {
        let other = |signed: String, found: String| NotaryError::Contradiction { size, signed, found };
        let parsed = Note::parse(note).map_err(io::Error::other);
        let parsed = parsed.and_then(|note| Checkpoint::parse(note.text()).map_err(io::Error::other));
        let signed = parsed.map_err(|source| self.io(source))?;
        if signed.origin != self.origin {
            return Err(other(
                format!("of {}", signed.origin),
                format!("another origin, {}", self.origin),
            ));
        }
        match self.tree.reach(size) {
            Ok(()) => {}
            Err(TreeError::NotYet { reached, .. }) => {
                return Err(other(signed.root.to_string(), format!("only {reached} events")));
            }
            Err(error) => return Err(error.into()),
        }
        let root = self.tree.root_at(size)?;
        if root == signed.root {
            Ok(())
        } else {
            Err(other(signed.root.to_string(), root.to_string()))
        }
    }

    /// The signed checkpoints.
    pub fn checkpoints(&self) -> &SignedCheckpoints {
        &self.checkpoints
    }

    /// The tree.
    pub fn tree(&self) -> &Arc<LogTree> {
        &self.tree
    }

    /// The keys.
    pub fn keys(&self) -> &LogKeys {
        &self.keys
    }

    fn io(&self, source: io::Error) -> NotaryError {
        NotaryError::Io {
            dir: self.dir.clone(),
            source,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn signed(checkpoint: &Checkpoint, signer: &Signer) -> Note {
    let mut note = Note::of(checkpoint);
    note.add(signer.sign(note.text(), 0));
    note
}

fn origin_of(dir: &DataDir, epoch: Epoch) -> String {
    format!("annals/{}/{epoch}", dir.name())
}

/// The origin of the checkpoints of the log in a data directory: its name and its epoch. None if its manifest cannot be read.
pub fn origin(dir: &DataDir) -> Option<String> {
    let (epoch, _) = crate::sled::stated(&dir.log_path())?;
    Some(origin_of(dir, epoch))
}

/// The origin of the log that the one in a data directory was restored from.
pub fn parent_origin(dir: &DataDir) -> Option<String> {
    let (epoch, _) = crate::sled::parent(&dir.log_path())?;
    Some(origin_of(dir, epoch))
}

//! Signs what the tree has grown to, after having looked that it still begins with what was signed before.

use super::keys::{KeysError, LogKeys};
use super::segments::SignedCheckpoints;
use crate::tree::{LogTree, TreeError};
use annals_audit::{Checkpoint, Note, Signer};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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
    extensions: Vec<String>,
    settings: NotarySettings,
    state: Mutex<State>,
}

struct State {
    /// Whether the tree was found to begin with the latest signed checkpoint.
    compared: bool,
    last: Instant,
}

impl Notary {
    /// A notary for the log with this origin. `extensions` are lines that all its checkpoints have.
    pub fn open(
        tree: Arc<LogTree>,
        keys: LogKeys,
        dir: PathBuf,
        origin: String,
        extensions: Vec<String>,
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
            extensions,
            settings,
            state: Mutex::new(State {
                compared: false,
                last: Instant::now(),
            }),
        })
    }

    /// Signs if enough events have come, or enough time has gone by since the last time.
    pub fn sign_if_due(&self) -> Result<(), NotaryError> {
        let signed = self.checkpoints.latest().map_or(0, |(size, _)| size);
        let new = self.tree.size().saturating_sub(signed);
        let waited = self.lock().last.elapsed();
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
        state.last = Instant::now();
        if size == 0 || latest.as_ref().is_some_and(|(signed, _)| *signed >= size) {
            return Ok(latest.map(|(_, note)| note));
        }
        let checkpoint = Checkpoint {
            origin: self.origin.clone(),
            size,
            root,
            extensions: self.extensions.clone(),
        };
        let note = signed(&checkpoint, self.keys.signer());
        self.checkpoints.add(size, &note).map_err(|source| self.io(source))?;
        tracing::debug!(size, "signed a checkpoint");
        Ok(Some(note.to_string()))
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

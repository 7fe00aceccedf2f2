//! The directory of all reactors: for each an outbox and a state, and a register of those that were ever begun here.
//!
//! The register tells a reactor that is new from one whose outbox is lost. The outbox is not derived from the log; the
//! state is, and is folded anew whenever it does not fit.

use super::journal::{Journal, Snapshot, sync_parent};
use super::timers::Fired;
use crate::progress::locked;
use crate::reader::{LogReader, Take};
use crate::{ProjectionSettings, ResumeError};
use annals_core::{Epoch, EventLog, LogError, Position};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

const REGISTRY: &str = "registry.json";
const REGISTRY_FORMAT: u32 = 1;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Registry {
    format: u32,
    reactors: BTreeMap<String, Registered>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Registered {
    /// The log's epoch when the outbox was begun.
    epoch: Epoch,
}

/// See the module.
pub(crate) struct ReactorsDir {
    path: PathBuf,
    /// Held while the register is read and written.
    registering: Mutex<()>,
}

impl ReactorsDir {
    /// Opens the directory; creates it if there is none.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        Ok(Self::at(path))
    }

    /// The directory as it is, to be looked at.
    pub(crate) fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            registering: Mutex::new(()),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn outbox(&self, name: &str) -> PathBuf {
        self.path.join(name).join("outbox")
    }

    pub(crate) fn state(&self, name: &str) -> PathBuf {
        self.path.join(name).join("state")
    }

    /// Whether a reactor was ever begun here.
    pub(crate) fn knows(&self, name: &str) -> io::Result<bool> {
        let _registering = locked(&self.registering);
        Ok(self.registry()?.reactors.contains_key(name))
    }

    /// Registers a reactor. On return that is on the disk.
    pub(crate) fn register(&self, name: &str, epoch: Epoch) -> io::Result<()> {
        let _registering = locked(&self.registering);
        let mut registry = self.registry()?;
        registry.format = REGISTRY_FORMAT;
        registry.reactors.insert(name.to_owned(), Registered { epoch });
        let path = self.path.join(REGISTRY);
        let new = path.with_extension("json.new");
        let mut file = fs::File::create(&new)?;
        file.write_all(&serde_json::to_vec_pretty(&registry)?)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        sync_parent(&path)
    }

    fn registry(&self) -> io::Result<Registry> {
        match fs::read(self.path.join(REGISTRY)) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Registry::default()),
            Err(error) => Err(error),
        }
    }

    /// Begins a new outbox that has reacted to nothing after `position`. One that is there is kept under another name.
    pub(crate) fn begin(&self, name: &str, epoch: Epoch, position: Position, fired: Fired) -> io::Result<()> {
        let path = self.outbox(name);
        fs::create_dir_all(self.path.join(name))?;
        if path.exists() {
            let replaced = (1..).map(|number| path.with_extension(format!("replaced-{number}")));
            if let Some(free) = replaced.into_iter().find(|replaced| !replaced.exists()) {
                fs::rename(&path, free)?;
            }
        }
        Journal::create(&path, Snapshot::new(name, epoch, position, fired)).map_err(io::Error::other)?;
        sync_parent(&self.path.join(name))?;
        self.register(name, epoch)
    }
}

/// Tells a reactor that does not run from where to go on.
pub(crate) fn resume(
    log: &dyn EventLog,
    settings: &ProjectionSettings,
    name: &str,
    from: Position,
) -> Result<(), ResumeError> {
    if from > log.head().next() {
        return Err(ResumeError::BeyondHead { from, head: log.head() });
    }
    let failed = |error: io::Error| ResumeError::Storage {
        name: name.to_owned(),
        detail: error.to_string(),
    };
    let directory = ReactorsDir::open(&settings.reactors_dir).map_err(failed)?;
    if let Err(error) = directory.knows(name) {
        // A register that cannot be read would stop the others, too: it is put aside, what it knew stands in the log.
        tracing::warn!(%error, "the register of the reactors cannot be read and is begun anew");
        let path = directory.path().join(REGISTRY);
        fs::rename(&path, path.with_extension("json.damaged")).map_err(failed)?;
    }
    // What was due before has gone off, or will not: nobody knows.
    let fired = Fired::before(log, from.previous().next()).map_err(|error| failed(io::Error::other(error)))?;
    directory
        .begin(name, log.epoch(), from.previous(), fired)
        .map_err(failed)
}

/// Who a reactor is in the metadata of what it does.
pub(crate) fn actor(name: &str) -> String {
    format!("reactor:{name}")
}

/// Where the log shows that a reactor has worked on it before.
pub(crate) fn first_effect(log: &dyn EventLog, read_bytes: usize, name: &str) -> Result<Option<Position>, LogError> {
    let actor = actor(name);
    let mut found = None;
    LogReader::new(log, read_bytes).read(Position::ZERO, log.head(), |record| {
        if record.header.actor == Some(actor.as_str()) {
            found = Some(record.position);
            return Ok::<_, LogError>(Take::Enough);
        }
        Ok(Take::More)
    })?;
    Ok(found)
}

//! The directory of a query node: its views, and which log they were folded from. It has no log of its own.

use annals_core::Epoch;
use annals_projections::ProjectionSettings;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

const FORMAT: u32 = 1;
const IDENTITY_FILE: &str = "query.json";
const IDENTITY_NEW: &str = "query.json.new";
const LOCK_FILE: &str = "lock";
/// What a data directory with a log has.
const LOG_FILES: [&str; 2] = ["annals.json", "log"];

/// Which log the views are of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Followed {
    format: u32,
    /// The log's name.
    pub(crate) name: String,
    /// The domain that wrote it, if its server said so.
    pub(crate) domain: Option<String>,
    /// The history that was followed last.
    pub(crate) epoch: Epoch,
}

impl Followed {
    pub(crate) fn new(name: &str, domain: Option<&str>, epoch: Epoch) -> Self {
        Self {
            format: FORMAT,
            name: name.to_owned(),
            domain: domain.map(str::to_owned),
            epoch,
        }
    }
}

/// The directory, held until this is dropped.
#[derive(Debug)]
pub(crate) struct QueryDir {
    path: PathBuf,
    lock: File,
}

impl QueryDir {
    /// Whether a directory is one of a query node.
    pub(crate) fn is_at(path: &Path) -> bool {
        path.join(IDENTITY_FILE).exists()
    }

    /// Holds the directory; creates it if there is none. One that holds a log is refused.
    pub(crate) fn hold(path: &Path) -> Result<Self> {
        let shown = path.display();
        if LOG_FILES.iter().any(|file| path.join(file).exists()) {
            bail!(
                "data directory {shown} holds a log: a query node needs a directory of its own, name another one with --data"
            );
        }
        let cannot = || format!("data directory {shown} cannot be used: check that it can be written");
        fs::create_dir_all(path).with_context(cannot)?;
        let file = path.join(LOCK_FILE);
        let lock = File::options()
            .read(true)
            .append(true)
            .create(true)
            .open(&file)
            .with_context(cannot)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let said = fs::read_to_string(&file).unwrap_or_default();
                let at = said.lines().next().filter(|url| url.starts_with("http"));
                let at = at.map(|url| format!(" at {url}")).unwrap_or_default();
                bail!(
                    "data directory {shown} is in use by the query node{at}: stop it first, or name another --data directory"
                );
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
        }
        Ok(Self {
            path: path.to_owned(),
            lock,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Says at which URL the holder's query API can be reached.
    pub(crate) fn announce(&self, query_url: &str) -> Result<()> {
        self.lock.set_len(0)?;
        (&self.lock).write_all(query_url.as_bytes())?;
        Ok(())
    }

    /// Which log the views are of; `None` if none was followed yet.
    pub(crate) fn followed(&self) -> Result<Option<Followed>> {
        let file = self.path.join(IDENTITY_FILE);
        let bytes = match fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        let remedy = || {
            format!(
                "{} cannot be read: it is of a newer annals, or damaged; delete {}, and the views are built anew",
                file.display(),
                self.path.display()
            )
        };
        let followed: Followed = serde_json::from_slice(&bytes).with_context(remedy)?;
        if followed.format > FORMAT {
            bail!("{}", remedy());
        }
        Ok(Some(followed))
    }

    /// Remembers which log the views are of.
    pub(crate) fn remember(&self, followed: &Followed) -> Result<()> {
        let cannot = || format!("cannot write to {}", self.path.display());
        let new = self.path.join(IDENTITY_NEW);
        let mut file = File::create(&new).with_context(cannot)?;
        file.write_all(&serde_json::to_vec_pretty(followed)?)
            .with_context(cannot)?;
        file.sync_all().with_context(cannot)?;
        fs::rename(&new, self.path.join(IDENTITY_FILE)).with_context(cannot)?;
        File::open(&self.path)
            .and_then(|dir| dir.sync_all())
            .with_context(cannot)
    }

    /// Where the views stand, and that none of them goes on where the followed log has lost events.
    pub(crate) fn settings(&self) -> ProjectionSettings {
        let mut settings = ProjectionSettings::new(self.path.join("views"), self.path.join("reactors"));
        settings.refuse_ahead = true;
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_remembers_which_log_it_follows_and_is_held_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node");
        let held = QueryDir::hold(&path).unwrap();
        assert_eq!(held.followed().unwrap(), None);
        let followed = Followed::new("shop", Some("commerce"), Epoch::random());
        held.remember(&followed).unwrap();
        held.announce("http://127.0.0.1:8081").unwrap();
        let refused = QueryDir::hold(&path).unwrap_err().to_string();
        assert!(
            refused.contains("query node at http://127.0.0.1:8081: stop it first"),
            "{refused}"
        );
        drop(held);
        let held = QueryDir::hold(&path).unwrap();
        assert_eq!(held.followed().unwrap(), Some(followed));
        assert!(QueryDir::is_at(&path));
        fs::write(path.join(IDENTITY_FILE), "{").unwrap();
        let unreadable = held.followed().unwrap_err().to_string();
        assert!(unreadable.contains("the views are built anew"), "{unreadable}");
    }

    #[test]
    fn a_directory_with_a_log_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("annals.json"), "{}").unwrap();
        let refused = QueryDir::hold(dir.path()).unwrap_err().to_string();
        assert!(
            refused.contains("holds a log") && refused.contains("--data"),
            "{refused}"
        );
    }
}

//! A data directory: held by one process at a time, of a known format, with a name. What stands in it is others' work.

use crate::files::{sync_dir, write_atomically};
use crate::image::{self, Image};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Newest format of a data directory that this binary reads and writes.
pub const DATA_FORMAT: u32 = 1;
const IDENTITY_FILE: &str = "annals.json";
const LOCK_FILE: &str = "lock";
/// Where the log stands in a data directory.
pub(crate) const LOG_DIR: &str = "log";
/// Name of a log that was given none.
pub(crate) const DEFAULT_NAME: &str = "annals";

/// How a data directory is opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenOptions<'a> {
    /// Whether a directory without a log becomes one.
    pub create: bool,
    /// Name of the log; fixed at creation, afterwards it must be the same if it is given.
    pub name: Option<&'a str>,
    /// Name of the domain whose events the log holds; stored at creation.
    pub domain: Option<&'a str>,
}

/// Why a data directory cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// Another process holds it.
    #[error("data directory {} is in use{}", dir.display(), in_use(server.as_deref(), query.as_deref()))]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// URL of the command API of the server that holds it, if it said so.
        server: Option<String>,
        /// URL of its query API, if it has one.
        query: Option<String>,
    },
    /// There is no log in it.
    #[error("there is no log in {}: name another --data directory, or create one with `annals serve` or `annals load`", .0.display())]
    Missing(PathBuf),
    /// Written by a newer binary.
    #[error("data directory {} has format {found}, this binary reads up to {DATA_FORMAT}: upgrade annals", dir.display())]
    Newer {
        /// The directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It is another log.
    #[error("the log in {} is named {found:?}, not {wanted:?}: a name is fixed at creation, leave --name out", dir.display())]
    Name {
        /// The directory.
        dir: PathBuf,
        /// Its log's name.
        found: String,
        /// The name asked for.
        wanted: String,
    },
    /// A name that cannot be one.
    #[error("log name {0:?} is not valid: 1 to 64 characters of a-z, 0-9 and -, beginning with a letter")]
    InvalidName(String),
    /// Its identity cannot be read.
    #[error("{} is not readable as the identity of a log: {detail}; restore it from a backup", file.display())]
    Identity {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// It cannot be written, and no image of it can be made.
    #[error(
        "data directory {} cannot be written, and to read it as it is some files are copied to the directory for temporary \
         files: {source}; name another with the variable TMPDIR",
        dir.display()
    )]
    Image {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file system refused.
    #[error("data directory {} cannot be used: {source}; check that it exists, is writable and has space", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn in_use(server: Option<&str>, query: Option<&str>) -> String {
    match (server, query) {
        (Some(url), Some(query)) => {
            format!(" by the server at {url} (query API at {query}): ask it there, or stop it first")
        }
        (Some(url), None) => format!(" by the server at {url}: ask it there, or stop it first"),
        (None, _) => " by another annals process: wait until it ends, or stop it first".into(),
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    format: u32,
    name: String,
    domain: Option<String>,
    created: DateTime<Utc>,
}

/// A data directory, held until this is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    lock: File,
    identity: Identity,
    /// What is opened in place of a directory that cannot be written, and the lock of that directory.
    image: Option<(Image, Option<File>)>,
}

impl DataDir {
    /// Opens a data directory for who only reads its log. One that cannot be written, such as a copy on a read-only disk, is
    /// left as it is: an image of it is opened instead, in the directory for temporary files. Appends are lost with that.
    pub fn open_to_read(path: &Path) -> Result<Self, DataDirError> {
        if !path.join(IDENTITY_FILE).exists() || !image::is_read_only(path) {
            return Self::open(path, OpenOptions::default());
        }
        Self::image_of(path)
    }

    /// An image of a data directory, opened in its place, whether that can be written or not. The directory is held, if
    /// anybody ever held it, and only read.
    pub fn image_of(path: &Path) -> Result<Self, DataDirError> {
        let lock = hold_as_it_is(path)?;
        let image = Image::of(path).map_err(|source| DataDirError::Image {
            dir: path.to_owned(),
            source,
        })?;
        let mut opened = Self::open(image.path(), OpenOptions::default())?;
        opened.image = Some((image, lock));
        Ok(opened)
    }

    /// A text about what was found in the directory, with the directory's own name, also if an image of it was opened.
    pub fn named(&self, text: &str) -> String {
        let image = self.image.as_ref().map(|(image, _)| image.named(text));
        image.unwrap_or_else(|| text.to_owned())
    }

    /// Opens and locks a data directory, creating it if the options say so.
    pub fn open(path: &Path, options: OpenOptions<'_>) -> Result<Self, DataDirError> {
        let io = |source| DataDirError::Io {
            dir: path.to_owned(),
            source,
        };
        if let Some(name) = options.name.filter(|name| !valid_name(name)) {
            return Err(DataDirError::InvalidName(name.chars().take(80).collect()));
        }
        let exists = path.join(IDENTITY_FILE).try_exists().map_err(io)?;
        if !exists {
            if path.join(LOG_DIR).exists() {
                return Err(lost_identity(path));
            }
            if !options.create {
                return Err(DataDirError::Missing(path.to_owned()));
            }
            fs::create_dir_all(path).map_err(io)?;
        }
        let lock = hold(path)?;
        let identity = match read_identity(path)? {
            Some(identity) => identity,
            // A log without its identity must not get another one: its name and domain stand in what it says of itself.
            None if path.join(LOG_DIR).exists() => return Err(lost_identity(path)),
            None => create_identity(path, options).map_err(io)?,
        };
        if let Some(wanted) = options.name.filter(|name| *name != identity.name) {
            let (dir, found, wanted) = (path.to_owned(), identity.name, wanted.to_owned());
            return Err(DataDirError::Name { dir, found, wanted });
        }
        Ok(Self {
            path: path.to_owned(),
            lock,
            identity,
            image: None,
        })
    }

    /// Says at which URLs the holder's command API and query API can be reached, so that others can be told.
    pub fn announce(&self, command_url: &str, query_url: Option<&str>) -> io::Result<()> {
        let lines = format!("{command_url}\n{}", query_url.unwrap_or_default());
        self.lock.set_len(0)?;
        (&self.lock).write_all(lines.as_bytes())
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the log stands.
    pub fn log_path(&self) -> PathBuf {
        self.path.join(LOG_DIR)
    }

    /// Where the log's indexes stand: derived, may be deleted while no process runs.
    pub fn index_path(&self) -> PathBuf {
        self.path.join("index")
    }

    /// Where views stand: derived, may be deleted while no process runs.
    pub fn views_path(&self) -> PathBuf {
        self.path.join("views")
    }

    /// Where snapshots of aggregates' states stand: derived, may be deleted while no process runs.
    pub fn snapshots_path(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    /// Where the state and the outboxes of reactors stand: not derived.
    pub fn reactors_path(&self) -> PathBuf {
        self.path.join("reactors")
    }

    /// Where the log's Merkle tree stands: derived, may be deleted while no process runs.
    pub fn tree_path(&self) -> PathBuf {
        self.path.join("tree")
    }

    /// Where signed checkpoints stand: not derived.
    pub fn checkpoints_path(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Where keys stand: not derived, and in no backup of the log.
    pub fn keys_path(&self) -> PathBuf {
        self.path.join("keys")
    }

    /// The log's name.
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// Name of the domain that the log was created for.
    pub fn domain(&self) -> Option<&str> {
        self.identity.domain.as_deref()
    }
}

fn lost_identity(path: &Path) -> DataDirError {
    let detail = "it is missing, but there is a log beside it".into();
    DataDirError::Identity {
        file: path.join(IDENTITY_FILE),
        detail,
    }
}

fn valid_name(name: &str) -> bool {
    annals_core::check_category(name).is_ok() && !name.starts_with('$')
}

fn hold(path: &Path) -> Result<File, DataDirError> {
    let io = |source| DataDirError::Io {
        dir: path.to_owned(),
        source,
    };
    let file_path = path.join(LOCK_FILE);
    let file = fs::OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(&file_path)
        .map_err(io)?;
    try_lock(path, &file)?;
    file.set_len(0).map(|()| file).map_err(io)
}

/// Keeps others out of a directory without writing anything into it; `None` if nobody ever held it.
pub(crate) fn hold_as_it_is(path: &Path) -> Result<Option<File>, DataDirError> {
    match File::open(path.join(LOCK_FILE)) {
        Ok(file) => try_lock(path, &file).map(|()| Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DataDirError::Io {
            dir: path.to_owned(),
            source,
        }),
    }
}

fn try_lock(path: &Path, file: &File) -> Result<(), DataDirError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let said = fs::read_to_string(path.join(LOCK_FILE)).unwrap_or_default();
            let url = |line: Option<&str>| line.map(str::to_owned).filter(|url| url.starts_with("http"));
            let mut lines = said.lines();
            Err(DataDirError::InUse {
                dir: path.to_owned(),
                server: url(lines.next()),
                query: url(lines.next()),
            })
        }
        Err(TryLockError::Error(source)) => Err(DataDirError::Io {
            dir: path.to_owned(),
            source,
        }),
    }
}

/// Name and domain of the log in a directory that is not opened; `None` if nothing says so.
pub(crate) fn identity(path: &Path) -> Result<Option<(String, Option<String>)>, DataDirError> {
    let identity = read_identity(path)?.filter(|identity| valid_name(&identity.name));
    Ok(identity.map(|identity| (identity.name, identity.domain)))
}

fn read_identity(path: &Path) -> Result<Option<Identity>, DataDirError> {
    let file = path.join(IDENTITY_FILE);
    let bytes = match fs::read(&file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(DataDirError::Io {
                dir: path.to_owned(),
                source,
            });
        }
    };
    let malformed = |error: serde_json::Error| DataDirError::Identity {
        file: file.clone(),
        detail: error.to_string(),
    };
    // The format comes first: what a newer binary wrote may have other fields.
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(malformed)?;
    let format = value["format"].as_u64().unwrap_or_default();
    if format > u64::from(DATA_FORMAT) {
        let found = u32::try_from(format).unwrap_or(u32::MAX);
        return Err(DataDirError::Newer {
            dir: path.to_owned(),
            found,
        });
    }
    serde_json::from_value(value).map(Some).map_err(malformed)
}

fn create_identity(path: &Path, options: OpenOptions<'_>) -> io::Result<Identity> {
    let identity = Identity {
        format: DATA_FORMAT,
        name: options.name.unwrap_or(DEFAULT_NAME).to_owned(),
        domain: options.domain.map(str::to_owned),
        created: Utc::now(),
    };
    write_atomically(&path.join(IDENTITY_FILE), &serde_json::to_vec_pretty(&identity)?)?;
    // The directory itself may be new: its name must be durable too.
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    sync_dir(parent)?;
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATE: OpenOptions<'static> = OpenOptions {
        create: true,
        name: None,
        domain: Some("shop"),
    };

    #[test]
    fn a_directory_is_held_by_one_and_names_the_server() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDir::open(dir.path(), CREATE).unwrap();
        let refused = || DataDir::open(dir.path(), CREATE).unwrap_err();
        assert!(matches!(
            refused(),
            DataDirError::InUse {
                server: None,
                query: None,
                ..
            }
        ));
        held.announce("http://127.0.0.1:8080", None).unwrap();
        assert!(
            refused().to_string().contains("at http://127.0.0.1:8080:"),
            "{}",
            refused()
        );
        held.announce("http://127.0.0.1:8080", Some("http://127.0.0.1:8081"))
            .unwrap();
        let DataDirError::InUse { server, query, .. } = refused() else {
            panic!("it is in use")
        };
        assert_eq!(server.as_deref(), Some("http://127.0.0.1:8080"));
        assert_eq!(query.as_deref(), Some("http://127.0.0.1:8081"));
        drop(held);
        assert_eq!(
            DataDir::open(dir.path(), OpenOptions::default()).unwrap().domain(),
            Some("shop")
        );
    }

    #[test]
    fn a_missing_a_newer_and_a_renamed_log_are_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let missing = DataDir::open(&dir.path().join("x"), OpenOptions::default()).unwrap_err();
        assert!(missing.to_string().contains("annals serve"), "{missing}");
        drop(DataDir::open(dir.path(), CREATE).unwrap());
        let renamed = DataDir::open(
            dir.path(),
            OpenOptions {
                name: Some("other"),
                ..CREATE
            },
        )
        .unwrap_err();
        assert!(renamed.to_string().contains("fixed at creation"), "{renamed}");
        fs::create_dir(dir.path().join(LOG_DIR)).unwrap();
        let identity = fs::read(dir.path().join(IDENTITY_FILE)).unwrap();
        fs::remove_file(dir.path().join(IDENTITY_FILE)).unwrap();
        for options in [CREATE, OpenOptions::default()] {
            let lost = DataDir::open(dir.path(), options).unwrap_err();
            assert!(lost.to_string().contains("restore it from a backup"), "{lost}");
        }
        fs::write(dir.path().join(IDENTITY_FILE), identity).unwrap();
        drop(DataDir::open(dir.path(), CREATE).unwrap());
        fs::write(dir.path().join(IDENTITY_FILE), br#"{"format":99}"#).unwrap();
        let newer = DataDir::open(dir.path(), CREATE).unwrap_err();
        assert!(newer.to_string().contains("upgrade"), "{newer}");
    }
}

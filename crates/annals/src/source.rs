//! Which log a verb reads: a data directory, or a running server's. Says what to do when a server holds the directory.

use crate::backend::Backend;
use crate::config::log_settings;
use crate::query_dir::QueryDir;
use crate::remote_log::RemoteLog;
use annals_core::EventLog;
use annals_event_store::{BackupLog, DataDir, DataDirError, LogSettings, OpenError, OpenOptions, SledLog};
use anyhow::{Result, anyhow, bail};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where data directories are unless something else is said.
pub(crate) const DEFAULT_DATA: &str = "./annals-data";

/// The option `--data`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DataArg {
    /// The data directory
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA)]
    pub(crate) data: PathBuf,
}

/// The options that name a log to read.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LogArgs {
    #[command(flatten)]
    data: DataArg,

    /// The log to read: a data directory, a backup file, or http://… of a running command API [default: the data directory]
    #[arg(long, value_name = "WHERE", conflicts_with = "data")]
    log: Option<String>,

    /// URL of a running command API; the same as --log URL
    #[arg(long, value_name = "URL", conflicts_with_all = ["data", "log"])]
    url: Option<String>,
}

/// A log that is open for reading, and what holds it open.
pub(crate) struct Source {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) kind: Kind,
    domain: Option<String>,
}

/// What kind of log a source is.
pub(crate) enum Kind {
    /// A data directory, held while this lives.
    Local { dir: DataDir, log: Arc<SledLog> },
    /// A backup file.
    Backup(Arc<BackupLog>),
    /// A running server's.
    Remote,
}

impl LogArgs {
    /// The log that the options name.
    pub(crate) fn open(&self) -> Result<Source> {
        self.open_place().map_err(|error| Instead::Log.of(error))
    }

    fn open_place(&self) -> Result<Source> {
        match self.url.as_ref().or(self.log.as_ref()) {
            Some(place) if is_url(place) => remote(place),
            Some(place) if self.url.is_some() => bail!("--url {place} is no URL: write it as http://127.0.0.1:8080"),
            Some(place) if Path::new(place).is_file() => Source::backup(Path::new(place)),
            Some(place) => Source::to_read(Path::new(place)),
            None => Source::to_read(&self.data.data),
        }
    }
}

impl Source {
    /// The log of a data directory, which is held as long as this lives.
    pub(crate) fn local(path: &Path) -> Result<Self> {
        Self::opened(path, false, |path| DataDir::open(path, OpenOptions::default()))
    }

    /// As [`Source::local`], for who needs nothing but to read the log: also of a directory that cannot be written.
    pub(crate) fn to_read(path: &Path) -> Result<Self> {
        Self::opened(path, true, DataDir::open_to_read)
    }

    fn opened(path: &Path, only_read: bool, open: impl FnOnce(&Path) -> Result<DataDir, DataDirError>) -> Result<Self> {
        if QueryDir::is_at(path) {
            bail!(
                "{} is the directory of a query node and has no log: ask its query API with --url where the verb has it, \
                 or name the log that it follows",
                path.display()
            );
        }
        let dir = open(path)?;
        let settings = LogSettings {
            // Who only reads leaves the volumes as they are.
            seal: false,
            only_read,
            ..log_settings()
        };
        let log = SledLog::open(&dir, settings).map_err(|error| match error {
            OpenError::Damaged { position, detail } => OpenError::Damaged {
                position,
                detail: dir.named(&detail),
            },
            error => error,
        });
        let log = Arc::new(log?);
        let domain = dir.domain().map(str::to_owned);
        Ok(Self {
            log: Arc::clone(&log) as Arc<dyn EventLog>,
            kind: Kind::Local { dir, log },
            domain,
        })
    }

    /// The log in a backup file.
    fn backup(path: &Path) -> Result<Self> {
        let log = Arc::new(BackupLog::open(path)?);
        let domain = log.backup().domain().map(str::to_owned);
        Ok(Self {
            log: Arc::clone(&log) as Arc<dyn EventLog>,
            kind: Kind::Backup(log),
            domain,
        })
    }

    /// The data directory.
    pub(crate) fn dir(&self) -> Result<&DataDir> {
        match &self.kind {
            Kind::Local { dir, .. } => Ok(dir),
            Kind::Backup(_) => bail!("a backup has no views: restore it, then name the data directory with --data"),
            Kind::Remote => bail!("a running server's data directory cannot be looked into: name it with --data"),
        }
    }

    /// An error unless the log was written by the domain of `backend`, as far as the log says.
    pub(crate) fn check_domain(&self, backend: &Backend) -> Result<()> {
        check_domain(self.domain.as_deref(), backend)
    }
}

/// What a verb can do instead while a server holds the data directory.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Instead {
    /// Read the server's log, with --url or --log.
    Log,
    /// Ask its command API, with --url.
    CommandApi,
    /// Ask its query API, with --url.
    QueryApi,
    /// Take another data directory.
    AnotherDirectory,
    /// Nothing but wait.
    Nothing,
}

impl Instead {
    /// The error, which names what this verb can do if it is that a server holds the data directory.
    pub(crate) fn of(self, error: anyhow::Error) -> anyhow::Error {
        let Some(DataDirError::InUse {
            dir,
            server: Some(url),
            query,
        }) = error.downcast_ref()
        else {
            return error;
        };
        let remedy = match (self, query) {
            (Self::Log, _) => format!("use --url {url} (or --log {url}), or stop it first"),
            (Self::CommandApi, _) => format!("use --url {url}, or stop it first"),
            (Self::QueryApi, Some(query)) => format!("use its query API, --url {query}, or stop it first"),
            (Self::QueryApi, None) => "it has no query API, stop it first".to_owned(),
            (Self::AnotherDirectory, _) => "stop it first, or name another --data directory".to_owned(),
            (Self::Nothing, _) => "stop it first".to_owned(),
        };
        anyhow!(
            "data directory {} is in use by the server at {url}: {remedy}",
            dir.display()
        )
    }
}

/// Whether a text is a URL rather than a path.
pub(crate) fn is_url(place: &str) -> bool {
    place.starts_with("http://") || place.starts_with("https://")
}

fn remote(url: &str) -> Result<Source> {
    let log = RemoteLog::connect(url)?;
    let domain = log.domain().map(str::to_owned);
    Ok(Source {
        log: Arc::new(log),
        kind: Kind::Remote,
        domain,
    })
}

/// An error that names the domain a log was written by, unless that is the domain of `backend`.
pub(crate) fn check_domain(wrote: Option<&str>, backend: &Backend) -> Result<()> {
    match wrote {
        Some(wrote) if wrote != backend.name() => bail!(
            "the log was written by the domain {wrote:?}, and this binary knows {:?}: use the binary of {wrote:?}; \
             `events` and `verify` work with any log",
            backend.name()
        ),
        _ => Ok(()),
    }
}

//! A salvage: a new log out of the blocks in the raw files of a damaged one, which is only read.

use super::choose::FrameSet;
use super::plan::Plan;
use super::raw::{RawFiles, files_below};
use super::remains::Remains;
use crate::data_dir::{DataDir, DataDirError, LOG_DIR, OpenOptions};
use crate::files::{parent, sync_dir};
use crate::fresh::{self, FreshError};
use crate::sled::{Origin, WriteError, write_log};
use annals_core::{Epoch, LogError, Position, RecordRef};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// What is added to the name of a data directory while it is being written.
const UNFINISHED: &str = "salvaging";

/// Why nothing was salvaged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SalvageError {
    /// The damaged directory is in use, or of a newer binary.
    #[error(transparent)]
    Dir(#[from] DataDirError),
    /// There is nothing to make a log of.
    #[error("in the files below {} there is no whole block of a log: nothing can be salvaged here, restore a backup", .0.display())]
    Nothing(PathBuf),
    /// There is something where the new log should be.
    #[error("{} {detail}", path.display())]
    Target {
        /// Where.
        path: PathBuf,
        /// What is there, and what to do.
        detail: String,
    },
    /// A file cannot be read or written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Reading or writing failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

impl SalvageError {
    fn reading(path: &Path) -> impl Fn(io::Error) -> Self {
        let what = format!("{} cannot be read", path.display());
        move |source| Self::Io {
            what: what.clone(),
            source,
        }
    }

    fn writing(source: io::Error) -> Self {
        let what = if source.kind() == io::ErrorKind::StorageFull {
            "the disk is full, the new data directory cannot be written: free some space, or name a place on another disk"
        } else {
            "the new data directory cannot be written"
        };
        let what = what.into();
        Self::Io { what, source }
    }
}

impl From<FreshError> for SalvageError {
    fn from(error: FreshError) -> Self {
        match error {
            FreshError::Target { path, detail } => Self::Target { path, detail },
            FreshError::Io(source) => Self::writing(source),
        }
    }
}

impl From<WriteError> for SalvageError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Blocks(error) => Self::Log(error),
            WriteError::Writing(source) => Self::writing(source),
        }
    }
}

/// What was found in a damaged log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SalvageFound {
    /// Name of the log.
    pub name: String,
    /// The history that it told.
    pub epoch: Epoch,
    /// Files that were read.
    pub files: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Bytes that the disk did not give back.
    pub unreadable: u64,
    /// Up to here the events follow each other: so many can be in a new log.
    pub end: Position,
    /// Events that were found and cannot be in it, because something in front of them is missing.
    pub behind: u64,
    /// First and last positions of what is missing, ascending. Whether there was anything after the last event that was
    /// found, the files may not say.
    pub missing: Vec<(Position, Position)>,
    /// What is lost besides events, such as the log's secret, and what follows from that.
    pub lost: Vec<String>,
    /// What else there is to know, and what could not be taken along.
    pub notes: Vec<String>,
}

impl SalvageFound {
    /// Whether everything that the files speak of can be in a new log, and nothing that belongs to it is lost.
    pub fn is_whole(&self) -> bool {
        self.behind == 0 && self.missing.is_empty() && self.lost.is_empty()
    }
}

/// A new log that was made of a damaged one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SalvageSummary {
    /// Its history, which goes on from the damaged one's.
    pub epoch: Epoch,
    /// How many outboxes of reactors were taken along.
    pub outboxes: u64,
    /// What could not be taken along.
    pub notes: Vec<String>,
}

/// A damaged log, its files read. Its directory is held, and left as it is.
#[derive(Debug)]
pub struct Salvage {
    data: PathBuf,
    files: RawFiles,
    plan: Plan,
    remains: Remains,
    found: SalvageFound,
}

impl Salvage {
    /// Reads all files of the log in a data directory for blocks, whatever state it is in. `progress` gets how many bytes
    /// were read, and of how many.
    pub fn of(data: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Self, SalvageError> {
        let log = data.join(LOG_DIR);
        if !log.is_dir() {
            return Err(DataDirError::Missing(data.to_owned()).into());
        }
        let mut remains = Remains::of(data)?;
        let mut files = scan_all(&log, progress)?;
        let mut frames = std::mem::take(&mut files.frames);
        let epoch = history(
            frames.iter().map(|frame| (frame.meta.epoch, frame.meta.count)),
            remains.epoch,
        );
        // A log that nothing was ever appended to is whole.
        let empty = remains.epoch.filter(|_| remains.was_empty && is_blank(&log));
        let epoch = epoch.or(empty).ok_or_else(|| SalvageError::Nothing(log.clone()))?;
        let all = frames.len();
        frames.retain(|frame| frame.meta.epoch == epoch);
        let mut notes = std::mem::take(&mut remains.notes);
        if all == 0 {
            notes.push("there is nothing in it, and nothing says that there ever was: the new log is empty".into());
        }
        if frames.len() < all {
            let others = all - frames.len();
            notes.push(format!(
                "{others} blocks are of other histories than {epoch} and are left out"
            ));
        }
        // The manifest's count of boots may be what is damaged.
        let set = FrameSet::new(frames, Some(epoch), u64::MAX);
        let plan = Plan::new(&files, &set, remains.known(epoch), &mut |_| ())?;
        if files.unreadable > 0 {
            notes.push(format!(
                "the disk did not give back {} bytes of the files",
                files.unreadable
            ));
        }
        if let Some(unfit) = &plan.unfit {
            notes.push(format!(
                "what follows position {} does not go on from it: {unfit}",
                plan.end
            ));
        }
        let found = SalvageFound {
            name: remains.name.clone(),
            epoch,
            files: files.len() as u64,
            bytes: files.bytes,
            unreadable: files.unreadable,
            end: plan.end,
            behind: plan.behind,
            missing: plan.missing.clone(),
            lost: std::mem::take(&mut remains.lost),
            notes,
        };
        let data = data.to_owned();
        Ok(Self {
            data,
            files,
            plan,
            remains,
            found,
        })
    }

    /// What was found.
    pub fn found(&self) -> &SalvageFound {
        &self.found
    }

    /// Tells the events that cannot be in a new log, in the order of their positions.
    pub fn rest<E: From<LogError>>(&self, take: impl FnMut(&RecordRef<'_>) -> Result<(), E>) -> Result<(), E> {
        self.plan.rest(&self.files, take)
    }

    /// An error if a path is in the damaged directory, which stays as it is, or cannot be written.
    pub fn check_outside(&self, path: &Path) -> Result<(), SalvageError> {
        let outside = || -> io::Result<bool> {
            let parent = parent(path).canonicalize()?;
            Ok(!parent.starts_with(self.data.canonicalize()?))
        };
        let detail = match outside() {
            Ok(true) => return Ok(()),
            Ok(false) => "is in the damaged directory, which must stay as it is: name another place".into(),
            Err(error) => format!("cannot be written ({error}): name a place whose directory exists"),
        };
        let path = path.to_owned();
        Err(SalvageError::Target { path, detail })
    }

    /// An error unless a new data directory can be written at `target`.
    pub fn check_target(&self, target: &Path) -> Result<(), SalvageError> {
        self.check_outside(target)?;
        Ok(fresh::check(target)?)
    }

    /// Writes the events up to `found().end` as a new data directory with a new epoch. Until all is written, read back and
    /// synced it stands beside, as `target.salvaging`. `progress` gets the position reached.
    pub fn write(&self, target: &Path, progress: &mut dyn FnMut(Position)) -> Result<SalvageSummary, SalvageError> {
        self.check_target(target)?;
        fresh::build(target, UNFINISHED, |beside| self.write_at(beside, progress))
    }

    fn write_at(&self, dir: &Path, progress: &mut dyn FnMut(Position)) -> Result<SalvageSummary, SalvageError> {
        let options = OpenOptions {
            create: true,
            name: Some(&self.remains.name),
            domain: self.remains.domain.as_deref(),
        };
        let held = DataDir::open(dir, options)?;
        let origin = Origin {
            epoch: self.found.epoch,
            head: self.found.end,
            secret: self.remains.secret,
        };
        let mut blocks = self.plan.blocks(&self.files);
        let epoch = write_log(&held.log_path(), &origin, &mut blocks, progress)?;
        let mut notes = Vec::new();
        let outboxes = self.remains.copy_outboxes(&held.reactors_path(), &mut notes);
        let outboxes = outboxes.map_err(SalvageError::writing)?;
        sync_dir(dir).map_err(SalvageError::writing)?;
        Ok(SalvageSummary { epoch, outboxes, notes })
    }
}

/// Scans every file of a log. The storage engine's files are of one lineage; every other file is one of its own.
fn scan_all(log: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<RawFiles, SalvageError> {
    let listed = files_below(log).map_err(SalvageError::reading(log))?;
    let total = listed.iter().map(|(_, len)| len).sum();
    let (mut files, mut lineages) = (RawFiles::default(), 0);
    for (path, _) in listed {
        let name = path.strip_prefix(log).unwrap_or(&path);
        let alone = name.components().count() == 1 && name.extension().is_none_or(|ending| ending != "rescued");
        if alone {
            lineages += 1;
        }
        let lineage = if alone { lineages } else { 0 };
        files.add(&path, lineage, &mut |bytes| progress(bytes, total))?;
    }
    Ok(files)
}

/// Whether the volume of a log in which no block was found is one that was made and not written to, rather than one that was
/// overwritten with nothing: the storage engine's own words stand at its beginning.
fn is_blank(log: &Path) -> bool {
    let db = log.join(format!("{:020}", 1)).join("db");
    let mut begin = [0; 512];
    match File::open(&db).and_then(|file| file.read_at(&mut begin, 0)) {
        Ok(read) => begin[..read].iter().any(|byte| *byte != 0),
        // It was created, and never opened.
        Err(error) => error.kind() == io::ErrorKind::NotFound && !log.join("journal-0").exists(),
    }
}

/// The history that is salvaged: the manifest's, unless no block is of it; then the one that most events are of.
fn history(frames: impl Iterator<Item = (Epoch, u32)>, stated: Option<Epoch>) -> Option<Epoch> {
    let mut events: HashMap<Epoch, u64> = HashMap::new();
    for (epoch, count) in frames {
        *events.entry(epoch).or_default() += u64::from(count);
    }
    let most = events
        .iter()
        .max_by_key(|(epoch, events)| (**events, *epoch.as_bytes()));
    stated
        .filter(|stated| events.contains_key(stated))
        .or(most.map(|(epoch, _)| *epoch))
}

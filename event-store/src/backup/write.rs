//! Writes a backup of an open log, beside its appends: they do not wait for it.

use super::check::Checker;
use super::{Attached, BackupError, BackupSummary, FORMAT, Head, KIND, hex};
use crate::block_file::{BlockFileWriter, Repack};
use crate::data_dir::DataDir;
use crate::frame::{FrameMeta, encode_frame};
use crate::sled::SledLog;
use annals_core::{Block, EventLog, LogError, Position};
use chrono::Utc;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of records that are read at once.
const READ_BYTES: usize = 4 << 20;
/// Bytes of an attached file that are copied at once.
const COPY_BYTES: usize = 64 << 10;

/// A log that can be backed up, any number of times.
#[derive(Clone)]
pub struct BackupSource {
    log: Arc<SledLog>,
    domain: Option<String>,
    reactors: PathBuf,
}

impl BackupSource {
    /// The log of a data directory, which must stay held.
    pub fn new(dir: &DataDir, log: Arc<SledLog>) -> Self {
        Self {
            log,
            domain: dir.domain().map(str::to_owned),
            reactors: dir.reactors_path(),
        }
    }

    /// Position of the last event that a backup taken now would have.
    pub fn head(&self) -> Position {
        self.log.head()
    }

    /// Writes everything up to the log's head at this moment, and checks it meanwhile: every block, every position,
    /// version and time. `progress` gets the position reached. Nothing is synced.
    pub fn write(&self, out: impl Write, progress: &mut dyn FnMut(Position)) -> Result<BackupSummary, BackupError> {
        // The outboxes first: they never know more than the log that is read after them.
        let outboxes = Outbox::all(&self.reactors)?;
        let head = self.log.head();
        let about = Head {
            kind: KIND.into(),
            format: FORMAT,
            name: self.log.name().to_owned(),
            domain: self.domain.clone(),
            taken: Utc::now(),
            epoch: self.log.epoch(),
            head,
            secret: hex(self.log.secret()),
            files: outboxes.iter().map(|outbox| outbox.attached.clone()).collect(),
        };
        let json = serde_json::to_vec(&about).map_err(io::Error::from)?;
        let mut out = BlockFileWriter::new(out, &json)?;
        for outbox in outboxes {
            outbox.copy(&mut out)?;
        }
        self.write_blocks(&mut out, head, progress)?;
        let (_, written) = out.finish()?;
        Ok(BackupSummary {
            name: about.name,
            epoch: about.epoch,
            head,
            bytes: written.bytes,
            sha256: hex(&written.sha256),
            outboxes: count_outboxes(&about.files),
        })
    }

    fn write_blocks<W: Write>(
        &self,
        out: &mut BlockFileWriter<W>,
        head: Position,
        progress: &mut dyn FnMut(Position),
    ) -> Result<(), BackupError> {
        let mut checker = Checker::default();
        let mut repack = Repack::new(Position::new(1));
        let meta = FrameMeta {
            epoch: self.log.epoch(),
            boot: self.log.boot(),
            first: Position::ZERO,
            count: 0,
            part: 0,
            parts: 1,
        };
        let mut write = |block: &Block| out.frame(block, &encode_frame(block, meta));
        while checker.last() < head {
            let blocks = self.log.read(checker.last(), READ_BYTES)?;
            if blocks.is_empty() {
                break;
            }
            for record in blocks.iter().flat_map(Block::iter) {
                let record = record.map_err(LogError::from)?;
                if record.position > head {
                    break;
                }
                checker.record(&record)?;
                if let Some(full) = repack.push(record.header_bytes, record.payload) {
                    write(&full)?;
                }
            }
            progress(checker.last());
        }
        if let Some(rest) = repack.take() {
            write(&rest)?;
        }
        Ok(checker.finish(head)?)
    }
}

/// How many of these files are outboxes.
pub(super) fn count_outboxes(files: &[Attached]) -> u64 {
    files.iter().filter(|file| file.path.ends_with("/outbox")).count() as u64
}

/// A file of the reactors as it is at one moment: it is only appended to, or replaced as a whole.
struct Outbox {
    attached: Attached,
    file: File,
}

impl Outbox {
    /// The register, and the outbox of each reactor.
    fn all(dir: &Path) -> Result<Vec<Self>, BackupError> {
        let mut found = Vec::new();
        found.extend(Self::open(dir, "registry.json")?);
        let Ok(entries) = fs::read_dir(dir) else {
            return Ok(found);
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort_unstable();
        for name in names {
            found.extend(Self::open(dir, &format!("{name}/outbox"))?);
        }
        Ok(found)
    }

    /// `None` if there is no such file.
    fn open(dir: &Path, path: &str) -> io::Result<Option<Self>> {
        let file = match File::open(dir.join(path)) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let bytes = file.metadata()?.len();
        let path = path.to_owned();
        Ok(Some(Self {
            attached: Attached { path, bytes },
            file,
        }))
    }

    /// Copies as many bytes as the head says, whatever was appended since.
    fn copy<W: Write>(self, out: &mut BlockFileWriter<W>) -> Result<(), BackupError> {
        let (mut file, mut buffer) = (self.file.take(self.attached.bytes), vec![0; COPY_BYTES]);
        let mut copied = 0;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            copied += read as u64;
            out.bytes(&buffer[..read])?;
        }
        if copied == self.attached.bytes {
            return Ok(());
        }
        Err(io::Error::other(format!("{} became shorter while it was copied", self.attached.path)).into())
    }
}

//! What stands around the blocks of a damaged log: identity, secret, manifest, outboxes. Each is taken along if it can be
//! read, and named if not. Nothing of it is written.

use super::SalvageError;
use crate::data_dir::{self, DEFAULT_NAME};
use crate::files::{parent, sync_dir};
use crate::secret::LogSecret;
use annals_core::{Epoch, Position};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Bytes of an outbox that are copied at once.
const COPY_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Remains {
    /// Keeps others out of the directory while this lives.
    _lock: Option<File>,
    pub(super) name: String,
    pub(super) domain: Option<String>,
    /// What the manifest says.
    pub(super) epoch: Option<Epoch>,
    /// The least position that there must have been in each history that something speaks of.
    known: Vec<(Epoch, Position)>,
    /// Whether there was ever anything in the log, as far as the manifest and the index know.
    pub(super) was_empty: bool,
    pub(super) secret: [u8; 32],
    /// What is lost besides events, and what follows from that.
    pub(super) lost: Vec<String>,
    reactors: PathBuf,
    /// What could not be taken along, and what follows from that.
    pub(super) notes: Vec<String>,
}

impl Remains {
    /// Looks around in a data directory that nobody holds.
    pub(super) fn of(data: &Path) -> Result<Self, SalvageError> {
        let lock = data_dir::hold_as_it_is(data)?;
        let (log, mut notes, mut lost) = (data.join(data_dir::LOG_DIR), Vec::new(), Vec::new());
        let (name, domain) = match data_dir::identity(data) {
            Ok(Some(identity)) => identity,
            Err(error @ data_dir::DataDirError::Newer { .. }) => return Err(error.into()),
            _ => {
                notes.push(format!(
                    "what the log says of itself (annals.json) cannot be read: the new one is named {DEFAULT_NAME:?}, for any domain"
                ));
                (DEFAULT_NAME.to_owned(), None)
            }
        };
        let secret = match read_secret(&log) {
            Some(secret) => secret,
            None => {
                lost.push(
                    "the log's secret is lost, the new log has another: events are not found by the personal tags that \
                     they were given, and commands that are sent again with their keys are refused as other ones. Any \
                     backup of the log has the secret: restore one into another directory, copy its log/secret into the \
                     damaged directory, and salvage again"
                        .into(),
                );
                *LogSecret::random().as_bytes()
            }
        };
        let stated = crate::sled::stated(&log);
        if stated.is_none() {
            notes.push("the log's manifest cannot be read: its history is the one that most blocks are of".into());
        }
        let known: Vec<_> = stated
            .into_iter()
            .chain(crate::sled::indexed(&data.join("index")))
            .collect();
        let was_empty = stated.is_some() && known.iter().all(|(_, position)| *position == Position::ZERO);
        Ok(Self {
            _lock: lock,
            name,
            domain,
            epoch: stated.map(|(epoch, _)| epoch),
            known,
            was_empty,
            secret,
            lost,
            reactors: data.join("reactors"),
            notes,
        })
    }

    /// The least position that there must have been in a history.
    pub(super) fn known(&self, epoch: Epoch) -> Position {
        let known = self.known.iter().filter(|(of, _)| *of == epoch);
        known.map(|(_, position)| *position).max().unwrap_or(Position::ZERO)
    }

    /// Copies the register of reactors and their outboxes; gives how many outboxes there are, and adds to `notes` what could
    /// not be read.
    pub(super) fn copy_outboxes(&self, to: &Path, notes: &mut Vec<String>) -> io::Result<u64> {
        let mut names: Vec<_> = match fs::read_dir(&self.reactors) {
            Ok(entries) => entries.filter_map(Result::ok).map(|entry| entry.path()).collect(),
            Err(_) => return Ok(0),
        };
        names.sort_unstable();
        let mut outboxes = 0;
        for from in names {
            let from = if from.is_dir() { from.join("outbox") } else { from };
            let name = from.strip_prefix(&self.reactors).unwrap_or(&from);
            if !from.is_file() || !(from.ends_with("outbox") || name == Path::new("registry.json")) {
                continue;
            }
            if copy(&from, &to.join(name))? {
                outboxes += u64::from(from.ends_with("outbox"));
            } else {
                notes.push(format!("{} cannot be read and is left out", from.display()));
            }
        }
        if to.exists() {
            sync_dir(to)?;
        }
        Ok(outboxes)
    }
}

fn read_secret(log: &Path) -> Option<[u8; 32]> {
    LogSecret::look(log).ok().map(|(secret, _)| *secret.as_bytes())
}

/// Copies a file; false if it cannot be read. An error is one of writing.
fn copy(from: &Path, to: &Path) -> io::Result<bool> {
    let Ok(mut source) = File::open(from) else {
        return Ok(false);
    };
    fs::create_dir_all(parent(to))?;
    let mut file = File::create(to)?;
    let mut piece = vec![0; COPY_BYTES];
    loop {
        match source.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => file.write_all(&piece[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => {
                fs::remove_file(to)?;
                return Ok(false);
            }
        }
    }
    file.sync_all()?;
    sync_dir(parent(to))?;
    Ok(true)
}

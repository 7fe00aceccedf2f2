//! One volume: a sled database with the blocks of a run of positions. Knows keys and frames, not what is in records.
//!
//! Key: position of the first record (u64 BE); further parts of a record larger than a block: position, part (u16 BE).

use crate::files::sync_dir;
use crate::frame::{self, FrameError, FrameMeta};
use annals_core::{Block, LogError, Position};
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// sled's segment: leaves have at most 17 blocks of 64 KiB, far from the quarter of it where sled would begin to
/// write them as unsynced files of their own.
const SEGMENT_BYTES: usize = 8 << 20;

/// Name of a volume that is being made.
const UNFINISHED: &str = "volume.new";
/// The file in which sled keeps a database's settings.
const SETTINGS: &str = "conf";

pub(super) struct Volume {
    pub(super) first: Position,
    path: PathBuf,
    db: sled::Db,
    file: File,
}

/// The key of the block that begins at a position.
pub(super) fn key(first: Position) -> [u8; 8] {
    first.get().to_be_bytes()
}

/// The key of a further part of the record at a position.
pub(super) fn part_key(first: Position, part: u16) -> [u8; 10] {
    let mut key = [0; 10];
    key[..8].copy_from_slice(&first.get().to_be_bytes());
    key[8..].copy_from_slice(&part.to_be_bytes());
    key
}

/// The position in a key.
fn position_of(key: &[u8]) -> Position {
    Position::new(key.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes)))
}

pub(super) fn damaged(position: Position, detail: impl Into<String>) -> LogError {
    LogError::Damaged {
        position,
        detail: detail.into(),
    }
}

fn config(path: &Path) -> sled::Config {
    sled::Config::new()
        .path(path)
        .segment_size(SEGMENT_BYTES)
        .flush_every_ms(None)
        .print_profile_on_drop(false)
}

/// Makes the directory of a volume with sled's settings in it, durable before it has its name: sled syncs neither, and
/// does not open a volume whose settings were torn.
fn create(path: &Path) -> io::Result<()> {
    let beside = path.with_file_name(UNFINISHED);
    match fs::remove_dir_all(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    drop(config(&beside).open().map_err(io::Error::other)?);
    // The settings alone are kept: in a database that is opened again sled leaves the rest of a segment empty.
    for entry in fs::read_dir(&beside)? {
        let entry = entry?;
        if entry.file_type()?.is_file() && entry.file_name() != SETTINGS {
            fs::remove_file(entry.path())?;
        }
    }
    sync_files(&beside)?;
    fs::rename(&beside, path)?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Removes what a crash left of a summary that sled was writing: it takes a half-written one for the newest, and then
/// does not open. One that is whole has another name.
pub(super) fn remove_unfinished(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "generating") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Makes the files of a volume durable, and their names.
fn sync_files(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        match File::open(entry?.path()) {
            Ok(file) => file.sync_all()?,
            // sled removed a file of its own meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    sync_dir(path)
}

impl Volume {
    /// Opens the volume, creating it if it is not there. sled panics on most damaged files: that is damage, too.
    pub(super) fn look(path: &Path, first: Position, cache_bytes: u64) -> Result<Self, LogError> {
        if !path.exists() {
            create(path).map_err(|error| LogError::Storage(format!("{}: {error}", path.display())))?;
        }
        remove_unfinished(path).map_err(|error| LogError::Storage(format!("{}: {error}", path.display())))?;
        let config = config(path).cache_capacity(cache_bytes);
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        let db = match opened {
            Ok(Ok(db)) => db,
            Ok(Err(error)) if is_environment(&error) => {
                return Err(LogError::Storage(format!("{}: {error}", path.display())));
            }
            // Whatever else sled says of a directory that it wrote itself: it is not what was written.
            Ok(Err(_)) | Err(_) => {
                return Err(damaged(
                    first,
                    format!("the files of volume {} are damaged", path.display()),
                ));
            }
        };
        let file =
            File::open(path.join("db")).map_err(|error| LogError::Storage(format!("{}: {error}", path.display())))?;
        let volume = Self {
            first,
            path: path.to_owned(),
            db,
            file,
        };
        volume.refuse_blobs()?;
        Ok(volume)
    }

    /// As [`Volume::look`], and what is there is durable afterwards.
    pub(super) fn open(path: &Path, first: Position, cache_bytes: u64) -> Result<Self, LogError> {
        let volume = Self::look(path, first, cache_bytes)?;
        // What a killed process left unsynced is read as if it were durable: from here on it is.
        sync_files(path).map_err(|error| LogError::Storage(format!("{}: {error}", path.display())))?;
        Ok(volume)
    }

    /// sled writes large leaves to files that it neither syncs nor misses: there must never be one.
    fn refuse_blobs(&self) -> Result<(), LogError> {
        let blobs = fs::read_dir(self.path.join("blobs"));
        match blobs.ok().and_then(|mut entries| entries.next()) {
            None => Ok(()),
            Some(_) => Err(LogError::Storage(format!(
                "{} holds files that the storage engine neither syncs nor misses, so the volume cannot be trusted: keep \
                 the directory as it is and restore a backup, or make a new log of what is whole in it with `annals \
                 salvage`",
                self.path.join("blobs").display()
            ))),
        }
    }

    /// What an error of sled means here: trouble with the system, or files that are not what was written.
    fn failed(&self, error: &sled::Error) -> LogError {
        if is_environment(error) {
            LogError::Storage(error.to_string())
        } else {
            damaged(
                self.first,
                format!("the files of volume {} are damaged: {error}", self.path.display()),
            )
        }
    }

    pub(super) fn insert(&self, key: &[u8], frame: Vec<u8>) -> Result<(), LogError> {
        self.db
            .insert(key, frame)
            .map(|_| ())
            .map_err(|error| LogError::Storage(error.to_string()))
    }

    pub(super) fn remove(&self, key: &[u8]) -> Result<(), LogError> {
        self.db
            .remove(key)
            .map(|_| ())
            .map_err(|error| LogError::Storage(error.to_string()))
    }

    /// Removes all blocks that begin after a position, and syncs.
    pub(super) fn remove_after(&self, position: Position) -> Result<(), LogError> {
        for found in self.db.range(key(position.next())..).keys() {
            self.remove(&found.map_err(|error| self.failed(&error))?)?;
        }
        self.sync()
    }

    /// Everything inserted so far survives a power cut when this returns. sled's flush alone does not reach the disk's
    /// cache, nor the file's metadata.
    pub(super) fn sync(&self) -> Result<(), LogError> {
        self.db.flush().map_err(|error| LogError::Storage(error.to_string()))?;
        self.file
            .sync_data()
            .map_err(|error| LogError::Storage(error.to_string()))?;
        self.refuse_blobs()
    }

    /// Its directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Size of its file in bytes.
    pub(super) fn file_len(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.len())
    }

    /// The block that contains `position`; `None` if the volume ends before it.
    pub(super) fn block_at(&self, position: Position) -> Result<Option<Block>, LogError> {
        match self.scan(position)?.next().transpose()? {
            Some(block) if block.last() >= position => Ok(Some(block)),
            _ => Ok(None),
        }
    }

    /// The first position of the block that contains `position`, or of the last one before it.
    pub(super) fn block_start(&self, position: Position) -> Result<Option<Position>, LogError> {
        let found = self
            .db
            .get_lt(key(position.next()))
            .map_err(|error| self.failed(&error))?;
        Ok(found.map(|(key, _)| position_of(&key)))
    }

    /// Blocks in order, beginning with the one that contains `position` or, if none does, with the next.
    pub(super) fn scan(&self, position: Position) -> Result<Blocks<'_>, LogError> {
        let start = self.block_start(position)?.unwrap_or(position);
        Ok(Blocks {
            volume: self,
            entries: self.db.range(key(start)..),
            done: false,
        })
    }

    /// First position of the next block that begins after `position`.
    pub(super) fn start_after(&self, position: Position) -> Result<Option<Position>, LogError> {
        let mut later = self.db.range(key(position.next())..);
        // Parts of records have longer keys; only the first begins a block.
        let found = later
            .find(|entry| entry.as_ref().map_or(true, |(key, _)| key.len() == 8))
            .transpose();
        found
            .map(|found| found.map(|(key, _)| position_of(&key)))
            .map_err(|error| self.failed(&error))
    }

    /// Last key; `None` for an empty volume.
    pub(super) fn last_key(&self) -> Result<Option<Vec<u8>>, LogError> {
        let last = self.db.last().map_err(|error| self.failed(&error))?;
        Ok(last.map(|(key, _)| key.to_vec()))
    }

    /// Whether further parts of the record at `first` stand here without its beginning, or its beginning without all
    /// of them.
    pub(super) fn is_torn(&self, first: Position) -> Result<bool, LogError> {
        let get = |key: &[u8]| self.db.get(key).map_err(|error| self.failed(&error));
        let Some(value) = get(&key(first))? else {
            return Ok(true);
        };
        let parts = frame::check_frame(&value).map_or(1, |(meta, _)| meta.parts);
        for part in 1..parts {
            if get(&part_key(first, part))?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Keys and frames as they are stored, in the order of the keys; nothing is checked.
    pub(super) fn entries(&self) -> impl Iterator<Item = Result<(sled::IVec, sled::IVec), LogError>> {
        let entries = self.db.iter();
        entries.map(|entry| entry.map_err(|error| self.failed(&error)))
    }

    /// The block whose first key this is, checked against it.
    fn decode(&self, first: Position, value: &[u8]) -> Result<Block, LogError> {
        let (meta, raw) = checked(first, value)?;
        if meta.parts <= 1 {
            return Ok(Block::new(first, u64::from(meta.count), raw.into()));
        }
        let mut parts = vec![raw];
        for part in 1..meta.parts {
            let value = self
                .db
                .get(part_key(first, part))
                .map_err(|error| LogError::Storage(error.to_string()))?;
            let value = value.ok_or_else(|| damaged(first, format!("part {part} of the record is missing")))?;
            let (found, raw) = checked(first, &value)?;
            if (found.part, found.parts) != (part, meta.parts) {
                return Err(damaged(first, format!("part {part} of the record is another block")));
            }
            parts.push(raw);
        }
        Ok(frame::join(first, &parts))
    }
}

/// Errors that the system raised. A file that ends too early is damaged, and no fault of the system.
fn is_environment(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.kind() != std::io::ErrorKind::UnexpectedEof)
}

/// The frame in these bytes, which must begin at a position and fill them.
pub(super) fn checked(first: Position, value: &[u8]) -> Result<(FrameMeta, Vec<u8>), LogError> {
    let (meta, raw, used) =
        frame::decode_bytes(value).map_err(|error: FrameError| damaged(first, error.to_string()))?;
    if meta.first != first {
        return Err(damaged(
            first,
            format!("the block of position {} stands here", meta.first),
        ));
    }
    if used != value.len() {
        return Err(damaged(first, "bytes follow the block"));
    }
    Ok((meta, raw))
}

/// Blocks of a volume in order.
pub(super) struct Blocks<'a> {
    volume: &'a Volume,
    entries: sled::Iter,
    done: bool,
}

impl Iterator for Blocks<'_> {
    type Item = Result<Block, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.next_stored()?.map(|(block, _)| block))
    }
}

impl Blocks<'_> {
    /// The next block, and what is stored under its key: its frame, or that of its first part.
    pub(super) fn next_stored(&mut self) -> Option<Result<(Block, sled::IVec), LogError>> {
        if self.done {
            return None;
        }
        loop {
            match self.entries.next()? {
                // Further parts of a record were read with its first.
                Ok((key, _)) if key.len() > 8 => {}
                Ok((key, value)) => {
                    let block = self.volume.decode(position_of(&key), &value);
                    self.done = block.is_err();
                    return Some(block.map(|block| (block, value)));
                }
                Err(error) => {
                    self.done = true;
                    return Some(Err(LogError::Storage(error.to_string())));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_that_was_being_written_at_a_crash_does_not_keep_a_volume_from_opening() {
        let dir = tempfile::tempdir().unwrap();
        let (path, first) = (dir.path().join("1"), Position::new(1));
        let volume = Volume::open(&path, first, 1 << 20).unwrap();
        volume.insert(&key(first), vec![7]).unwrap();
        volume.sync().unwrap();
        drop(volume);
        std::fs::write(path.join("snap.00000000FFFFFFFF.generating"), b"").unwrap();
        let volume = Volume::open(&path, first, 1 << 20).unwrap();
        assert_eq!(volume.last_key().unwrap(), Some(key(first).to_vec()));
    }
}

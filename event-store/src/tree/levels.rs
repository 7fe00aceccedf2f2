//! The stored hashes of the tree: a file for each level of tiles from 1 on, and a note of how far they are durable.
//!
//! A file has 36 bytes for each hash: the hash, then the CRC-32C (little endian) of epoch, level, place and hash. A hash of
//! another log or place does so not pass for one of this.

use crate::files::write_atomically;
use annals_audit::{HASH_LEN, Hash};
use annals_core::Epoch;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const FORMAT: u32 = 1;
const RECORD_LEN: usize = HASH_LEN + 4;
/// Levels of tiles above the leaves: with 256^8 leaves a tree is full.
const LEVELS_MAX: u8 = 7;
/// A tile of level 1 stands for so many leaves.
const LEAVES_EACH: u64 = 256;

pub(super) struct Levels {
    dir: PathBuf,
    epoch: Epoch,
    /// How many leaves the durable hashes cover.
    noted: u64,
    /// Of level 1 and up.
    files: Vec<LevelFile>,
}

#[derive(Default)]
struct LevelFile {
    /// None until the level has a hash.
    file: Option<File>,
    /// How many hashes are written.
    len: u64,
    /// What is to be written behind them.
    pending: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Noted {
    format: u32,
    epoch: Epoch,
    leaves: u64,
}

impl Levels {
    /// Looks at what is there. Files of another log, or of a format that is not known, count as nothing.
    pub(super) fn open(dir: &Path, epoch: Epoch) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let noted = match fs::read(note(dir)) {
            Ok(bytes) => serde_json::from_slice::<Noted>(&bytes).ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let noted = noted.filter(|noted| noted.format == FORMAT && noted.epoch == epoch);
        Ok(Self {
            dir: dir.to_owned(),
            epoch,
            noted: noted.map_or(0, |noted| noted.leaves),
            files: (0..LEVELS_MAX).map(|_| LevelFile::default()).collect(),
        })
    }

    /// How many leaves the durable hashes cover, a multiple of 256.
    pub(super) fn noted(&self) -> u64 {
        self.noted
    }

    /// Keeps the hashes of the full tiles among the first `leaves` leaves. An error if there are fewer.
    pub(super) fn cut(&mut self, leaves: u64) -> io::Result<()> {
        for level in 1..=LEVELS_MAX {
            let path = self.path(level);
            let len = leaves >> (8 * u32::from(level));
            let mut file = None;
            if len > 0 {
                let opened = open(&path)?;
                let bytes = len * RECORD_LEN as u64;
                if opened.metadata()?.len() < bytes {
                    return Err(io::Error::other(format!("{} is cut", path.display())));
                }
                opened.set_len(bytes)?;
                file = Some(opened);
            } else if let Err(error) = fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error);
            }
            self.files[place(level)] = LevelFile {
                file,
                len,
                pending: Vec::new(),
            };
        }
        Ok(())
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.note(0)?;
        self.cut(0)
    }

    /// Takes the root of a full subtree that has just been completed. Only those of full tiles are stored, by the next
    /// [`Levels::write`]; until then they cannot be read.
    pub(super) fn completed(&mut self, height: u8, hash: Hash) {
        let level = height / 8;
        if height == 0 || !height.is_multiple_of(8) || level > LEVELS_MAX {
            return;
        }
        let epoch = self.epoch;
        let file = &mut self.files[place(level)];
        let index = file.len + (file.pending.len() / RECORD_LEN) as u64;
        file.pending.extend_from_slice(&hash.0);
        file.pending
            .extend_from_slice(&checksum(epoch, level, index, &hash).to_le_bytes());
    }

    /// Writes what was completed. What could not be written whole is written again the next time.
    pub(super) fn write(&mut self) -> io::Result<()> {
        for level in 1..=LEVELS_MAX {
            let path = self.path(level);
            let LevelFile { file, len, pending } = &mut self.files[place(level)];
            if pending.is_empty() {
                continue;
            }
            let file = match file {
                Some(file) => file,
                None => file.insert(open(&path)?),
            };
            file.write_all_at(pending, *len * RECORD_LEN as u64)?;
            *len += (pending.len() / RECORD_LEN) as u64;
            pending.clear();
        }
        Ok(())
    }

    /// Makes what is written durable and notes that it covers the full tiles of so many leaves.
    pub(super) fn sync(&mut self, leaves: u64) -> io::Result<()> {
        self.write()?;
        let leaves = leaves - leaves % LEAVES_EACH;
        if leaves == self.noted {
            return Ok(());
        }
        for file in self.files.iter().filter_map(|level| level.file.as_ref()) {
            file.sync_data()?;
        }
        self.note(leaves)
    }

    fn note(&mut self, leaves: u64) -> io::Result<()> {
        let noted = Noted {
            format: FORMAT,
            epoch: self.epoch,
            leaves,
        };
        write_atomically(&note(&self.dir), &serde_json::to_vec(&noted)?)?;
        self.noted = leaves;
        Ok(())
    }

    /// So many hashes of a level from `first` on. An error if they are not there, or not what was written.
    pub(super) fn read(&self, level: u8, first: u64, count: u16) -> io::Result<Vec<Hash>> {
        let file = level
            .checked_sub(1)
            .and_then(|place| self.files.get(usize::from(place)));
        let file = file.and_then(|level| level.file.as_ref());
        let file = file.ok_or_else(|| io::Error::other(format!("level {level} is missing")))?;
        let mut bytes = vec![0; usize::from(count) * RECORD_LEN];
        file.read_exact_at(&mut bytes, first * RECORD_LEN as u64)?;
        let records = bytes.chunks_exact(RECORD_LEN).zip(first..);
        records
            .map(|(record, index)| {
                let (hash, crc) = record.split_at(HASH_LEN);
                // Both have their lengths by how the record was split.
                let hash = Hash(hash.try_into().map_err(io::Error::other)?);
                if crc == checksum(self.epoch, level, index, &hash).to_le_bytes() {
                    Ok(hash)
                } else {
                    Err(io::Error::other(format!("hash {index} of level {level} is damaged")))
                }
            })
            .collect()
    }

    fn path(&self, level: u8) -> PathBuf {
        self.dir.join(format!("level-{level}"))
    }
}

fn place(level: u8) -> usize {
    usize::from(level) - 1
}

fn note(dir: &Path) -> PathBuf {
    dir.join("tree.json")
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

fn checksum(epoch: Epoch, level: u8, index: u64, hash: &Hash) -> u32 {
    let crc = crc32c::crc32c(epoch.as_bytes());
    let crc = crc32c::crc32c_append(crc, &[level]);
    let crc = crc32c::crc32c_append(crc, &index.to_le_bytes());
    crc32c::crc32c_append(crc, &hash.0)
}

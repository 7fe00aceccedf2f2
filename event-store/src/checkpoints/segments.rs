//! Signed checkpoints on the disk: appended to files that are never changed again, and never deleted.
//!
//! A file is named by the size of its first checkpoint. For each checkpoint it has its length and its CRC-32C (u32, little
//! endian), then the note. A file is followed by the next one once it has 1 MiB.

use crate::files::{parent, sync_dir};
use annals_audit::{Checkpoint, NOTE_LEN_MAX, Note};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const SEGMENT_LEN: u64 = 1 << 20;
const PREFIX_LEN: usize = 8;
const SUFFIX: &str = ".notes";

/// The signed checkpoints of a log, in the order of their sizes.
pub struct SignedCheckpoints {
    dir: PathBuf,
    state: Mutex<State>,
}

struct State {
    /// Size of each file's first checkpoint, ascending.
    segments: Vec<u64>,
    /// The last file, once there is one.
    file: Option<File>,
    len: u64,
    latest: Option<(u64, String)>,
}

impl SignedCheckpoints {
    /// Opens those of a directory. What a crash left of the last one is cut off: it was never given to anybody. Damage is
    /// an error that names the file.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        sync_dir(parent(dir))?;
        let checkpoints = Self::look(dir)?;
        let mut state = checkpoints.lock();
        if let Some(&last) = state.segments.last() {
            let file = OpenOptions::new().append(true).open(segment(dir, last))?;
            file.set_len(state.len)?;
            state.file = Some(file);
        }
        drop(state);
        Ok(checkpoints)
    }

    /// Reads those of a directory, and changes nothing in it. None if it does not exist.
    pub fn look(dir: &Path) -> io::Result<Self> {
        let mut segments = Vec::new();
        match fs::read_dir(dir) {
            Ok(entries) => {
                for entry in entries {
                    let name = entry?.file_name();
                    let first = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
                    segments.extend(first.and_then(|first| first.parse::<u64>().ok()));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        segments.sort_unstable();
        let mut state = State {
            segments,
            file: None,
            len: 0,
            latest: None,
        };
        // A file without a whole checkpoint is what a crash left of beginning it.
        while let Some(&last) = state.segments.last() {
            let bytes = fs::read(segment(dir, last))?;
            let (notes, whole) = notes(&bytes);
            if holds_a_note(&bytes[whole..]) {
                return Err(damaged(&segment(dir, last), whole));
            }
            state.len = whole as u64;
            if let Some(note) = notes.last() {
                state.latest = Some((size_of(note)?, note.to_string()));
                break;
            }
            if state.segments.len() == 1 {
                break;
            }
            state.segments.pop();
        }
        Ok(Self {
            dir: dir.to_owned(),
            state: Mutex::new(state),
        })
    }

    /// Adds a checkpoint, larger than all before it; it is durable when this returns.
    pub fn add(&self, size: u64, note: &Note) -> io::Result<()> {
        let note = note.to_string();
        let mut state = self.lock();
        if state.latest.as_ref().is_some_and(|(latest, _)| *latest >= size) || note.len() > NOTE_LEN_MAX {
            return Err(io::Error::other("checkpoints grow, and each is at most 64 KiB"));
        }
        if state.file.is_none() || state.len >= SEGMENT_LEN {
            let file = OpenOptions::new()
                .append(true)
                .create(true)
                .open(segment(&self.dir, size))?;
            file.set_len(0)?;
            sync_dir(&self.dir)?;
            state.segments.push(size);
            (state.file, state.len) = (Some(file), 0);
        }
        let State { file, len, .. } = &mut *state;
        let Some(file) = file else {
            return Err(io::Error::other("there is no file"));
        };
        let frame = frame(&note);
        let written = file.write_all(&frame).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // What is there of it must not stand before the next one.
            file.set_len(*len)?;
            return Err(error);
        }
        *len += frame.len() as u64;
        state.latest = Some((size, note));
        Ok(())
    }

    /// The latest, as it was signed, with its size.
    pub fn latest(&self) -> Option<(u64, String)> {
        self.lock().latest.clone()
    }

    /// Those of more than `size` leaves, the smallest first, at most `limit`. An error names the file that is damaged.
    pub fn after(&self, size: u64, limit: usize) -> io::Result<Vec<String>> {
        let state = self.lock();
        let latest = state.latest.as_ref().map_or(0, |(latest, _)| *latest);
        let segments = state.segments.clone();
        drop(state);
        let begin = segments.partition_point(|first| *first <= size).saturating_sub(1);
        let mut found = Vec::new();
        for first in &segments[begin..] {
            let path = segment(&self.dir, *first);
            let bytes = fs::read(&path)?;
            let (notes, whole) = notes(&bytes);
            let is_last = Some(first) == segments.last();
            if whole < bytes.len() && !is_last {
                return Err(io::Error::other(format!(
                    "{} is damaged at byte {whole}",
                    path.display()
                )));
            }
            for note in notes {
                let its_size = size_of(note)?;
                if its_size > size && its_size <= latest && found.len() < limit {
                    found.push(note.to_owned());
                }
            }
            if found.len() >= limit {
                break;
            }
        }
        Ok(found)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn segment(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}{SUFFIX}"))
}

fn damaged(path: &Path, byte: usize) -> io::Error {
    let path = path.display();
    io::Error::other(format!(
        "{path} is damaged at byte {byte}: put it back from a copy, auditors' own are as good"
    ))
}

pub(super) fn size_of(note: &str) -> io::Result<u64> {
    let note = Note::parse(note).map_err(io::Error::other)?;
    Ok(Checkpoint::parse(note.text()).map_err(io::Error::other)?.size)
}

fn frame(note: &str) -> Vec<u8> {
    let mut frame = Vec::with_capacity(PREFIX_LEN + note.len());
    // A note is bounded far below 4 GiB.
    frame.extend_from_slice(&(note.len() as u32).to_le_bytes());
    frame.extend_from_slice(&crc32c::crc32c(note.as_bytes()).to_le_bytes());
    frame.extend_from_slice(note.as_bytes());
    frame
}

/// The whole notes at the beginning of a file, and how many bytes they take.
fn notes(bytes: &[u8]) -> (Vec<&str>, usize) {
    let mut notes = Vec::new();
    let mut rest = bytes;
    while let Some(note) = first_note(rest) {
        rest = &rest[PREFIX_LEN + note.len()..];
        notes.push(note);
    }
    (notes, bytes.len() - rest.len())
}

fn first_note(bytes: &[u8]) -> Option<&str> {
    let (prefix, rest) = bytes.split_at_checked(PREFIX_LEN)?;
    let len = u32::from_le_bytes(prefix.first_chunk().copied()?) as usize;
    let crc = u32::from_le_bytes(prefix.last_chunk().copied()?);
    let note = rest.get(..len).filter(|note| crc32c::crc32c(note) == crc)?;
    std::str::from_utf8(note).ok()
}

/// Whether there is a whole note anywhere: then what stands before it is damage, and not what a crash left of the last one.
fn holds_a_note(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|at| first_note(&bytes[at..]).is_some_and(|note| !note.is_empty()))
}

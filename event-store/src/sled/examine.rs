//! Examines a volume that was not closed in order: what the blocks in its raw file prove, and what sled shows of it.
//!
//! sled overwrites the torn end of a file when it opens it, and skips damage in silence. So the raw file is read first,
//! and sled opens a copy. What sled does not show is written to a file beside the volume before the volume itself is
//! opened. All of this may run in a process of its own: damaged files can make sled abort, or never return.

use super::settings::OpenError;
use super::volume::{Volume, key, part_key};
use crate::files::write_atomically;
use crate::frame::{FRAME_HEADER_LEN, crc_of};
use crate::salvage::{Chooser, FrameSet, RawFiles, RawFrame};
use annals_core::{Epoch, LogError, Position};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// sled's cache while a copy is looked at, bytes.
const CACHE_BYTES: u64 = 16 << 20;

/// Which volume to examine, and whose blocks may stand in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Case {
    /// The volume's directory.
    pub(super) path: PathBuf,
    pub(super) first: Position,
    pub(super) epoch: Epoch,
    /// How many times the log has been opened for writing.
    pub(super) boot: u64,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Examined {
    /// Up to here the blocks in the raw file follow each other, in complete appends.
    pub(super) proven: Position,
    /// First and last position that are proven, and that sled does not show. They stand in the rescue file.
    pub(super) rescued: Option<(Position, Position)>,
    /// Last position of any whole block in the raw file, also beyond a gap.
    pub(super) last: Position,
    /// Why sled does not open the volume.
    pub(super) broken: Option<String>,
}

impl Examined {
    /// Blocks are stored only of what was acknowledged: the log cannot end before one of them.
    pub(super) fn check_head(&self, head: Position) -> Result<(), OpenError> {
        if self.last <= head {
            return Ok(());
        }
        let detail = format!(
            "the log ends before it, but there are blocks of events up to {}",
            self.last
        );
        Err(OpenError::Damaged {
            position: head.next(),
            detail,
        })
    }
}

/// The file with the blocks that sled does not show, one frame after the other.
pub(super) fn rescue_file(volume: &Path) -> PathBuf {
    beside(volume, "rescued")
}

/// The path beside a volume's with an ending of its own.
pub(super) fn beside(volume: &Path, ending: &str) -> PathBuf {
    let mut name = volume.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

pub(super) fn storage(path: &Path) -> impl Fn(io::Error) -> LogError {
    move |error| LogError::Storage(format!("{}: {error}", path.display()))
}

/// The raw files of a volume, and the frames in them that tell its history.
pub(super) struct Raw {
    files: RawFiles,
    /// Blocks that follow each other from the volume's first position on, in complete appends.
    pub(super) spine: Vec<RawFrame>,
    pub(super) found: Examined,
}

impl Raw {
    /// Reads the raw file, and what an earlier opening rescued and did not get to insert.
    pub(super) fn read(case: &Case) -> Result<Self, LogError> {
        let mut files = RawFiles::default();
        for path in [case.path.join("db"), rescue_file(&case.path)] {
            files.add(&path, 0, &mut |_| ())?;
        }
        if files.unreadable > 0 {
            let (path, unreadable) = (case.path.display(), files.unreadable);
            let said = format!("the disk does not give back {unreadable} bytes of {path}: see `annals salvage --help`");
            return Err(LogError::Storage(said));
        }
        let set = FrameSet::new(std::mem::take(&mut files.frames), Some(case.epoch), case.boot);
        let mut raw = Self {
            files,
            spine: Vec::new(),
            found: Examined::default(),
        };
        raw.follow(&set, case.first)?;
        Ok(raw)
    }

    fn follow(&mut self, set: &FrameSet, first: Position) -> Result<(), LogError> {
        let mut chooser = Chooser::new(set, first);
        while let Some(choice) = chooser.choose() {
            self.spine.extend_from_slice(&choice.frames);
        }
        self.drop_incomplete_append()?;
        self.found.proven = self.spine.last().map_or(first.previous(), RawFrame::last);
        self.found.last = set.last();
        Ok(())
    }

    /// An append that is not complete here is in the journal as a whole.
    fn drop_incomplete_append(&mut self) -> Result<(), LogError> {
        while let Some(last) = self.spine.last() {
            let first = last.meta.first;
            let begin = self
                .spine
                .iter()
                .rposition(|frame| frame.meta.first != first)
                .map_or(0, |at| at + 1);
            let block = self.files.block(&self.spine[begin..])?;
            let ends = |record: annals_core::RecordRef<'_>| record.header.place.is_last();
            if block.iter().any(|record| record.is_ok_and(ends)) {
                return Ok(());
            }
            self.spine.truncate(begin);
        }
        Ok(())
    }

    /// The bytes of a frame.
    pub(super) fn bytes(&self, frame: &RawFrame) -> Result<Vec<u8>, LogError> {
        self.files.bytes(frame)
    }
}

/// The key that a frame stands under in a volume.
pub(super) fn key_of(frame: &RawFrame) -> Vec<u8> {
    let (first, part) = (frame.meta.first, frame.meta.part);
    if part == 0 {
        key(first).to_vec()
    } else {
        part_key(first, part).to_vec()
    }
}

/// Examines a volume and leaves its files as they are; writes the rescue file if sled shows less than there is.
pub(super) fn examine(case: &Case) -> Result<Examined, LogError> {
    let mut raw = Raw::read(case)?;
    let copy = beside(&case.path, "probe");
    let copied = copy_volume(&case.path, &copy);
    // A disk without space for the copy must not keep the log from opening: then sled's first look is at the volume.
    let looked_at = if copied.is_ok() { &copy } else { &case.path };
    let compared = catch_unwind(AssertUnwindSafe(|| compare(looked_at, case.first, &raw)));
    remove_if_there(&copy).map_err(storage(&copy))?;
    match compared {
        Ok(Ok(missing)) => rescue(case, &mut raw, &missing)?,
        Ok(Err(LogError::Damaged { detail, .. })) => raw.found.broken = Some(detail),
        // Not the volume's fault, and no reason to build it anew.
        Ok(Err(error)) => return Err(error),
        Err(_) => raw.found.broken = Some("the storage engine panicked".into()),
    }
    Ok(raw.found)
}

/// Which frames of the spine sled does not show.
fn compare(path: &Path, first: Position, raw: &Raw) -> Result<Vec<RawFrame>, LogError> {
    let volume = Volume::look(path, first, CACHE_BYTES)?;
    let mut shown = volume.entries();
    let mut next = shown.next().transpose()?;
    let mut missing = Vec::new();
    for frame in &raw.spine {
        let wanted = key_of(frame);
        if next.as_ref().is_some_and(|(key, _)| key[..] < wanted[..]) {
            // An older state of a leaf has come back. What stands there may overlap with what replaced it.
            let detail = "the storage engine shows blocks that were replaced".into();
            return Err(LogError::Damaged {
                position: first,
                detail,
            });
        }
        let here = next.take_if(|(key, _)| key[..] == wanted[..]);
        let crc = here
            .as_ref()
            .and_then(|(_, value)| value.first_chunk::<FRAME_HEADER_LEN>().map(crc_of));
        if here.is_some() {
            next = shown.next().transpose()?;
        }
        if crc != Some(frame.crc) {
            missing.push(*frame);
        }
    }
    Ok(missing)
}

fn rescue(case: &Case, raw: &mut Raw, missing: &[RawFrame]) -> Result<(), LogError> {
    let (Some(first), Some(last)) = (missing.first(), missing.last()) else {
        return Ok(());
    };
    let mut bytes = Vec::new();
    for frame in missing {
        bytes.extend(raw.bytes(frame)?);
    }
    let path = rescue_file(&case.path);
    write_atomically(&path, &bytes).map_err(storage(&path))?;
    raw.found.rescued = Some((first.meta.first, last.last()));
    Ok(())
}

fn copy_volume(from: &Path, to: &Path) -> io::Result<()> {
    remove_if_there(to)?;
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        } else {
            copy_volume(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

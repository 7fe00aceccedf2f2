//! Raw files of a log: scanned for frames, and read again where these stand. A disk that does not give back some of a file
//! does not keep the rest of it from being read.

use super::scan::{JOURNAL_FRAME_MAX, RawFrame, VOLUME_FRAME_MAX, scan};
use crate::frame::{decode_bytes, join};
use annals_core::{Block, LogError, Position};
use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// How much of a file is given up where the disk does not give it back, bytes.
const PAGE: u64 = 4096;
/// How deep directories are looked into: a volume's own has one of its own.
const DEPTH_MAX: usize = 8;

/// Files, and the frames that were found in them.
#[derive(Debug, Default)]
pub(crate) struct RawFiles {
    paths: Vec<PathBuf>,
    /// In the order of files and places; taken by who sorts them.
    pub(crate) frames: Vec<RawFrame>,
    /// Bytes that were read.
    pub(crate) bytes: u64,
    /// Bytes that the disk did not give back.
    pub(crate) unreadable: u64,
    /// The file that was read last.
    open: RefCell<Option<(u16, File)>>,
}

fn storage(path: &Path, error: &io::Error) -> LogError {
    LogError::Storage(format!("{}: {error}", path.display()))
}

impl RawFiles {
    /// Scans a file; one that is not there has no frames. `progress` gets how many bytes of all files were read.
    pub(crate) fn add(&mut self, path: &Path, lineage: u16, progress: &mut dyn FnMut(u64)) -> Result<(), LogError> {
        let failed = |error: io::Error| storage(path, &error);
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(failed)?,
        };
        let number = u16::try_from(self.paths.len());
        let number = number.map_err(|_| LogError::Storage(format!("more than {} files in a log", u16::MAX)))?;
        let frame_max = if is_journal(path) {
            JOURNAL_FRAME_MAX
        } else {
            VOLUME_FRAME_MAX
        };
        let before = self.bytes;
        let len = file.metadata().map_err(failed)?.len();
        let mut patient = Patient::new(file, len, |at| progress(before + at));
        let read = scan(&mut patient, frame_max, (number, lineage), |frame| {
            self.frames.push(frame)
        });
        let unreadable = patient.unreadable;
        self.bytes += read.map_err(failed)?;
        self.unreadable += unreadable;
        self.paths.push(path.to_owned());
        Ok(())
    }

    /// How many files there are.
    pub(crate) fn len(&self) -> usize {
        self.paths.len()
    }

    /// The bytes of a frame.
    pub(crate) fn bytes(&self, frame: &RawFrame) -> Result<Vec<u8>, LogError> {
        let path = self
            .paths
            .get(usize::from(frame.file))
            .map_or(Path::new(""), PathBuf::as_path);
        let failed = |error: io::Error| storage(path, &error);
        let mut open = self.open.borrow_mut();
        let file = match open.take() {
            Some((number, file)) if number == frame.file => file,
            _ => File::open(path).map_err(failed)?,
        };
        let mut bytes = vec![0; frame.len as usize];
        let read = file.read_exact_at(&mut bytes, frame.at);
        *open = Some((frame.file, file));
        read.map(|()| bytes).map_err(failed)
    }

    /// The block that these frames are the parts of.
    pub(crate) fn block(&self, frames: &[RawFrame]) -> Result<Block, LogError> {
        let damaged = |detail: String, position| LogError::Damaged { position, detail };
        let (mut parts, mut first, mut count) = (Vec::new(), Position::ZERO, 0);
        for frame in frames {
            (first, count) = (frame.meta.first, u64::from(frame.meta.count));
            let (_, raw, _) = decode_bytes(&self.bytes(frame)?).map_err(|error| damaged(error.to_string(), first))?;
            parts.push(raw);
        }
        Ok(match parts.len() {
            1 => Block::new(first, count, parts.remove(0).into()),
            _ => join(first, &parts),
        })
    }
}

fn is_journal(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with("journal-"))
}

/// All files below a directory with their lengths, in the order of their names. Links are not followed.
pub(crate) fn files_below(dir: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let (mut files, mut dirs) = (Vec::new(), vec![(dir.to_owned(), 0)]);
    while let Some((dir, depth)) = dirs.pop() {
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_file() {
                files.push((entry.path(), entry.metadata()?.len()));
            } else if kind.is_dir() && depth < DEPTH_MAX {
                dirs.push((entry.path(), depth + 1));
            }
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Reads a file to its end; where the disk does not give back a page there are zeros instead.
struct Patient<F, P> {
    file: F,
    at: u64,
    len: u64,
    unreadable: u64,
    progress: P,
}

impl<F: FileExt, P: FnMut(u64)> Patient<F, P> {
    fn new(file: F, len: u64, progress: P) -> Self {
        let (at, unreadable) = (0, 0);
        Self {
            file,
            at,
            len,
            unreadable,
            progress,
        }
    }

    fn read_here(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.file.read_at(buffer, self.at) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            // Again in small pieces, and at last without what is not there.
            Err(_) => {
                let page = (PAGE - self.at % PAGE).min(self.len - self.at).min(buffer.len() as u64) as usize;
                let page = &mut buffer[..page];
                self.file.read_at(page, self.at).or_else(|_| {
                    page.fill(0);
                    self.unreadable += page.len() as u64;
                    Ok(page.len())
                })
            }
            read => read,
        }
    }
}

impl<F: FileExt, P: FnMut(u64)> Read for Patient<F, P> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.len {
            return Ok(0);
        }
        let read = self.read_here(buffer)?;
        self.at += read as u64;
        (self.progress)(self.at);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that gives back nothing of the pages from `bad` on, two of them.
    struct Bad<'a> {
        bytes: &'a [u8],
        bad: u64,
    }

    impl FileExt for Bad<'_> {
        fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
            let len = buffer.len().min(self.bytes.len() - at as usize);
            if at < self.bad + 2 * PAGE && at + len as u64 > self.bad {
                return Err(io::Error::other("the disk cannot read this"));
            }
            buffer[..len].copy_from_slice(&self.bytes[at as usize..at as usize + len]);
            Ok(len)
        }

        fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    #[test]
    fn what_the_disk_does_not_give_back_does_not_hide_the_rest() {
        let bytes: Vec<u8> = (0..50_000u32).map(|at| (at % 251) as u8 + 1).collect();
        let disk = Bad {
            bytes: &bytes,
            bad: 3 * PAGE,
        };
        let mut patient = Patient::new(disk, bytes.len() as u64, |_| ());
        let mut read = Vec::new();
        patient.read_to_end(&mut read).unwrap();
        let mut expected = bytes.clone();
        expected[3 * PAGE as usize..5 * PAGE as usize].fill(0);
        assert!(read == expected);
        assert_eq!(patient.unreadable, 2 * PAGE);
    }
}

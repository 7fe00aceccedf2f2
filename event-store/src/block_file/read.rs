//! Reads a block file: by position, in order, or all of it against its digest. Nothing that fails a check is returned.

use super::{END_MAGIC, ENTRY_LEN, HEAD_LEN_MAX, MAGIC, PREFIX_LEN, TRAILER_LEN, head_checksum};
use crate::frame::decode_frame;
use annals_core::{Block, LogError, Position};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// How much is read at a time when all of the file is read.
const CHUNK: usize = 1 << 20;

/// A block file that is open. Any number of threads may read.
#[derive(Debug)]
pub(crate) struct BlockFile {
    path: PathBuf,
    file: File,
    head: Vec<u8>,
    /// First position and offset of each frame, ascending.
    table: Vec<(Position, u64)>,
    table_at: u64,
    last: Position,
    sha256: [u8; 32],
    len: u64,
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// A file that is not there is damage at the position where it begins.
fn open_error(path: &Path, first: Position, error: &io::Error) -> LogError {
    let detail = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::NotFound => LogError::Damaged {
            position: first,
            detail,
        },
        _ => LogError::Storage(detail),
    }
}

impl BlockFile {
    /// Opens the file and checks head, table and trailer; `first` is named when they cannot be trusted. Blocks are
    /// checked as they are read.
    pub(crate) fn open(path: &Path, first: Position) -> Result<Self, LogError> {
        let damaged = |detail: &str| LogError::Damaged {
            position: first,
            detail: format!("{}: {detail}", path.display()),
        };
        let storage = |error: io::Error| LogError::Storage(format!("{}: {error}", path.display()));
        let file = File::open(path).map_err(|error| open_error(path, first, &error))?;
        let len = file.metadata().map_err(storage)?.len();
        if len < (PREFIX_LEN + TRAILER_LEN) as u64 {
            return Err(damaged("it is cut short"));
        }
        let mut prefix = [0; PREFIX_LEN];
        file.read_exact_at(&mut prefix, 0).map_err(storage)?;
        if prefix[..7] != MAGIC[..7] {
            return Err(damaged("it does not begin like a file of blocks"));
        }
        if prefix[7] != MAGIC[7] {
            return Err(damaged("it was written by a newer binary: upgrade annals"));
        }
        let mut trailer = [0; TRAILER_LEN];
        let end = len - TRAILER_LEN as u64;
        file.read_exact_at(&mut trailer, end).map_err(storage)?;
        if trailer[..8] != END_MAGIC || crc32c::crc32c(&trailer[..76]) != u32_at(&trailer, 76) {
            return Err(damaged("its end is cut off or damaged"));
        }
        let head_len = u32_at(&prefix, 8) as usize;
        if head_len > HEAD_LEN_MAX || (PREFIX_LEN + head_len + TRAILER_LEN) as u64 > len {
            return Err(damaged("its head is damaged"));
        }
        let mut head = vec![0; head_len];
        file.read_exact_at(&mut head, PREFIX_LEN as u64).map_err(storage)?;
        if head_checksum(&prefix, &head) != u32_at(&prefix, 12) {
            return Err(damaged("its head is damaged"));
        }
        let (table_at, entries) = (u64_at(&trailer, 8), u64_at(&trailer, 16));
        let fits = entries
            .checked_mul(ENTRY_LEN as u64)
            .and_then(|bytes| bytes.checked_add(table_at)?.checked_add(TRAILER_LEN as u64));
        if fits != Some(len) {
            return Err(damaged("its table is not where its end says"));
        }
        let mut table = vec![0; entries as usize * ENTRY_LEN];
        file.read_exact_at(&mut table, table_at).map_err(storage)?;
        if crc32c::crc32c(&table) != u32_at(&trailer, 72) {
            return Err(damaged("its table is damaged"));
        }
        let entry = |entry: &[u8]| (Position::new(u64_at(entry, 0)), u64_at(entry, 8));
        let table: Vec<_> = table.chunks_exact(ENTRY_LEN).map(entry).collect();
        let last = Position::new(u64_at(&trailer, 32));
        let ascends = table.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 < two[1].1);
        let ends = table
            .last()
            .is_none_or(|(first, offset)| *first <= last && *offset < table_at);
        if !ascends || !ends {
            return Err(damaged("its table makes no sense"));
        }
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(&trailer[40..72]);
        let path = path.to_owned();
        Ok(Self {
            path,
            file,
            head,
            table,
            table_at,
            last,
            sha256,
            len,
        })
    }

    /// The JSON that the file begins with.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Where what the head announces begins.
    pub(crate) fn body_offset(&self) -> u64 {
        (PREFIX_LEN + self.head.len()) as u64
    }

    /// Position of the first record; one beyond `last` if there is none.
    pub(crate) fn first(&self) -> Position {
        self.table.first().map_or(self.last.next(), |(first, _)| *first)
    }

    /// Position of the last record.
    pub(crate) fn last(&self) -> Position {
        self.last
    }

    /// Length of the file in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// SHA-256 of all in front of the trailer, as the trailer says it.
    pub(crate) fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// How many blocks there are.
    pub(crate) fn blocks(&self) -> usize {
        self.table.len()
    }

    /// Number of the block that holds `position`, or of the last one before it.
    pub(crate) fn block_before(&self, position: Position) -> Option<usize> {
        self.table
            .partition_point(|(first, _)| *first <= position)
            .checked_sub(1)
    }

    /// First position of a block.
    pub(crate) fn block_first(&self, number: usize) -> Option<Position> {
        self.table.get(number).map(|(first, _)| *first)
    }

    /// Reads and checks a block; `None` behind the last one.
    pub(crate) fn block(&self, number: usize) -> Result<Option<Block>, LogError> {
        Ok(self.block_and_frame(number)?.map(|(block, _)| block))
    }

    /// The same with the frame that it is stored as.
    pub(crate) fn block_and_frame(&self, number: usize) -> Result<Option<(Block, Vec<u8>)>, LogError> {
        let Some(&(first, offset)) = self.table.get(number) else {
            return Ok(None);
        };
        let damaged = |detail: String| LogError::Damaged {
            position: first,
            detail,
        };
        let (next, end) = match self.table.get(number + 1) {
            Some((next, end)) => (*next, *end),
            None => (self.last.next(), self.table_at),
        };
        let mut frame = vec![0; (end - offset) as usize];
        self.read_at(&mut frame, offset)?;
        let (meta, block, used) = decode_frame(&frame).map_err(|error| damaged(error.to_string()))?;
        if meta.first != first || block.last().next() != next || used != frame.len() || meta.parts > 1 {
            return Err(damaged("another block stands here".into()));
        }
        Ok(Some((block, frame)))
    }

    /// Reads bytes of the file.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), LogError> {
        self.file
            .read_exact_at(buffer, offset)
            .map_err(|error| LogError::Storage(format!("{}: {error}", self.path.display())))
    }

    /// Reads all of the file and compares it with its digest; `progress` gets how many bytes were read.
    pub(crate) fn check_digest(&self, progress: &mut dyn FnMut(u64)) -> Result<(), LogError> {
        let (end, mut at) = (self.len - TRAILER_LEN as u64, 0);
        let (mut digest, mut chunk) = (Sha256::new(), vec![0; CHUNK]);
        while at < end {
            let take = CHUNK.min((end - at) as usize);
            self.read_at(&mut chunk[..take], at)?;
            digest.update(&chunk[..take]);
            at += take as u64;
            progress(at);
        }
        if digest.finalize().as_slice() == self.sha256 {
            return Ok(());
        }
        Err(LogError::Damaged {
            position: self.first(),
            detail: format!("{}: its bytes are not those that were written", self.path.display()),
        })
    }
}

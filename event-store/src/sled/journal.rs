//! The journal: where a group of appends is made durable before it is stored in a volume. Two files of fixed size,
//! written in turns; knows frames and files, not volumes.
//!
//! A group is one frame, so that after a crash it is there as a whole or not at all. A file is written again from its
//! beginning only when everything in it is stored in the volumes.

use crate::files::sync_dir;
use crate::frame::{FrameError, decode_frame};
use annals_core::{Block, Epoch, Position};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// How many bytes are written at a time when a file is made.
const FILL_BYTES: usize = 1 << 20;

/// One of the two files.
struct Segment {
    file: File,
    /// Last position in it; zero when nothing of this boot is.
    last: Position,
}

pub(super) struct Journal {
    segments: [Segment; 2],
    current: usize,
    offset: u64,
    segment_bytes: u64,
}

/// The two files' paths in the log's directory.
pub(super) fn paths(dir: &Path) -> [PathBuf; 2] {
    ["journal-0", "journal-1"].map(|name| dir.join(name))
}

impl Journal {
    /// Opens the files for writing, from the beginning of the first: what they hold must be stored by now. Files that
    /// are not there are made at full size, so that a sync later has nothing but their bytes to write.
    pub(super) fn open(dir: &Path, segment_bytes: u64) -> io::Result<Self> {
        let mut made = false;
        let mut open = |path: &Path| -> io::Result<Segment> {
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
            if file.metadata()?.len() < segment_bytes {
                fill(&file, segment_bytes)?;
                made = true;
            }
            let last = Position::ZERO;
            Ok(Segment { file, last })
        };
        let [first, second] = paths(dir);
        let segments = [open(&first)?, open(&second)?];
        if made {
            sync_dir(dir)?;
        }
        Ok(Self {
            segments,
            current: 0,
            offset: 0,
            segment_bytes,
        })
    }

    /// The position up to which everything must be stored before a frame of this length can be written.
    pub(super) fn needs_stored(&self, len: usize) -> Position {
        if self.fits(len) {
            Position::ZERO
        } else {
            self.segments[1 - self.current].last
        }
    }

    fn fits(&self, len: usize) -> bool {
        // A frame larger than a file makes the file larger: it then stands there alone.
        self.offset == 0 || self.offset + len as u64 <= self.segment_bytes
    }

    /// Writes the frame of a group that ends at `last` and syncs it. What it needs stored must be stored.
    pub(super) fn append(&mut self, frame: &[u8], last: Position) -> io::Result<()> {
        if !self.fits(frame.len()) {
            self.current = 1 - self.current;
            self.offset = 0;
        }
        let segment = &mut self.segments[self.current];
        segment.file.write_all_at(frame, self.offset)?;
        segment.file.sync_data()?;
        segment.last = last;
        self.offset += frame.len() as u64;
        Ok(())
    }
}

fn fill(mut file: &File, len: u64) -> io::Result<()> {
    let zeros = vec![0; FILL_BYTES];
    let mut left = len;
    while left > 0 {
        let now = left.min(FILL_BYTES as u64);
        file.write_all(&zeros[..now as usize])?;
        left -= now;
    }
    file.sync_all()
}

/// Reads the groups that the last boot left in the journal, in order of their positions. What follows the last whole
/// group was never acknowledged.
pub(super) fn recover(dir: &Path, epoch: Epoch) -> io::Result<Vec<Block>> {
    let mut runs = Vec::new();
    for path in paths(dir) {
        runs.push(match File::open(&path) {
            Ok(mut file) => {
                // What is about to be built on must not go away in a power cut that follows the crash.
                file.sync_data()?;
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes)?;
                read_run(&bytes, epoch)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (0, Vec::new()),
            Err(error) => return Err(error),
        });
    }
    // Before a boot writes, it stores what earlier ones left: only the newest boot's groups can be missing elsewhere.
    let newest = runs.iter().map(|(boot, _)| *boot).max().unwrap_or(0);
    let kept = runs.into_iter().filter(|(boot, _)| *boot == newest);
    let mut blocks: Vec<Block> = kept.flat_map(|(_, blocks)| blocks).collect();
    blocks.sort_by_key(Block::first);
    Ok(blocks)
}

/// The groups at the beginning of a file: one follows the other, all of one boot. What stands behind them is of an
/// earlier turn.
fn read_run(bytes: &[u8], epoch: Epoch) -> (u64, Vec<Block>) {
    let (mut rest, mut blocks, mut boot) = (bytes, Vec::<Block>::new(), 0);
    loop {
        let decoded: Result<_, FrameError> = decode_frame(rest);
        let Ok((meta, block, used)) = decoded else { break };
        let follows = blocks
            .last()
            .is_none_or(|before| meta.boot == boot && meta.first == before.last().next());
        if !follows || meta.epoch != epoch || block.count() == 0 {
            break;
        }
        boot = meta.boot;
        blocks.push(block);
        rest = &rest[used..];
    }
    (boot, blocks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sled::group::Group;

    const EPOCH: Epoch = Epoch::from_bytes([7; 16]);

    fn write(journal: &mut Journal, boot: u64, first: u64, count: u64, payload: usize) {
        let mut group = Group::new(Position::new(first), 1);
        for _ in 0..count {
            group.push(b"header", &vec![b'p'; payload]);
        }
        let (frame, block) = group.seal(EPOCH, boot);
        journal.append(&frame, block.last()).unwrap();
    }

    fn recovered(dir: &Path) -> Vec<(u64, u64)> {
        let blocks = recover(dir, EPOCH).unwrap();
        blocks
            .iter()
            .map(|block| (block.first().get(), block.last().get()))
            .collect()
    }

    #[test]
    fn groups_come_back_in_order_over_both_files() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path(), 4096).unwrap();
        for first in 0..7 {
            write(&mut journal, 1, first * 2 + 1, 2, 500);
        }
        // Three groups fit into a file: the first three were written over.
        assert_eq!(recovered(dir.path()), [(7, 8), (9, 10), (11, 12), (13, 14)]);
        assert!(recover(dir.path(), Epoch::from_bytes([8; 16])).unwrap().is_empty());
    }

    #[test]
    fn a_file_is_written_again_only_when_what_it_holds_is_stored() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path(), 4096).unwrap();
        for first in 0..6 {
            assert_eq!(journal.needs_stored(1000), Position::ZERO);
            write(&mut journal, 1, first + 1, 1, 1100);
        }
        assert_eq!(journal.needs_stored(1200), Position::new(3));
    }

    #[test]
    fn groups_of_an_earlier_boot_behind_new_ones_are_not_taken_for_theirs() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path(), 4096).unwrap();
        for first in [1, 2, 3] {
            write(&mut journal, 1, first, 1, 100);
        }
        // The next boot writes another group of the same length at position 1: group 2 behind it is not its successor.
        let mut journal = Journal::open(dir.path(), 4096).unwrap();
        write(&mut journal, 2, 1, 1, 100);
        assert_eq!(recovered(dir.path()), [(1, 1)]);
    }

    #[test]
    fn a_torn_group_is_not_there_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path(), 4096).unwrap();
        write(&mut journal, 1, 1, 3, 100);
        write(&mut journal, 1, 4, 3, 100);
        let path = &paths(dir.path())[0];
        let mut bytes = std::fs::read(path).unwrap();
        let at = bytes.iter().rposition(|byte| *byte == b'p').unwrap();
        bytes[at] = b'q';
        std::fs::write(path, bytes).unwrap();
        assert_eq!(recovered(dir.path()), [(1, 3)]);
    }

    #[test]
    fn a_group_larger_than_a_file_makes_the_file_larger() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path(), 4096).unwrap();
        write(&mut journal, 1, 1, 1, 100);
        write(&mut journal, 1, 2, 2, 10_000);
        write(&mut journal, 1, 4, 1, 100);
        assert_eq!(recovered(dir.path()), [(2, 3), (4, 4)]);
    }
}

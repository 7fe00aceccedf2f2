//! The journal: where a group of appends is made durable before it is stored in a volume. Two files of fixed size,
//! written in turns; knows frames and files, not volumes.
//!
//! A group is one frame, so that after a crash it is there as a whole or not at all. A file is written again from its
//! beginning only when everything in it is stored in the volumes.

use super::settings::OpenError;
use crate::files::sync_dir;
use crate::salvage::{RawFiles, RawFrame};
use annals_core::{Block, Epoch, LogError, Position};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
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

/// What a boot left in the journal.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// The groups of the last boot, in order of their positions. What follows the last one was never acknowledged, unless
    /// there are whole groups behind it.
    pub(super) groups: Vec<Block>,
    /// Last position of any whole group in the files, wherever it stands.
    last: Position,
}

impl Left {
    /// An error if groups are missing: between those that are there, or in front of whole ones. `stored` is where the volumes
    /// end. A group is written when the one before it is synced, and a file again when all it held is stored; so a cut of
    /// power leaves whole groups only up to where volumes and journal end together.
    pub(super) fn check(&self, stored: Position) -> Result<(), OpenError> {
        let mut end = stored;
        for group in &self.groups {
            if group.first() > end.next() {
                let detail = format!(
                    "the volumes end before it, and the journal goes on at {}",
                    group.first()
                );
                let position = end.next();
                return Err(OpenError::Damaged { position, detail });
            }
            end = end.max(group.last());
        }
        if self.last <= end {
            return Ok(());
        }
        let detail = format!(
            "the journal ends before it, but holds whole groups of events up to {}",
            self.last
        );
        let position = end.next();
        Err(OpenError::Damaged { position, detail })
    }
}

/// Reads what the last boot left.
pub(super) fn recover(dir: &Path, epoch: Epoch) -> Result<Left, LogError> {
    let mut files = RawFiles::default();
    for path in paths(dir) {
        match File::open(&path) {
            // What is about to be built on must not go away in a power cut that follows the crash.
            Ok(file) => file.sync_data().map_err(|error| LogError::Storage(error.to_string()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(LogError::Storage(format!("{}: {error}", path.display()))),
        }
        files.add(&path, 0, &mut |_| ())?;
    }
    if files.unreadable > 0 {
        let said = format!("the disk does not give back {} bytes of the journal", files.unreadable);
        return Err(LogError::Storage(said));
    }
    let frames: Vec<RawFrame> = std::mem::take(&mut files.frames);
    let frames: Vec<RawFrame> = frames.into_iter().filter(|frame| frame.meta.epoch == epoch).collect();
    let last = frames.iter().map(RawFrame::last).max().unwrap_or_default();
    let runs: Vec<_> = frames.chunk_by(|one, other| one.file == other.file).map(run).collect();
    // Before a boot writes, it stores what earlier ones left: only the newest boot's groups can be missing elsewhere.
    let boot = |run: &&[RawFrame]| run.first().map_or(0, |frame| frame.meta.boot);
    let newest = runs.iter().map(boot).max().unwrap_or(0);
    let kept = runs.iter().filter(|run| boot(run) == newest).flat_map(|run| run.iter());
    let mut groups = kept
        .map(|frame| files.block(&[*frame]))
        .collect::<Result<Vec<Block>, _>>()?;
    groups.sort_by_key(Block::first);
    Ok(Left { groups, last })
}

/// The groups at the beginning of a file: one follows the other, all of one boot. What stands behind them is of an earlier
/// turn, or behind damage.
fn run(frames: &[RawFrame]) -> &[RawFrame] {
    let begins = frames.first().is_some_and(|frame| frame.at == 0);
    let follows = |two: &&[RawFrame]| {
        let (before, next) = (&two[0], &two[1]);
        let adjoins = next.at == before.at + u64::from(before.len);
        adjoins && next.meta.boot == before.meta.boot && next.meta.first == before.last().next()
    };
    let further = frames.windows(2).take_while(follows).count();
    &frames[..if begins { further + 1 } else { 0 }]
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
        let left = recover(dir, EPOCH).unwrap();
        left.groups
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
        let other = recover(dir.path(), Epoch::from_bytes([8; 16])).unwrap();
        assert!(other.groups.is_empty() && other.check(Position::ZERO).is_ok());
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

    /// Changes the last byte of the group that begins at a position.
    fn damage(dir: &Path, file: usize, first: u64) {
        let path = &paths(dir)[file];
        let mut bytes = std::fs::read(path).unwrap();
        let header = [b"ANB\x01".as_slice(), &[1, 0, 0, 0], EPOCH.as_bytes()].concat();
        let mut begins = (0..bytes.len() - 40).filter(|at| bytes[*at..].starts_with(&header));
        let at = begins
            .find(|at| bytes[at + 32..].starts_with(&first.to_le_bytes()))
            .unwrap();
        bytes[at + 70] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_damaged_group_in_front_of_whole_ones_is_not_taken_for_the_end() {
        // In the middle of a file, at the beginning of the only one, at its end with the other going on, at the other's beginning.
        for (groups, file, first) in [(3, 0, 2), (3, 0, 1), (5, 0, 3), (6, 1, 4)] {
            let dir = tempfile::tempdir().unwrap();
            let mut journal = Journal::open(dir.path(), 4096).unwrap();
            for first in 1..=groups {
                write(&mut journal, 1, first, 1, 1100);
            }
            let left = recover(dir.path(), EPOCH).unwrap();
            left.check(Position::ZERO).unwrap();
            assert_eq!(left.groups.len() as u64, groups);
            damage(dir.path(), file, first);
            let left = recover(dir.path(), EPOCH).unwrap();
            let Err(OpenError::Damaged { position, detail }) = left.check(Position::ZERO) else {
                panic!("group {first} of {groups} is damaged")
            };
            assert_eq!(position.get(), first, "{groups} groups: {detail}");
            left.check(Position::new(first - 1))
                .expect_err("the volumes end just before it");
            left.check(Position::new(groups)).expect("the volumes have all of it");
        }
    }

    #[test]
    fn a_torn_last_group_is_the_end_whatever_earlier_turns_and_boots_left_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path(), 4096).unwrap();
        // Three groups a file: 7 to 9 are written over 1 to 3, and of the fourth turn there is one group.
        for first in 1..=10 {
            write(&mut journal, 1, first, 1, 1100);
        }
        damage(dir.path(), 1, 10);
        let left = recover(dir.path(), EPOCH).unwrap();
        left.check(Position::ZERO).expect_err("7 to 9 do not begin the log");
        // Groups are written over when they are stored: 4 to 6 were when 10 was begun.
        left.check(Position::new(6)).unwrap();
        assert_eq!(left.groups.last().unwrap().last().get(), 9);
        // Another boot had stored all of these, and was cut off in its first group.
        let mut journal = Journal::open(dir.path(), 4096).unwrap();
        write(&mut journal, 2, 10, 1, 1100);
        damage(dir.path(), 0, 10);
        recover(dir.path(), EPOCH).unwrap().check(Position::new(9)).unwrap();
    }
}

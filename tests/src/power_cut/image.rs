//! Images: directories as a power cut could leave them. Everything is drawn from a seed, so that an image can be built
//! again.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::content::Content;
use super::disk::{Change, Disk, FileState, Node, ROOT, State, set_names};

const SECTOR: u64 = 512;

/// How the disk dealt with what was not durable.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    /// Nothing of it survives.
    Nothing,
    /// All of it does, as after a kill.
    Everything,
    /// It was done in order up to some change, which is torn.
    InOrder {
        /// Number of the change.
        upto: usize,
    },
    /// Each change survives in whole with this probability, else torn or not at all, in any order.
    AnyOf {
        /// From 0 to 1.
        whole: f64,
    },
}

/// Builds the image of a cut at the point to which `disk` was replayed, in the directory `path`, which must not be there.
///
/// # Errors
///
/// When it cannot be written.
pub fn build(disk: &Disk, seed: u64, path: &Path) -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let manner = Manner::draw(disk, &mut random);
    Cut { disk, random, manner }.directory(ROOT, path)
}

impl Manner {
    fn draw(disk: &Disk, random: &mut StdRng) -> Self {
        match random.random_range(0..10) {
            0 => Self::Nothing,
            1 => Self::Everything,
            2..5 => {
                let numbers: Vec<usize> = disk.nodes.iter().flat_map(pending_numbers).collect();
                let (least, most) = (numbers.iter().min(), numbers.iter().max());
                let (least, most) = (least.copied().unwrap_or(0), most.copied().unwrap_or(0));
                Self::InOrder {
                    upto: random.random_range(least..=most),
                }
            }
            _ => Self::AnyOf {
                whole: random.random_range(0.0..1.0),
            },
        }
    }
}

fn pending_numbers(state: &State) -> Vec<usize> {
    match state {
        State::File(file) => file.pending.iter().map(|(number, _)| *number).collect(),
        State::Dir(dir) => dir.pending.iter().map(|(number, _)| *number).collect(),
    }
}

/// What survives of one change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Whole,
    Torn,
    Gone,
}

struct Cut<'a> {
    disk: &'a Disk,
    random: StdRng,
    manner: Manner,
}

impl Cut<'_> {
    fn fate(&mut self, number: usize) -> Fate {
        match self.manner {
            Manner::Nothing => Fate::Gone,
            Manner::Everything => Fate::Whole,
            Manner::InOrder { upto } if number < upto => Fate::Whole,
            Manner::InOrder { upto } if number == upto => Fate::Torn,
            Manner::InOrder { .. } => Fate::Gone,
            Manner::AnyOf { whole } if self.random.random_bool(whole) => Fate::Whole,
            Manner::AnyOf { .. } if self.random.random_bool(0.5) => Fate::Torn,
            Manner::AnyOf { .. } => Fate::Gone,
        }
    }

    fn directory(&mut self, node: Node, path: &Path) -> Result<()> {
        std::fs::create_dir(path).with_context(|| path.display().to_string())?;
        for (name, node) in self.names(node) {
            let path = path.join(name);
            match &self.disk.nodes[node] {
                State::Dir(_) => self.directory(node, &path)?,
                State::File(file) => self
                    .file(file)
                    .save(&path)
                    .with_context(|| path.display().to_string())?,
            }
        }
        Ok(())
    }

    fn names(&mut self, node: Node) -> BTreeMap<String, Node> {
        let State::Dir(dir) = &self.disk.nodes[node] else {
            return BTreeMap::new();
        };
        let mut names = dir.durable.clone();
        for (number, naming) in &dir.pending {
            // A change of names is there or not: file systems have seen to that.
            let kept = match self.fate(*number) {
                Fate::Whole => true,
                Fate::Gone => false,
                Fate::Torn => self.random.random_bool(0.5),
            };
            if kept {
                set_names(&mut names, naming);
            }
        }
        names
    }

    fn file(&mut self, file: &FileState) -> Content {
        let mut content = file.durable.clone();
        let mut len = content.len();
        let mut lens = vec![len];
        let mut kept_len = len;
        for (number, change) in &file.pending {
            let fate = self.fate(*number);
            match change {
                Change::Write { offset, data } => {
                    len = len.max(offset + data.len() as u64);
                    if fate == Fate::Whole {
                        content.put(*offset, data);
                        kept_len = kept_len.max(len);
                    } else if fate == Fate::Torn {
                        self.tear(&mut content, *offset, data);
                    }
                }
                Change::Truncate { len: cut } => {
                    len = *cut;
                    if fate == Fate::Whole {
                        content.truncate(*cut);
                        kept_len = *cut;
                    }
                }
            }
            lens.push(len);
        }
        // The length is written apart from the bytes: any that it ever had since the last sync may be the one on the disk.
        let len = match self.manner {
            Manner::Nothing => lens[0],
            Manner::Everything => len,
            Manner::InOrder { .. } => kept_len,
            Manner::AnyOf { .. } => lens[self.random.random_range(0..lens.len())],
        };
        content.truncate(len);
        content
    }

    /// Writes some of the sectors.
    fn tear(&mut self, content: &mut Content, offset: u64, data: &[u8]) {
        let mut at = 0;
        while at < data.len() {
            let within = (offset + at as u64) % SECTOR;
            let end = data.len().min(at + (SECTOR - within) as usize);
            if self.random.random_bool(0.5) {
                content.put(offset + at as u64, &data[at..end]);
            }
            at = end;
        }
    }
}

//! A place of damage: which file, where in it, and what happens there.

use crate::copy::Files;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What happens at a place.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Flip(u8),
    Zero(usize),
    Truncate,
}

/// A place of damage.
pub struct Place {
    file: PathBuf,
    at: u64,
    kind: Kind,
}

impl Place {
    /// The place of a seed. Every kind of file is as likely as any other, and of a file the bytes that are written.
    pub fn new(seed: u64, whole: &Files) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let files: Vec<_> = whole
            .iter()
            .filter_map(|(path, contents)| Some((path, contents.as_ref()?)))
            .filter(|(path, (_, pieces))| !pieces.is_empty() && !path.ends_with("lock"))
            .collect();
        let mut areas: Vec<String> = files.iter().map(|(path, _)| area(path)).collect();
        areas.sort_unstable();
        areas.dedup();
        let wanted = &areas[random.random_range(0..areas.len())];
        let files: Vec<_> = files.into_iter().filter(|(path, _)| area(path) == *wanted).collect();
        let (file, (len, pieces)) = files[random.random_range(0..files.len())];
        let used: Vec<u64> = pieces
            .iter()
            .flat_map(|(start, bytes)| {
                let written = bytes.iter().enumerate().filter(|(_, byte)| **byte != 0);
                written.map(|(at, _)| *start + at as u64)
            })
            .collect();
        let at = match random.random_range(0..5) {
            0 => random.random_range(0..*len),
            _ => used[random.random_range(0..used.len())],
        };
        let kind = match random.random_range(0..10) {
            0..6 => Kind::Flip(1 << random.random_range(0..8)),
            6..8 => Kind::Zero([1, 8, 100, 4096][random.random_range(0..4)]),
            _ => Kind::Truncate,
        };
        Self {
            file: file.clone(),
            at,
            kind,
        }
    }

    /// Damages a copy.
    pub fn damage(&self, dir: &Path) {
        let path = dir.join(&self.file);
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let len = file.metadata().unwrap().len();
        match self.kind {
            Kind::Flip(bit) => {
                let mut byte = [0];
                file.read_exact_at(&mut byte, self.at).unwrap();
                file.write_all_at(&[byte[0] ^ bit], self.at).unwrap();
            }
            Kind::Zero(count) => {
                let count = count.min((len - self.at) as usize);
                file.write_all_at(&vec![0; count], self.at).unwrap();
            }
            Kind::Truncate => file.set_len(self.at).unwrap(),
        }
    }

    /// The file of that length, and which of its bytes are not as they were: the first, and the one behind the last.
    pub fn touched(&self, len: u64) -> (&Path, u64, u64) {
        let count = match self.kind {
            Kind::Flip(_) => 1,
            Kind::Zero(count) => count as u64,
            Kind::Truncate => len - self.at,
        };
        (&self.file, self.at, self.at + count)
    }

    /// Its file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether a text names the file, or the directory of the database that it belongs to.
    pub fn is_named(&self, text: &str) -> bool {
        let names = self
            .file
            .iter()
            .filter_map(|name| name.to_str())
            .filter(|name| *name != "log");
        names.into_iter().any(|name| text.contains(name))
    }

    /// What kind of file it is.
    pub fn area(&self) -> String {
        area(&self.file)
    }
}

/// A path without the numbers in it.
fn area(path: &Path) -> String {
    let path = path.to_string_lossy();
    path.chars().filter(|letter| !letter.is_ascii_digit()).collect()
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {} of {}", self.kind, self.at, self.file.display())
    }
}

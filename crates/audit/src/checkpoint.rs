//! Checkpoints: the head of a tree as the text of a note ([c2sp.org/tlog-checkpoint](https://c2sp.org/tlog-checkpoint)).

use crate::hash::Hash;
use std::fmt;

/// Longest origin in bytes.
pub const ORIGIN_LEN_MAX: usize = 255;

/// How large a tree is and what its root is. Shown as the text that is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log, and which epoch of it: two epochs are two logs to whoever verifies.
    pub origin: String,
    /// How many leaves.
    pub size: u64,
    /// The root.
    pub root: Hash,
    /// Further lines, which are signed, and which witnesses do not vouch for. None is empty.
    pub extensions: Vec<String>,
}

/// A text that is no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a checkpoint: {0}")]
pub struct MalformedCheckpoint(&'static str);

impl Checkpoint {
    /// Reads the text of a note, which is what `Display` writes and nothing else.
    pub fn parse(text: &str) -> Result<Self, MalformedCheckpoint> {
        let lines = text
            .strip_suffix('\n')
            .ok_or(MalformedCheckpoint("its last line does not end"))?;
        let mut lines = lines.split('\n');
        let origin = lines.next().filter(|origin| !origin.is_empty());
        let origin = origin.ok_or(MalformedCheckpoint("the first line, the origin, is empty"))?;
        if origin.len() > ORIGIN_LEN_MAX {
            return Err(MalformedCheckpoint("the origin is longer than 255 bytes"));
        }
        let size = lines.next().and_then(decimal);
        let size = size.ok_or(MalformedCheckpoint(
            "the second line is no size: a number without leading zeroes",
        ))?;
        let root = lines.next().and_then(|root| Hash::parse(root).ok());
        let root = root.ok_or(MalformedCheckpoint("the third line is no root: 32 bytes in Base64"))?;
        if size == 0 && root != Hash::of_nothing() {
            return Err(MalformedCheckpoint("the empty tree has another root"));
        }
        let extensions: Vec<String> = lines.map(str::to_owned).collect();
        if extensions.iter().any(String::is_empty) {
            return Err(MalformedCheckpoint("a line is empty"));
        }
        Ok(Self {
            origin: origin.to_owned(),
            size,
            root,
            extensions,
        })
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, self.root)?;
        self.extensions.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// A decimal number without signs and leading zeroes.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

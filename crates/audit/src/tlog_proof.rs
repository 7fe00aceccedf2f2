//! A proof in one file that can be verified offline ([c2sp.org/tlog-proof](https://c2sp.org/tlog-proof)): which leaf, the way
//! up to the root, and the checkpoint that says the root.

use crate::checkpoint::{Checkpoint, MalformedCheckpoint, decimal};
use crate::hash::Hash;
use crate::note::{MalformedNote, Note};
use crate::proof::{ProofMismatch, verify_inclusion};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt;

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
/// A tree is at most 64 levels high.
const PATH_LEN_MAX: usize = 64;
/// Longest proof that is read, in bytes: a record of the largest size in Base64, and what stands around it.
const PROOF_LEN_MAX: usize = 4 * 1024 * 1024;

/// An inclusion proof with the signed checkpoint that it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// What helps to compute the leaf: whoever verifies computes the leaf from it and believes nothing else of it.
    pub extra: Vec<u8>,
    /// Index of the leaf, from 0.
    pub index: u64,
    /// The siblings on the way up, the leaf's first.
    pub path: Vec<Hash>,
    /// The checkpoint with its signatures.
    pub checkpoint: Note,
}

/// A text that is no proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MalformedProof {
    /// A line is missing or wrong.
    #[error("not a proof: {0}")]
    Line(&'static str),
    /// What stands behind it is no signed note.
    #[error("not a proof: its checkpoint is none: {0}")]
    Note(#[from] MalformedNote),
    /// The note is no checkpoint.
    #[error("not a proof: {0}")]
    Checkpoint(#[from] MalformedCheckpoint),
}

impl TlogProof {
    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Result<Self, MalformedProof> {
        let line = MalformedProof::Line;
        if text.len() > PROOF_LEN_MAX {
            return Err(line("it is larger than 4 MiB"));
        }
        let (head, note) = text
            .split_once("\n\n")
            .ok_or(line("no empty line before the checkpoint"))?;
        let mut lines = head.split('\n');
        if lines.next() != Some(FIRST_LINE) {
            return Err(line("the first line is not c2sp.org/tlog-proof@v1"));
        }
        let mut next = lines.next();
        let mut extra = Vec::new();
        if let Some(text) = next.and_then(|text| text.strip_prefix("extra ")) {
            extra = STANDARD.decode(text).map_err(|_| line("extra is not Base64"))?;
            next = lines.next();
        }
        let index = next.and_then(|text| text.strip_prefix("index ")).and_then(decimal);
        let index = index.ok_or(line("no line with the index"))?;
        let path = lines.map(Hash::parse).collect::<Result<Vec<_>, _>>();
        let path = path.map_err(|_| line("a line of the path is no hash"))?;
        if path.len() > PATH_LEN_MAX {
            return Err(line("the path has more than 64 hashes"));
        }
        let checkpoint = Note::parse(note)?;
        Checkpoint::parse(checkpoint.text())?;
        Ok(Self {
            extra,
            index,
            path,
            checkpoint,
        })
    }

    /// Verifies that the checkpoint's tree has this leaf at the index. It says nothing of the checkpoint's signatures:
    /// ask [`Note::signed_by`].
    pub fn verify(&self, leaf: &Hash) -> Result<Checkpoint, ProofFails> {
        let checkpoint = Checkpoint::parse(self.checkpoint.text())?;
        verify_inclusion(leaf, self.index, checkpoint.size, &checkpoint.root, &self.path)?;
        Ok(checkpoint)
    }
}

/// Why a proof in a file does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofFails {
    /// The note is no checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] MalformedCheckpoint),
    /// The path does not lead to the checkpoint's root.
    #[error(transparent)]
    Mismatch(#[from] ProofMismatch),
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}")?;
        if !self.extra.is_empty() {
            writeln!(f, "extra {}", STANDARD.encode(&self.extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        self.path.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

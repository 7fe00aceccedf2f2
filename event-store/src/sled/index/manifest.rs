//! The manifest of the index: how far it has read, and which runs it has. Runs count when they are named here, so that
//! entries and checkpoint are committed together.

use super::run::storage;
use crate::files::write_atomically;
use annals_core::{Epoch, LogError, Position};
use std::io;
use std::path::Path;

/// Begins the manifest: the second layout of the index. The first was a database.
const MAGIC: [u8; 4] = [0x41, 0x4e, 0x58, 0x02];
const FILE: &str = "manifest";
const HEADER_LEN: usize = 32;

/// What the index is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) epoch: Epoch,
    pub(super) position: Position,
    /// Number and level of each run, in the order of the positions.
    pub(super) runs: Vec<(u64, u32)>,
}

impl Manifest {
    /// The manifest in `dir`; `None` if there is none.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, LogError> {
        let bytes = match std::fs::read(dir.join(FILE)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(storage(error)),
        };
        let manifest = Self::decode(&bytes).ok_or_else(|| storage("its manifest is damaged or of another layout"))?;
        Ok(Some(manifest))
    }

    pub(super) fn write(&self, dir: &Path) -> Result<(), LogError> {
        write_atomically(&dir.join(FILE), &self.encode()).map_err(storage)
    }

    /// Removes the manifest in `dir`: what it names is then built anew. One that stays is read again, and so is its damage.
    pub(super) fn forget(dir: &Path) {
        let _ = std::fs::remove_file(dir.join(FILE));
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&(self.runs.len() as u32).to_le_bytes());
        out.extend_from_slice(self.epoch.as_bytes());
        out.extend_from_slice(&self.position.get().to_le_bytes());
        for (number, level) in &self.runs {
            out.extend_from_slice(&number.to_le_bytes());
            out.extend_from_slice(&level.to_le_bytes());
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if body.len() < HEADER_LEN || body[..4] != MAGIC || crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let count = u32::from_le_bytes(*body[4..].first_chunk()?);
        let (runs, rest) = body[HEADER_LEN..].as_chunks::<12>();
        if runs.len() != count as usize || !rest.is_empty() {
            return None;
        }
        let run = |bytes: &[u8; 12]| {
            let number = u64::from_le_bytes(*bytes.first_chunk()?);
            Some((number, u32::from_le_bytes(*bytes[8..].first_chunk()?)))
        };
        Some(Self {
            epoch: Epoch::from_bytes(*body[8..].first_chunk()?),
            position: Position::new(u64::from_le_bytes(*body[24..].first_chunk()?)),
            runs: runs.iter().map(run).collect::<Option<_>>()?,
        })
    }
}

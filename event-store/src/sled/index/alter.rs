//! Tools for the suites: makes a closed index lie, with checksums that hold, and reads a block from any bytes. The product
//! uses neither; they stand here because they must know every byte.

use super::block::Entries;
use super::manifest::Manifest;
use super::run::{Run, storage};
use super::run_path;
use super::scan::Scan;
use super::write::{RunWriter, Stretch};
use annals_core::LogError;
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;

/// Entries of an index block: key, what orders it (the first version or position), positions.
type Decoded = Vec<(Vec<u8>, u64, Vec<u64>)>;

/// Told key and positions of an entry, says which positions stand there afterwards.
type Change<'a> = &'a mut dyn FnMut(&[u8], &[u64]) -> Option<Vec<u64>>;

/// Reads the entries of an index block without its checksum. The error says what no writer of ours writes.
///
/// # Errors
///
/// When the bytes are no block.
#[doc(hidden)]
pub fn decode_index_block(bytes: &[u8]) -> Result<Decoded, &'static str> {
    let mut entries = Entries::new(Bytes::copy_from_slice(bytes));
    let mut decoded = Vec::new();
    while entries.read().map_err(|malformed| malformed.0)? {
        decoded.push((entries.key.clone(), entries.order, entries.positions.clone()));
    }
    Ok(decoded)
}

/// Changes the entries of a closed index so that all its checksums hold: told key and positions of each, `change` says
/// what stands there afterwards (`None`: nothing). Returns how many changed.
///
/// # Errors
///
/// When there is no index in the directory, or it cannot be written.
#[doc(hidden)]
pub fn alter_index(dir: &Path, change: Change<'_>) -> Result<usize, LogError> {
    let manifest = Manifest::read(dir)?.ok_or_else(|| storage("there is none"))?;
    let mut changed = 0;
    for (number, level) in manifest.runs {
        let run = Arc::new(Run::open(&run_path(dir, number), level)?);
        let stretch = Stretch {
            epoch: run.footer.epoch,
            number,
            after: run.footer.after,
            last: run.footer.last,
            level,
            keys_max: run.footer.keys,
        };
        let beside = dir.join("altered.tmp");
        let mut writer = RunWriter::create(&beside, stretch)?;
        let mut scan = Scan::new(&[run], &[])?;
        while let Some(entry) = scan.next_entry()? {
            let told = change(&entry.key, &entry.positions);
            changed += usize::from(told.as_ref() != Some(&entry.positions));
            if let Some(positions) = told {
                writer.push(&entry.key, entry.order, &positions)?;
            }
        }
        writer.finish()?;
        std::fs::rename(&beside, run_path(dir, number)).map_err(storage)?;
    }
    Ok(changed)
}

//! A tool for damage: changes what a stopped server left on disk, through the storage engine, so that the engine itself
//! finds nothing wrong. The only file here that names the engine; knows keys and values as `docs/format.md` gives them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Length of the checksum at the beginning of every value of a view.
const CRC_LEN: usize = 4;

/// The blocks of the first volume of the log.
const VOLUME: &str = "log/00000000000000000001";

fn open(path: &Path, segment_bytes: usize) -> Result<sled::Db> {
    ensure!(path.is_dir(), "there is no database at {}", path.display());
    let config = sled::Config::new()
        .path(path)
        .segment_size(segment_bytes)
        .flush_every_ms(None);
    config.open().with_context(|| path.display().to_string())
}

/// Changes blocks of the log's first volume: told key and value of each, `change` says what stands there afterwards (`None`:
/// nothing). Returns how many changed.
///
/// # Errors
///
/// When the database is not there or cannot be written.
pub fn change(data: &Path, mut change: impl FnMut(&[u8], &[u8]) -> Option<Vec<u8>>) -> Result<usize> {
    let db = open(&data.join(VOLUME), 8 << 20)?;
    let entries: Vec<_> = db.iter().collect::<Result<_, _>>()?;
    let mut changed = 0;
    for (key, value) in entries {
        match change(&key, &value) {
            None => db.remove(&key)?,
            Some(new) if new == *value => continue,
            Some(new) => db.insert(&key, new)?,
        };
        changed += 1;
    }
    db.flush()?;
    Ok(changed)
}

/// Makes the index of a log lie, its checksums intact: told key and positions of each entry, `change` says what stands
/// there afterwards (`None`: nothing). Returns how many changed.
///
/// # Errors
///
/// When there is no index, or it cannot be written.
pub fn lie(data: &Path, mut change: impl FnMut(&[u8], &[u64]) -> Option<Vec<u64>>) -> Result<usize> {
    Ok(annals_event_store::alter_index(&data.join("index"), &mut change)?)
}

/// Positions at which the blocks of the log's first volume begin.
///
/// # Errors
///
/// As [`change`].
pub fn blocks(data: &Path) -> Result<Vec<u64>> {
    let mut positions = Vec::new();
    change(data, |key, value| {
        if let Ok(position) = <[u8; 8]>::try_from(key) {
            positions.push(u64::from_be_bytes(position));
        }
        Some(value.to_vec())
    })?;
    Ok(positions)
}

/// Replaces a text by another of the same length in the first row of a view whose key contains `key`. With `sealed`,
/// the row's checksum is made to fit again. Returns whether the row held the text.
///
/// # Errors
///
/// When there is no store of such a view, or it cannot be written.
pub fn alter_row(data: &Path, view: &str, key: &str, [from, to]: [&str; 2], sealed: bool) -> Result<bool> {
    ensure!(
        from.len() == to.len(),
        "a value of another length would need more than this tool does"
    );
    let db = open(&view_store(data, view)?, 2 << 20)?;
    for entry in db.scan_prefix(b"r") {
        let (found, value) = entry?;
        let at = value.windows(from.len()).position(|window| window == from.as_bytes());
        if let (true, Some(at)) = (contains(&found, key), at) {
            let mut value = value.to_vec();
            value[at..at + to.len()].copy_from_slice(to.as_bytes());
            if sealed {
                let crc = crc32c::crc32c_append(crc32c::crc32c(&found), &value[CRC_LEN..]);
                value[..CRC_LEN].copy_from_slice(&crc.to_be_bytes());
            }
            db.insert(found, value)?;
            db.flush()?;
            return Ok(true);
        }
    }
    Ok(false)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The database that serves a view, as the manifest of the views names it.
fn view_store(data: &Path, view: &str) -> Result<PathBuf> {
    let file = data.join("views/manifest.json");
    let manifest = std::fs::read(&file).with_context(|| file.display().to_string())?;
    let manifest: serde_json::Value = serde_json::from_slice(&manifest)?;
    let directory = manifest["views"][view]["directory"].as_str();
    let directory = directory.with_context(|| format!("{} names no store of {view}", file.display()))?;
    Ok(data.join("views").join(directory))
}

//! A tool for damage: changes what a stopped server left on disk, through the storage engine, so that the engine itself
//! finds nothing wrong. The only file here that names the engine; knows keys and values as `docs/format.md` gives them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

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

/// Replaces a text by another of the same length in the first row of a view whose key contains `key`; all checksums
/// hold. Returns whether a row held the text.
///
/// # Errors
///
/// When there is no store of such a view, or it cannot be written.
pub fn alter_row(data: &Path, view: &str, key: &str, [from, to]: [&str; 2]) -> Result<bool> {
    ensure!(
        from.len() == to.len(),
        "a value of another length would need more than this tool does"
    );
    let altered = annals_projections::alter_row(&data.join("views"), view, &mut |found, row| {
        let at = row.windows(from.len()).position(|window| window == from.as_bytes())?;
        let mut row = row.to_vec();
        row[at..at + to.len()].copy_from_slice(to.as_bytes());
        found.contains(key).then_some(row)
    });
    Ok(altered?)
}

/// Turns one bit at each of so many places of each table of a view, far from each other. Returns how many tables there are.
///
/// # Errors
///
/// When there is no store of such a view, or it cannot be written.
pub fn damage_view(data: &Path, view: &str, places: usize) -> Result<usize> {
    let mut damaged = 0;
    for table in std::fs::read_dir(view_store(data, view)?.join("tables"))? {
        let table = table?.path();
        let mut bytes = std::fs::read(&table)?;
        for place in 1..=places {
            let at = bytes.len() * place / (places + 1);
            bytes[at] ^= 0x10;
        }
        std::fs::write(&table, bytes)?;
        damaged += 1;
    }
    Ok(damaged)
}

/// The store that serves a view, as the manifest of the views names it.
fn view_store(data: &Path, view: &str) -> Result<PathBuf> {
    let file = data.join("views/manifest.json");
    let manifest = std::fs::read(&file).with_context(|| file.display().to_string())?;
    let manifest: serde_json::Value = serde_json::from_slice(&manifest)?;
    let directory = manifest["views"][view]["directory"].as_str();
    let directory = directory.with_context(|| format!("{} names no store of {view}", file.display()))?;
    Ok(data.join("views").join(directory))
}

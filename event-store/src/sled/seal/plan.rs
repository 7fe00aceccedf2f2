//! What to seal next: a closed sled database, or several small sealed volumes that make one.

use super::SealError;
use crate::sled::manifest::VolumeEntry;
use crate::sled::shared::Shared;
use annals_core::{LogError, Position};
use std::collections::BTreeSet;

/// How many small sealed volumes are joined at least: so every event is rewritten a few times at most.
const JOIN_MIN: usize = 4;

/// Adjacent closed volumes and what takes their place.
#[derive(Debug, Clone)]
pub(in crate::sled) struct Plan {
    pub(super) old: Vec<VolumeEntry>,
    pub(super) new: VolumeEntry,
    /// Position of the last record.
    pub(super) end: Position,
    /// Length of their files.
    pub(super) bytes: u64,
}

impl Plan {
    /// What is to be done next, if anything is. Volumes in `damaged` are left alone.
    pub(super) fn next(shared: &Shared, damaged: &BTreeSet<String>) -> Result<Option<Self>, LogError> {
        let entries = shared.volumes.entries();
        let closed = &entries[..entries.len().saturating_sub(1)];
        if let Some(at) = closed
            .iter()
            .position(|entry| !entry.is_sealed() && !damaged.contains(&entry.name))
        {
            let bytes = len(shared, &closed[at])?;
            return Ok(Some(Self::of(&entries, at, 1, bytes)));
        }
        let lens: Vec<u64> = closed
            .iter()
            .map(|entry| {
                // Longer than what is joined.
                let alone = damaged.contains(&entry.name) || !entry.is_sealed();
                if alone { Ok(u64::MAX) } else { len(shared, entry) }
            })
            .collect::<Result<_, _>>()?;
        let run = joinable(&lens, shared.settings.sealed_bytes_max);
        Ok(run.map(|(at, count, bytes)| Self::of(&entries, at, count, bytes)))
    }

    fn of(entries: &[VolumeEntry], at: usize, count: usize, bytes: u64) -> Self {
        let old = entries[at..at + count].to_vec();
        // The last volume is never among them, so that one follows.
        let end = entries
            .get(at + count)
            .map_or(Position::ZERO, |next| next.first.previous());
        Self {
            new: VolumeEntry::sealed_after(&entries[at]),
            old,
            end,
            bytes,
        }
    }

    /// An error if the disk would come near its reserve.
    pub(super) fn check_space(&self, shared: &Shared) -> Result<(), SealError> {
        let need = shared.settings.reserve_bytes.saturating_add(self.bytes);
        match rustix::fs::statvfs(&shared.log_path) {
            Ok(stat) if stat.f_bavail.saturating_mul(stat.f_frsize) < need => {
                let free = stat.f_bavail.saturating_mul(stat.f_frsize);
                let text = format!("the disk has {free} bytes left, sealing needs {need}: free some space");
                Err(SealError::Failed(LogError::Storage(text)))
            }
            // A file system that does not say how full it is cannot be watched.
            _ => Ok(()),
        }
    }
}

/// Length of a volume's file.
fn len(shared: &Shared, entry: &VolumeEntry) -> Result<u64, LogError> {
    let path = entry.path(shared.volumes.dir());
    let file = if entry.is_sealed() { path } else { path.join("db") };
    let storage = |error| LogError::Storage(format!("{}: {error}", file.display()));
    std::fs::metadata(&file).map(|found| found.len()).map_err(storage)
}

/// The first run of neighbours that together stay within `max`: where, how many, how long in all.
fn joinable(lens: &[u64], max: u64) -> Option<(usize, usize, u64)> {
    let mut at = 0;
    while at < lens.len() {
        let (mut count, mut bytes) = (0, 0u64);
        while let Some(len) = lens.get(at + count).filter(|len| bytes.saturating_add(**len) <= max) {
            bytes += len;
            count += 1;
        }
        if count >= JOIN_MIN {
            return Some((at, count, bytes));
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::joinable;

    #[test]
    fn small_neighbours_are_joined_and_large_ones_left() {
        assert_eq!(joinable(&[100, 20, 20, 20, 20, 90], 100), Some((1, 4, 80)));
        assert_eq!(joinable(&[20, 20, 20], 100), None, "too few to be worth it");
        assert_eq!(joinable(&[60, 20, 60, 20, 60], 100), None);
        assert_eq!(joinable(&[10; 30], 100), Some((0, 10, 100)));
        assert_eq!(joinable(&[], 100), None);
    }
}

//! A record as the shim wrote it.

#[path = "../../shim/src/format.rs"]
pub mod format;

use std::path::Path;

use anyhow::{Context, Result};
pub use format::Entry;

/// Reads a whole record.
///
/// # Errors
///
/// When the file cannot be read or holds something else.
pub fn read(path: &Path) -> Result<Vec<Entry>> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let mut rest = bytes.as_slice();
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        let (entry, used) =
            Entry::decode(rest).with_context(|| format!("{} holds no entry at byte {at}", path.display()))?;
        entries.push(entry);
        rest = &rest[used..];
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_read_as_it_was_written() {
        let text = |text: &str| text.to_owned();
        let entries = [
            Entry::Open {
                ino: 7,
                created: true,
                path: text("log/a"),
            },
            Entry::Write {
                ino: 7,
                offset: 1 << 40,
                data: vec![1, 2, 3],
            },
            Entry::Truncate { ino: 7, len: 2 },
            Entry::SyncBegin {
                ino: 7,
                sync: 1,
                data_only: true,
            },
            Entry::SyncEnd { sync: 1, ok: false },
            Entry::RangeSync { ino: 7 },
            Entry::Mkdir { path: text("b") },
            Entry::Rename {
                from: text("log/a"),
                to: text("b/c"),
            },
            Entry::Link {
                from: text("b/c"),
                to: text("d"),
            },
            Entry::Remove { path: text("d") },
            Entry::Mark { data: b"ack".to_vec() },
            Entry::Unknown { what: text("mmap") },
        ];
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("record");
        let mut bytes = Vec::new();
        entries.iter().for_each(|entry| entry.encode(&mut bytes));
        std::fs::write(&file, &bytes).unwrap();
        assert_eq!(read(&file).unwrap(), entries);
        std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
        assert!(read(&file).is_err(), "a record that is cut off is not taken for whole");
    }
}

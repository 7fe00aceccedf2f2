//! The log that is damaged: sealed volumes, one that is still sled's, an index, small and large events.

use crate::copy;
use crate::support::{append, open};
use annals_event_store::LogSettings;
use std::path::Path;

/// In memory where there is such a place: thousands of copies are written.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// Settings with which the log is written and read. sled's own volumes are few: to open one is to read 8 MiB.
pub fn settings(volume_bytes_max: u64) -> LogSettings {
    LogSettings {
        volume_bytes_max,
        store_bytes: 20_000,
        journal_bytes: 64 << 10,
        index_tail_max: 40,
        reserve_bytes: 0,
        seal: false,
        ..LogSettings::default()
    }
}

/// Writes the log, closed in order, and returns its files.
pub fn write(dir: &Path) -> copy::Files {
    let large = ["y".repeat(30_000), "z".repeat(150_000)];
    for (sealed, volume_bytes_max) in [(true, 1), (true, 1), (false, 9 << 20)] {
        let (log, held) = open(dir, settings(volume_bytes_max));
        for number in 0..60 {
            let (name, text) = (
                format!("a/{}", number % 7),
                format!("event {number} {}", "x".repeat(number * 7)),
            );
            let texts = [text.as_str(), "second", &large[number % 2]];
            let count = if number % 20 == 19 { 3 } else { 1 + number % 2 };
            append(&log, &name, &texts[..count]).unwrap();
        }
        if sealed {
            log.seal_now().unwrap();
        }
        log.close();
        drop((log, held));
    }
    copy::instant(dir).unwrap()
}

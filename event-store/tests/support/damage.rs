//! A tool for damage: changes the stored blocks of a closed log through sled, so that checksums of sled itself hold.

#![allow(unreachable_pub, reason = "the suites are crates of their own")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

/// Changes the stored blocks of a closed log through sled, as a tool for damage.
pub fn alter(dir: &Path, database: &str, change: impl FnOnce(&sled::Db)) {
    let db = sled::Config::new()
        .path(dir.join(database))
        .segment_size(8 << 20)
        .flush_every_ms(None)
        .open()
        .unwrap();
    change(&db);
    db.flush().unwrap();
}

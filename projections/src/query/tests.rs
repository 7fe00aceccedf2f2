//! What a query does where the store holds something that nobody wrote.

#[path = "../../tests/common/mod.rs"]
mod common;

use crate::{ListQuery, QueryError, ViewDefinition, dump_rows};
use annals_core::EventLog;
use annals_event_store::MemoryLog;
use common::*;
use std::path::Path;

/// In the second block of each table: the first one holds the checkpoint, too, and is read at the start.
fn flip_a_byte_of_the_rows(tables: &Path) {
    for table in std::fs::read_dir(tables).unwrap() {
        let path = table.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let mut blocks = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"LSM"));
        let second = blocks.nth(1).unwrap();
        bytes[second + 60] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn a_damaged_row_is_not_served_and_the_view_repairs_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (log, settings, view) = (MemoryLog::new("test"), settings(dir.path()), ViewDefinition::of(Totals));
    append(&log, "aaa", &[CountEvent::Grown { bytes: 50_000 }]);
    append(&log, "ann", &[counted(7, "red")]);
    append(&log, "bob", &[counted(8, "red")]);
    for key in ["aaa", "ann", "bob"] {
        // Rows with so many events are not looked at when the view starts.
        append(&log, key, &vec![counted(1, "red"); 200]);
    }
    let projections = start(&log, vec![view.clone()], settings.clone());
    reach(&projections, "totals", log.head());
    projections.shutdown();

    flip_a_byte_of_the_rows(&settings.views_dir.join("totals@1.1/tables"));

    assert!(dump_rows(&settings, &view).is_err());
    let projections = start(&log, vec![view.clone()], settings.clone());
    let handle = projections.view("totals").unwrap();
    match handle.row("ann") {
        Err(error @ QueryError::Damaged { .. }) => {
            assert!(error.to_string().contains("being rebuilt"), "{error}");
            assert!(matches!(&error, QueryError::Damaged { key, .. } if key == "ann"));
        }
        // The worker met the damage first, and builds the rows anew or has already done so.
        Err(error) => assert!(matches!(error, QueryError::Unavailable { .. }), "{error}"),
        Ok(answer) => assert_eq!(answer.position, log.head()),
    }
    until("the row is back", || {
        handle.row("ann").is_ok_and(|answer| answer.row.is_some())
    });
    assert_eq!(handle.list(&ListQuery::default()).unwrap().rows.len(), 3);
    projections.shutdown();
    assert!(dumped(&settings, &view) == folded(&log, &view));
}

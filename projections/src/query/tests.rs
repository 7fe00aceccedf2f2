//! What a query does where the store holds something that nobody wrote.

use crate::common::*;
use crate::store::Stores;
use crate::views::ViewsDir;
use crate::{ListQuery, ProjectionSettings, QueryError, ViewDefinition, dump_rows};
use annals_core::EventLog;
use annals_event_store::MemoryLog;
use std::sync::Arc;

/// Turns a bit of the block that holds a row, wherever that is, so that the store opens and the row does not.
fn damage_the_row(settings: &ProjectionSettings, view: &str, key: &str) {
    let directory = ViewsDir::open(&settings.views_dir, Arc::new(Stores::new(settings))).unwrap();
    let serving = directory.serving(view).unwrap();
    let tables = settings.views_dir.join(&serving.directory).join("tables");
    for table in std::fs::read_dir(tables).unwrap() {
        let path = table.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        for block in (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"LSM")) {
            let mut damaged = bytes.clone();
            damaged[(block + 60).min(bytes.len() - 1)] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            // Another one, because blocks that were read are kept.
            let directory = ViewsDir::open(&settings.views_dir, Arc::new(Stores::new(settings))).unwrap();
            if let Ok(store) = directory.open_serving(&serving)
                && store.rows().checkpoint().is_ok()
                && store.rows().row(key).is_err()
            {
                return;
            }
            std::fs::write(&path, &bytes).unwrap();
        }
    }
    panic!("row {key:?} stands in no block");
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

    damage_the_row(&settings, "totals", "ann");

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

//! What a query does where the store holds something that nobody wrote.

#[path = "../../tests/common/mod.rs"]
mod common;

use crate::store::layout::chunk_key;
use crate::store::{Batch, SledStore, Store};
use crate::{ListQuery, QueryError, ViewDefinition, dump_rows};
use annals_core::EventLog;
use annals_event_store::MemoryLog;
use common::*;

#[test]
fn a_damaged_row_is_not_served_and_the_view_repairs_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (log, settings, view) = (MemoryLog::new("test"), settings(dir.path()), ViewDefinition::of(Totals));
    append(&log, "ann", &[counted(7, "red")]);
    append(&log, "bob", &[counted(8, "red")]);
    let projections = start(&log, vec![view.clone()], settings.clone());
    reach(&projections, "totals", log.head());
    projections.shutdown();

    let store = SledStore::open(&settings.views_dir.join("totals@1.1"), 1 << 20).unwrap();
    let key = chunk_key("ann", 0);
    let mut value = store.get(&key).unwrap().unwrap();
    *value.last_mut().unwrap() ^= 1;
    let mut batch = Batch::default();
    batch.put(key, value);
    store.apply(batch).unwrap();
    drop(store);

    assert!(dump_rows(&settings, &view).is_err());
    let projections = start(&log, vec![view.clone()], settings.clone());
    let handle = projections.view("totals").unwrap();
    let error = handle.row("ann").unwrap_err();
    assert!(
        matches!(&error, QueryError::Damaged { key, .. } if key == "ann"),
        "{error}"
    );
    assert!(error.to_string().contains("being rebuilt"), "{error}");
    until("the row is back", || {
        handle.row("ann").is_ok_and(|answer| answer.row.is_some())
    });
    assert_eq!(handle.list(&ListQuery::default()).unwrap().rows.len(), 2);
    projections.shutdown();
    assert!(dumped(&settings, &view) == folded(&log, &view));
}

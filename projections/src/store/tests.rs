//! One suite for both stores, and the layout on top of them.

use super::memory::MemoryStore;
use super::*;
use crate::definition::Change;
use annals_core::{Epoch, IndexValue, Key, Position};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn entries(store: &dyn Store, range: KeyRange, backwards: bool) -> Vec<(Bytes, Bytes)> {
    let mut found = Vec::new();
    store
        .scan(range, backwards, &mut |key, value| {
            found.push((key.to_vec(), value.to_vec()));
            Ok(Scan::Go)
        })
        .unwrap();
    found
}

fn batches() -> impl Strategy<Value = Vec<Vec<(u8, Option<u16>)>>> {
    let change = (any::<u8>(), proptest::option::of(0_u16..40_000));
    proptest::collection::vec(proptest::collection::vec(change, 0..60), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_store_on_disk_does_what_the_model_does(batches in batches(), low in any::<u8>(), high in any::<u8>()) {
        let dir = tempfile::tempdir().unwrap();
        let model = MemoryStore::default();
        for changes in batches {
            let store = SledStore::open(dir.path(), 1 << 20).unwrap();
            let mut batch = Batch::default();
            for (key, len) in changes {
                batch.changes.push((vec![key], len.map(|len| vec![key; usize::from(len) % layout::CHUNK_LEN_MAX])));
            }
            store.apply(batch.clone()).unwrap();
            model.apply(batch).unwrap();
            let (low, high) = (low.min(high), low.max(high));
            for range in [
                (Bound::Unbounded, Bound::Unbounded),
                (Bound::Included(vec![low]), Bound::Excluded(vec![high])),
                (Bound::Excluded(vec![low]), Bound::Included(vec![high])),
            ] {
                for backwards in [false, true] {
                    prop_assert!(
                        entries(&store, range.clone(), backwards) == entries(&model, range.clone(), backwards)
                    );
                }
            }
            prop_assert_eq!(store.get(&[low]).unwrap(), model.get(&[low]).unwrap());
        }
    }

    #[test]
    fn index_values_are_ordered_as_bytes_as_they_are_as_values(a in index_values(), b in index_values()) {
        let same_kind = std::mem::discriminant(&a) == std::mem::discriminant(&b);
        if same_kind {
            prop_assert_eq!(layout::index_value(&a).cmp(&layout::index_value(&b)), a.cmp(&b));
        }
        let key = "a\0key";
        let value = layout::index_value(&a);
        let entry = layout::index_key(7, &value, key);
        prop_assert_eq!(layout::read_index_key(&entry), Some((value.as_slice(), key)));
    }

    #[test]
    fn row_keys_are_ordered_as_their_texts(a in "[\0a-c]{0,6}", b in "[\0a-c]{0,6}") {
        prop_assert_eq!(layout::chunk_key(&a, 0).cmp(&layout::chunk_key(&b, 0)), a.cmp(&b));
        prop_assert_eq!(layout::read_chunk_key(&layout::chunk_key(&a, 9)), Some((a, 9)));
    }
}

fn index_values() -> impl Strategy<Value = IndexValue> {
    prop_oneof![
        any::<bool>().prop_map(IndexValue::Bool),
        any::<i64>().prop_map(|number| IndexValue::Number(number.into())),
        "[\0-\u{7f}é]{0,6}".prop_map(IndexValue::Text),
    ]
}

fn change(key: &str, from: u64, old_len: Option<usize>, value: Option<Vec<u8>>) -> Change {
    Change {
        key: Key::from(key),
        from: Position::new(from),
        old_len,
        value,
        index_removed: Vec::new(),
        index_added: Vec::new(),
    }
}

fn checkpoint(position: u64) -> Checkpoint {
    Checkpoint {
        format: STORE_FORMAT,
        epoch: Epoch::from_bytes([1; 16]),
        position: Position::new(position),
        fingerprint: "f".into(),
        rows: 0,
        outbox: None,
    }
}

#[test]
fn a_row_of_many_chunks_grows_shrinks_and_goes() {
    let rows = RowStore::new(Box::new(MemoryStore::default()));
    let mut old_len = None;
    for (from, len) in [
        (1, 0),
        (2, layout::CHUNK_LEN_MAX),
        (3, 5 * layout::CHUNK_LEN_MAX + 1),
        (4, 3),
    ] {
        let row = vec![from as u8; len];
        rows.commit(&[change("k", from, old_len, Some(row.clone()))], &checkpoint(from))
            .unwrap();
        let stored = rows.row("k").unwrap().unwrap();
        assert_eq!((stored.from.get(), stored.row), (from, row));
        assert_eq!(rows.checkpoint().unwrap().unwrap().position.get(), from);
        old_len = Some(len);
    }
    rows.commit(&[change("k", 5, old_len, None)], &checkpoint(5)).unwrap();
    assert_eq!(rows.row("k").unwrap(), None);
    let mut left = 0;
    rows.each_row(&mut |_, _| {
        left += 1;
        Ok(Scan::Go)
    })
    .unwrap();
    assert_eq!(left, 0);
}

#[test]
fn the_largest_row_leaves_no_file_beside_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let store = RowStore::new(Box::new(SledStore::open(dir.path(), 16 << 20).unwrap()));
    let row: Vec<u8> = (0..16_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    store
        .commit(&[change("big", 1, None, Some(row.clone()))], &checkpoint(1))
        .unwrap();
    store.sync().unwrap();
    drop(store);
    let store = RowStore::new(Box::new(SledStore::open(dir.path(), 16 << 20).unwrap()));
    assert!(store.row("big").unwrap().unwrap().row == row);
}

#[test]
fn a_value_that_was_altered_or_moved_is_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path(), 1 << 20).unwrap();
    let rows = RowStore::new(Box::new(store));
    rows.commit(
        &[
            change("a", 1, None, Some(b"one".to_vec())),
            change("b", 1, None, Some(b"two".to_vec())),
        ],
        &checkpoint(1),
    )
    .unwrap();
    drop(rows);
    let store = SledStore::open(dir.path(), 1 << 20).unwrap();
    let mut altered = store.get(&layout::chunk_key("a", 0)).unwrap().unwrap();
    *altered.last_mut().unwrap() ^= 1;
    let mut batch = Batch::default();
    let moved = store.get(&layout::chunk_key("b", 0)).unwrap().unwrap();
    batch.put(layout::chunk_key("a", 0), altered);
    batch.put(layout::chunk_key("c", 0), moved);
    store.apply(batch).unwrap();
    let rows = RowStore::new(Box::new(store));
    assert!(matches!(rows.row("a"), Err(StoreError::Damaged(_))));
    assert!(matches!(rows.row("c"), Err(StoreError::Damaged(_))));
    assert_eq!(rows.row("b").unwrap().unwrap().row, b"two");
}

#[test]
fn a_file_among_the_blobs_means_that_the_store_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    drop(SledStore::open(dir.path(), 1 << 20).unwrap());
    std::fs::create_dir_all(dir.path().join("blobs")).unwrap();
    std::fs::write(dir.path().join("blobs/17"), b"x").unwrap();
    assert!(matches!(
        SledStore::open(dir.path(), 1 << 20),
        Err(StoreError::Damaged(_))
    ));
}

#[test]
fn a_database_of_noise_is_damage_and_not_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let rows = RowStore::new(Box::new(SledStore::open(dir.path(), 1 << 20).unwrap()));
    let changes: BTreeMap<String, Vec<u8>> = (0..2_000).map(|n| (format!("k{n}"), vec![n as u8; 900])).collect();
    let changes: Vec<_> = changes
        .into_iter()
        .map(|(key, row)| change(&key, 1, None, Some(row)))
        .collect();
    rows.write(&changes).unwrap();
    rows.commit(&[], &checkpoint(1)).unwrap();
    rows.sync().unwrap();
    drop(rows);
    let file = dir.path().join("db");
    let mut bytes = std::fs::read(&file).unwrap();
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = (at.wrapping_mul(2_654_435_761) >> 7) as u8;
    }
    std::fs::write(&file, bytes).unwrap();
    let found = SledStore::open(dir.path(), 1 << 20).and_then(|store| RowStore::new(Box::new(store)).checkpoint());
    assert!(!matches!(found, Ok(Some(_))), "{found:?}");
}

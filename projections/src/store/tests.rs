//! The store against a model of it, what a kill and damage leave of it, and the layout on top.

use super::lsm::{Caches, LsmStore};
use super::*;
use crate::ProjectionSettings;
use crate::definition::{Change, IndexAdded};
use crate::threads::Threads;
use annals_core::{Epoch, IndexValue, Key, Position};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

type Model = BTreeMap<Bytes, Bytes>;

fn caches() -> Caches {
    Caches::new(1 << 20, 16)
}

fn entries(store: &LsmStore, end: u64, range: KeyRange, backwards: bool) -> Vec<(Bytes, Bytes)> {
    let mut found = Vec::new();
    store
        .scan(range, end, backwards, &mut |key, value| {
            found.push((key.to_vec(), value.to_vec()));
            Ok(Scan::Go)
        })
        .unwrap();
    found
}

fn expected(model: &Model, range: KeyRange, backwards: bool) -> Vec<(Bytes, Bytes)> {
    let empty = match (&range.0, &range.1) {
        (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) => low >= high,
        _ => false,
    };
    if empty {
        return Vec::new();
    }
    let found = model.range(range).map(|(key, value)| (key.clone(), value.clone()));
    if backwards {
        found.rev().collect()
    } else {
        found.collect()
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Keys and the lengths of their values, or that they are removed; and whether it goes past the table in memory.
    Batch(Vec<(u8, Option<u16>)>, bool),
    Seal,
    Spill,
    Merge,
    /// A reader begins at this moment and goes on to the end, or to the next opening.
    Read,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = (any::<u8>(), proptest::option::of(0_u16..20_000));
    let step = prop_oneof![
        6 => (proptest::collection::vec(change, 0..40), proptest::bool::weighted(0.3))
            .prop_map(|(changes, past)| Step::Batch(changes, past)),
        1 => Just(Step::Seal),
        3 => Just(Step::Spill),
        2 => Just(Step::Merge),
        2 => Just(Step::Read),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn each_reader_sees_its_moment_whatever_is_written_spilled_and_merged(
        steps in steps(), low in any::<u8>(), high in any::<u8>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let caches = caches();
        let mut store = LsmStore::create(dir.path(), &caches).unwrap();
        let (mut model, mut position, mut sealed) = (Model::new(), 0, 0);
        let mut readers: Vec<(in_use::Moment, Model)> = Vec::new();
        for step in steps {
            match step {
                Step::Batch(changes, past) => {
                    // Now and then several batches at one position.
                    position += u64::from(changes.len() % 3 != 0);
                    let past = past && !changes.is_empty();
                    let (threads, mut batches) = (Threads::new(2), vec![Batch::default(), Batch::default()]);
                    for (key, len) in changes {
                        let value = len.map(|len| vec![(position % 251) as u8; usize::from(len)]);
                        match &value {
                            Some(value) => model.insert(vec![key], value.clone()),
                            None => model.remove([key].as_slice()),
                        };
                        batches[usize::from(key % 2)].changes.push((vec![key], value));
                    }
                    if past {
                        store.commit_sorted(sorted(batches, &threads), Position::new(position), &threads).unwrap();
                        sealed = 0;
                    } else {
                        store.commit(batches, Position::new(position), &threads).unwrap();
                    }
                }
                Step::Seal if sealed == 0 => {
                    store.seal().unwrap();
                    sealed += 1;
                }
                Step::Seal | Step::Spill => {
                    store.spill().unwrap();
                    sealed = 0;
                }
                Step::Merge => store.merge().unwrap(),
                Step::Read => readers.push((store.in_use().acquire(), model.clone())),
                Step::Reopen => {
                    store.spill().unwrap();
                    readers.clear();
                    drop(store);
                    store = LsmStore::open(dir.path(), &caches).unwrap();
                    store.stands_at(Position::new(position));
                    sealed = 0;
                }
            }
            let now = (store.in_use().acquire(), model.clone());
            let (low, high) = (low.min(high), low.max(high));
            for (moment, model) in readers.iter().chain([&now]) {
                for range in [
                    (Bound::Unbounded, Bound::Unbounded),
                    (Bound::Included(vec![low]), Bound::Excluded(vec![high])),
                    (Bound::Excluded(vec![low]), Bound::Included(vec![high])),
                ] {
                    for backwards in [false, true] {
                        let found = entries(&store, moment.end(), range.clone(), backwards);
                        prop_assert!(found == expected(model, range.clone(), backwards));
                    }
                }
                prop_assert_eq!(&store.get(&[low], moment.end()).unwrap(), &model.get([low].as_slice()).cloned());
            }
            store.in_use().release(now.0);
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
        prop_assert_eq!(layout::row_key(&a).cmp(&layout::row_key(&b)), a.cmp(&b));
        prop_assert_eq!(layout::read_row_key(&layout::row_key(&a)), Some(a));
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
        replaced: Vec::new(),
        index_past: Vec::new(),
    }
}

fn checkpoint(position: u64) -> Checkpoint {
    Checkpoint {
        format: STORE_FORMAT,
        epoch: Epoch::from_bytes([1; 16]),
        position: Position::new(position),
        fingerprint: "f".into(),
        rows: 0,
        history: None,
        outbox: None,
    }
}

fn stores() -> Stores {
    Stores::new(&ProjectionSettings::new("", ""))
}

#[test]
fn a_row_grows_shrinks_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let rows = stores().create(dir.path()).unwrap();
    let mut old_len = None;
    for (from, len) in [(1, 0), (2, 20_000), (3, 16_000_000), (4, 3)] {
        let row: Vec<u8> = (0..len)
            .map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        rows.commit(&[change("k", from, old_len, Some(row.clone()))], &checkpoint(from))
            .unwrap();
        let stored = rows.row("k").unwrap().unwrap();
        assert!((stored.from.get(), &stored.row) == (from, &row));
        assert_eq!(rows.checkpoint().unwrap().unwrap().position.get(), from);
        rows.sync().unwrap();
        assert!(rows.row("k").unwrap().unwrap().row == row, "also from the disk");
        old_len = Some(row.len());
    }
    rows.commit(&[change("k", 5, old_len, None)], &checkpoint(5)).unwrap();
    assert_eq!(rows.row("k").unwrap(), None);
    let mut left = 0;
    rows.reader()
        .each_row(&mut |_, _| {
            left += 1;
            Ok(Scan::Go)
        })
        .unwrap();
    assert_eq!(left, 0);
}

#[test]
fn a_store_is_open_once_only() {
    let dir = tempfile::tempdir().unwrap();
    let (stores, other) = (stores(), stores());
    let rows = stores.create(dir.path()).unwrap();
    rows.commit(&[], &checkpoint(1)).unwrap();
    rows.sync().unwrap();
    assert!(matches!(other.open(dir.path()), Err(StoreError::InUse(_))));
    drop(rows);
    assert!(other.open(dir.path()).is_ok());
}

#[test]
fn a_batch_in_front_of_the_last_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let rows = stores().create(dir.path()).unwrap();
    rows.commit(&[], &checkpoint(7)).unwrap();
    assert!(matches!(rows.commit(&[], &checkpoint(6)), Err(StoreError::Failed(_))));
}

/// The state that a store must have at a position: all rows have the value of the last batch.
fn round(position: u64) -> Vec<Change> {
    let old_len = (position > 1).then_some(40);
    (0..50)
        .map(|n| change(&format!("k{n}"), position, old_len, Some(vec![position as u8; 40])))
        .collect()
}

fn assert_whole(rows: &RowStore) -> u64 {
    let Some(checkpoint) = rows.checkpoint().unwrap() else {
        return 0;
    };
    let position = checkpoint.position.get();
    let reader = rows.reader();
    assert_eq!(reader.position(), checkpoint.position);
    let mut count = 0;
    reader
        .each_row(&mut |_, stored| {
            assert_eq!((stored.from.get(), stored.row), (position, vec![position as u8; 40]));
            count += 1;
            Ok(Scan::Go)
        })
        .unwrap();
    assert_eq!(count, 50);
    position
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// Copies a directory as a kill would leave it; again if a file of it went meanwhile.
fn copied_as_a_kill_leaves_it(from: &Path, to: &Path) {
    let named = || std::fs::read(from.join("current")).unwrap_or_default();
    loop {
        let _ = std::fs::remove_dir_all(to);
        std::fs::create_dir_all(to.join("tables")).unwrap();
        let before = named();
        for file in files(from) {
            let copy = to.join(file.strip_prefix(from).unwrap());
            let _ = std::fs::copy(&file, copy);
        }
        if named() == before {
            return;
        }
    }
}

#[test]
fn a_copy_taken_at_any_moment_shows_one_batch_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (live, copy) = (dir.path().join("live"), dir.path().join("copy"));
    let mut settings = ProjectionSettings::new("", "");
    settings.spill_every = Duration::from_millis(20);
    let (stores, others) = (Stores::new(&settings), stores());
    let rows = stores.create(&live).unwrap();
    let mut seen = Vec::new();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for position in 1..=2_000 {
                rows.commit(&round(position), &checkpoint(position)).unwrap();
                if position % 20 == 0 {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        });
        while !writer.is_finished() {
            copied_as_a_kill_leaves_it(&live, &copy);
            let copied = others.open(&copy).unwrap();
            seen.push(assert_whole(&copied));
        }
    });
    assert!(seen.is_sorted(), "what is on the disk never goes back: {seen:?}");
    rows.sync().unwrap();
    copied_as_a_kill_leaves_it(&live, &copy);
    assert_eq!(assert_whole(&others.open(&copy).unwrap()), 2_000);
}

#[test]
fn tables_stay_few() {
    let dir = tempfile::tempdir().unwrap();
    let store = LsmStore::create(dir.path(), &caches()).unwrap();
    for position in 1..200_u64 {
        let mut batch = Batch::default();
        for n in 0..20 {
            batch.put(format!("k{}", position * 7 % 1_000 + n).into_bytes(), vec![7; 500]);
        }
        store
            .commit(vec![batch], Position::new(position), &Threads::new(1))
            .unwrap();
        store.spill().unwrap();
        store.merge().unwrap();
        assert!(store.tables() <= 8, "{} tables after {position}", store.tables());
    }
}

/// A store of several tables, some of them merged, and all that is in it.
fn filled(dir: &Path) -> BTreeMap<String, StoredRow> {
    let rows = stores().create(dir).unwrap();
    for position in 1..=6_u64 {
        let changes: Vec<_> = (0..300)
            .map(|n| {
                let row = format!("{n} at {position} ").repeat(9).into_bytes();
                let mut change = change(&format!("k{}", (n * position) % 900), position, None, Some(row));
                change.index_added = vec![IndexAdded {
                    entry: (0, layout::index_value(&IndexValue::Number(n.into()))),
                    since: None,
                }];
                change
            })
            .collect();
        rows.commit(&changes, &checkpoint(position)).unwrap();
        rows.sync().unwrap();
    }
    rows.engine().merge().unwrap();
    content(&rows).unwrap()
}

fn content(rows: &RowStore) -> Result<BTreeMap<String, StoredRow>, StoreError> {
    let mut found = BTreeMap::new();
    let reader = rows.reader();
    reader.each_row(&mut |key, row| {
        found.insert(key.to_owned(), row);
        Ok(Scan::Go)
    })?;
    for (key, row) in &found {
        assert_eq!(reader.row(key)?.as_ref(), Some(row));
    }
    let whole = (Bound::Unbounded, Bound::Unbounded);
    let mut entries = 0;
    let indexed = (Bound::Included(vec![b'i']), Bound::Excluded(vec![b'j']));
    reader.scan_index(indexed, false, &mut |_, _, _| {
        entries += 1;
        Ok(Scan::Go)
    })?;
    rows.engine()
        .scan(whole, u64::MAX >> 1, true, &mut |_, _| Ok(Scan::Go))?;
    Ok(found)
}

#[test]
fn a_changed_byte_in_any_file_is_damage_or_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, copy) = (dir.path().join("whole"), dir.path().join("copy"));
    let written = filled(&whole);
    let stores = stores();
    let (mut damaged, mut harmless) = (0, 0);
    for file in files(&whole).into_iter().filter(|file| !file.ends_with("lock")) {
        let bytes = std::fs::read(&file).unwrap();
        let step = (bytes.len() / 40).max(1);
        // Everywhere in the file, and each of its last bytes, where its parts are listed.
        let places = (0..bytes.len())
            .step_by(step)
            .chain(bytes.len().saturating_sub(60)..bytes.len());
        for at in places {
            copied_as_a_kill_leaves_it(&whole, &copy);
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            std::fs::write(copy.join(file.strip_prefix(&whole).unwrap()), changed).unwrap();
            match stores.open(&copy).and_then(|rows| content(&rows)) {
                Ok(found) => {
                    assert!(found == written, "{} at {at}: a row that nobody wrote", file.display());
                    harmless += 1;
                }
                Err(StoreError::Damaged(_)) => damaged += 1,
                Err(error) => panic!("{} at {at}: {error}", file.display()),
            }
        }
    }
    assert!(damaged > 100, "{damaged} damaged, {harmless} harmless");
}

#[test]
fn a_file_that_is_cut_off_empty_or_missing_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, copy) = (dir.path().join("whole"), dir.path().join("copy"));
    filled(&whole);
    let stores = stores();
    for file in files(&whole).into_iter().filter(|file| !file.ends_with("lock")) {
        let bytes = std::fs::read(&file).unwrap();
        for left in [None, Some(0), Some(bytes.len() / 2), Some(bytes.len() - 1)] {
            copied_as_a_kill_leaves_it(&whole, &copy);
            let victim = copy.join(file.strip_prefix(&whole).unwrap());
            match left {
                None => std::fs::remove_file(&victim).unwrap(),
                Some(left) => std::fs::write(&victim, &bytes[..left]).unwrap(),
            }
            let found = stores.open(&copy).and_then(|rows| content(&rows));
            let damaged = matches!(found, Err(StoreError::Damaged(_)));
            assert!(damaged, "{} {left:?}: {:?}", file.display(), found.err());
        }
    }
}

#[test]
fn what_stood_under_another_engine_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("db"), "what sled wrote").unwrap();
    assert!(matches!(stores().open(dir.path()), Err(StoreError::Damaged(_))));
}

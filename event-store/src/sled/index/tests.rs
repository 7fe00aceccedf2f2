//! Runs against a model: whatever is written, merged, reopened and cut off by a crash, the index says what the model says.

use super::block::{Encoder, Entries};
use super::*;
use crate::sled::names::{command_hash, id_hash};
use crate::sled::tail;
use annals_core::{EventId, EventIdRef, Header, StreamHead, StreamId};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;

/// What the index must say.
#[derive(Default, Clone)]
struct Model {
    head: u64,
    streams: BTreeMap<String, Vec<u64>>,
    tags: BTreeMap<String, Vec<u64>>,
    commands: BTreeMap<(String, String), u64>,
    ids: BTreeMap<String, u64>,
}

#[derive(Debug, Clone)]
struct Told {
    stream: u8,
    tag: Option<u8>,
    key: bool,
    id: Option<u8>,
}

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<Told>),
    Long(u16),
    Merge,
    Reopen,
    /// A run was written, but the process died before the manifest named it.
    CrashBeforeManifest,
}

fn told() -> impl Strategy<Value = Told> {
    (
        0..12u8,
        prop::option::of(0..4u8),
        any::<bool>(),
        prop::option::of(0..6u8),
    )
        .prop_map(|(stream, tag, key, id)| Told { stream, tag, key, id })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(told(), 1..40).prop_map(Step::Write),
        1 => (1..3000u16).prop_map(Step::Long),
        3 => Just(Step::Merge),
        1 => Just(Step::Reopen),
        1 => Just(Step::CrashBeforeManifest),
    ]
}

fn generation(model: &mut Model, events: &[Told]) -> Generation {
    let mut generation = Generation::default();
    for told in events {
        model.head += 1;
        let (stream, tag) = (format!("a/{}", told.stream), told.tag.map(|tag| format!("tag={tag}")));
        let (key, id) = (
            format!("key-{}", model.head),
            format!("id-{}", told.id.unwrap_or_default()),
        );
        let versions = model.streams.entry(stream.clone()).or_default();
        versions.push(model.head);
        let mut header = Header::new(&stream, versions.len() as u64, EventIdRef::Text(&id), "Said", 0);
        if let Some(tag) = &tag {
            model.tags.entry(tag.clone()).or_default().push(model.head);
            header.tags = vec![tag, tag];
        }
        if told.key {
            header.key = Some(&key);
            model.commands.insert((stream.clone(), key.clone()), model.head);
        }
        if told.id.is_some() {
            header.source = Some("here");
            model.ids.entry(id.clone()).or_insert(model.head);
        }
        generation.add(Position::new(model.head), &header, None);
    }
    generation
}

fn open(dir: &Path) -> Index {
    Index::open(dir, 1 << 20).unwrap()
}

fn merge_all(index: &Index) {
    while index.merge_once(&AtomicBool::new(false)).unwrap() {}
}

fn numbers(positions: &[Position]) -> Vec<u64> {
    positions.iter().map(|position| position.get()).collect()
}

fn check(index: &Index, model: &Model) {
    let checkpoint = index.checkpoint().unwrap().map_or(0, |(_, position)| position.get());
    assert_eq!(checkpoint, model.head);
    for number in 0..12 {
        let name = format!("a/{number}");
        let stream: StreamId = name.parse().unwrap();
        let expected = model.streams.get(&name).cloned().unwrap_or_default();
        let head = expected.last().map(|last| StreamHead {
            version: Version::new(expected.len() as u64),
            position: Position::new(*last),
        });
        assert_eq!(index.stream_head(&stream).unwrap(), head);
        for (from, limit) in [(1, usize::MAX), (expected.len() / 2 + 1, 3), (expected.len() + 1, 5)] {
            let tail::Run { first, positions } = index.positions(&stream, Version::new(from as u64), limit).unwrap();
            let (found, expected) = (numbers(&positions), &expected[from - 1..]);
            assert_eq!(first.get(), from as u64);
            assert!(
                expected.starts_with(&found) && found.len() >= limit.min(expected.len()),
                "{name} from {from}"
            );
        }
    }
    for (tag, expected) in &model.tags {
        for after in [0, model.head / 2, model.head] {
            let rest: Vec<u64> = expected.iter().copied().filter(|position| *position > after).collect();
            let all = index
                .postings(TAG, tag.as_bytes(), Position::new(after), usize::MAX)
                .unwrap();
            assert_eq!(numbers(&all), rest);
            let few = index.postings(TAG, tag.as_bytes(), Position::new(after), 2).unwrap();
            assert_eq!(numbers(&few), rest[..rest.len().min(2)]);
        }
    }
    check_hashes(index, model);
    check_scans(index, model);
}

fn check_hashes(index: &Index, model: &Model) {
    let find = |kind, hash: [u8; 8]| numbers(&index.candidates(kind, &hash, Position::ZERO, 9).unwrap());
    for ((stream, key), position) in &model.commands {
        assert_eq!(find(Entry::Command, command_hash(stream, key)), [*position]);
        assert_eq!(find(Entry::Command, command_hash("a/none", key)), [0; 0]);
    }
    for (id, position) in &model.ids {
        let hash = id_hash(&EventId::parse(id).unwrap());
        assert_eq!(find(Entry::Id, hash).first(), Some(position));
    }
}

fn check_scans(index: &Index, model: &Model) {
    let mut streams: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for chunk in index.chunks() {
        let (stream, first, positions) = chunk.unwrap();
        let known = streams.entry(stream).or_default();
        assert_eq!(first.get(), known.len() as u64 + 1);
        known.extend(numbers(&positions));
    }
    assert_eq!(streams, model.streams);
    let mut tags: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for entry in index.tags() {
        let (tag, positions) = entry.unwrap();
        tags.entry(tag).or_default().extend(numbers(&positions));
    }
    assert_eq!(tags, model.tags);
    let entries: Vec<_> = index.entries().map(Result::unwrap).collect();
    let commands = entries.iter().filter(|(kind, ..)| *kind == Entry::Command).count();
    assert_eq!(commands, model.commands.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_says_what_the_model_says(steps in prop::collection::vec(step(), 1..30)) {
        let dir = tempfile::tempdir().unwrap();
        let epoch = Epoch::random();
        let (mut model, mut index) = (Model::default(), open(dir.path()));
        for step in steps {
            match step {
                Step::Write(events) => {
                    let generation = generation(&mut model, &events);
                    index.write(&generation, epoch, Position::new(model.head), &|| ()).unwrap();
                }
                Step::Long(count) => {
                    let events = vec![Told { stream: 3, tag: Some(1), key: false, id: None }; usize::from(count)];
                    let generation = generation(&mut model, &events);
                    index.write(&generation, epoch, Position::new(model.head), &|| ()).unwrap();
                }
                Step::Merge => merge_all(&index),
                Step::Reopen => index = open(dir.path()),
                Step::CrashBeforeManifest => {
                    let manifest = std::fs::read(dir.path().join("manifest")).ok();
                    let lost = generation(&mut model.clone(), &[Told { stream: 1, tag: None, key: true, id: None }]);
                    index.write(&lost, epoch, Position::new(model.head + 1), &|| ()).unwrap();
                    match manifest {
                        Some(bytes) => std::fs::write(dir.path().join("manifest"), bytes).unwrap(),
                        None => std::fs::remove_file(dir.path().join("manifest")).unwrap(),
                    }
                    index = open(dir.path());
                }
            }
            check(&index, &model);
        }
        merge_all(&index);
        check(&open(dir.path()), &model);
    }

    #[test]
    fn what_is_passed_over_ends_where_it_would_when_read(
        entries in prop::collection::btree_map("[a-z]{1,12}", prop::collection::btree_set(any::<u64>(), 1..40), 1..40),
        wanted in any::<prop::sample::Index>(),
    ) {
        let mut encoder = Encoder::default();
        for (number, (name, positions)) in entries.iter().enumerate() {
            let positions: Vec<u64> = positions.iter().copied().collect();
            encoder.push(&key(STREAM, name.as_bytes()), number as u64 * 1_000, &positions);
        }
        let mut block = Entries::new(encoder.take().into());
        let (name, positions) = entries.iter().nth(wanted.index(entries.len())).unwrap();
        let mut names = 0;
        while block.next_key().unwrap() {
            names += 1;
            if block.key[1..] == *name.as_bytes() {
                block.read_rest().unwrap();
                prop_assert!(block.positions.iter().eq(positions));
            }
        }
        prop_assert_eq!(names, entries.len());
    }

    #[test]
    fn bytes_that_nobody_wrote_are_named_or_read_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let limit = bytes.len();
        if let Ok(entries) = decode_index_block(&bytes) {
            prop_assert!(entries.len() <= limit);
            let positions: usize = entries.iter().map(|(_, _, positions)| positions.len()).sum();
            prop_assert!(positions <= limit);
        }
    }
}

#[test]
fn the_heads_of_all_streams_are_told_the_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let (mut model, index) = (Model::default(), open(dir.path()));
    let told = |stream| Told {
        stream,
        tag: Some(1),
        key: true,
        id: None,
    };
    for events in [vec![told(1); 1_500], vec![told(2), told(3)], vec![told(3), told(1)]] {
        let generation = generation(&mut model, &events);
        let epoch = Epoch::from_bytes([1; 16]);
        index
            .write(&generation, epoch, Position::new(model.head), &|| ())
            .unwrap();
    }
    let heads = |most: usize| {
        let mut heads = Vec::new();
        let told = index.each_head(|stream, head| {
            heads.push((stream.to_owned(), head.version.get(), head.position.get()));
            if heads.len() == most {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        told.unwrap();
        heads
    };
    let all = heads(100);
    let newest: BTreeMap<String, u64> = all
        .iter()
        .rev()
        .map(|(name, _, position)| (name.clone(), *position))
        .collect();
    let expected = model
        .streams
        .iter()
        .map(|(name, positions)| (name.clone(), *positions.last().unwrap()));
    assert!(newest.into_iter().eq(expected), "{all:?}");
    assert_eq!(all.len(), 5, "a stream comes once for each run: {all:?}");
    let versions: Vec<u64> = all.iter().map(|(_, version, _)| *version).collect();
    assert_eq!(versions, [1501, 2, 1, 1, 1500]);
    assert_eq!(heads(2), all[..2], "told to stop");
}

/// Writes one generation of so many events in one stream.
fn one_run(dir: &Path, count: u64) -> Index {
    let index = open(dir);
    let mut model = Model::default();
    let events = vec![
        Told {
            stream: 1,
            tag: None,
            key: true,
            id: None
        };
        count as usize
    ];
    let generation = generation(&mut model, &events);
    index
        .write(&generation, Epoch::random(), Position::new(count), &|| ())
        .unwrap();
    index
}

fn files(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_a_crash_left_beside_the_runs_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    drop(one_run(dir.path(), 10));
    let whole = files(dir.path());
    for orphan in ["0000000000000099.run", "manifest.tmp", "altered.tmp"] {
        std::fs::write(dir.path().join(orphan), b"half a run").unwrap();
    }
    drop(open(dir.path()));
    assert_eq!(files(dir.path()), whole);
}

#[test]
fn a_merge_that_is_told_to_stop_leaves_everything_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (epoch, mut model, index) = (Epoch::random(), Model::default(), open(dir.path()));
    for _ in 0..4 {
        let generation = generation(
            &mut model,
            &vec![
                Told {
                    stream: 1,
                    tag: None,
                    key: true,
                    id: None
                };
                5000
            ],
        );
        index
            .write(&generation, epoch, Position::new(model.head), &|| ())
            .unwrap();
    }
    let before = files(dir.path());
    assert!(!index.merge_once(&AtomicBool::new(true)).unwrap());
    assert_eq!(files(dir.path()), before);
    merge_all(&index);
    assert_eq!(files(dir.path()).len(), 2, "one run and the manifest");
    check(&index, &model);
}

#[test]
fn every_changed_byte_of_a_run_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    drop(one_run(dir.path(), 300));
    let path = dir.path().join("0000000000000001.run");
    let whole = std::fs::read(&path).unwrap();
    let manifest = std::fs::read(dir.path().join("manifest")).unwrap();
    let stream: StreamId = "a/1".parse().unwrap();
    for at in (0..whole.len()).step_by(3) {
        // What was found damaged before is not named any more.
        std::fs::write(dir.path().join("manifest"), &manifest).unwrap();
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&path, bytes).unwrap();
        let read = Index::open(dir.path(), 1 << 20).and_then(|index| {
            index.stream_head(&stream)?;
            index
                .chunks()
                .chain(std::iter::empty())
                .try_for_each(|chunk| chunk.map(drop))?;
            index.entries().try_for_each(|entry| entry.map(drop))
        });
        let error = read.expect_err(&format!("byte {at} of {} is not covered", whole.len()));
        assert!(error.to_string().contains("start the server again"), "{error}");
    }
}

//! A new log out of the files of one that does not open: all that is whole comes back, what is missing is named, nothing false
//! is in it, and the damaged directory stays as it is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use annals_core::*;
use annals_event_store::{
    DataDir, FRAME_HEADER_LEN, FrameMeta, LogSettings, OpenOptions, Salvage, SalvageError, SledLog, decode_frame,
    encode_frame,
};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use support::{append, copy_tree, open, small, texts};

const VOLUME: &str = "log/00000000000000000001";

fn settings() -> LogSettings {
    LogSettings {
        volume_bytes_max: 64 << 20,
        journal_bytes: 16 << 10,
        ..small()
    }
}

/// Bytes that do not compress.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed + 1;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..len).map(next).collect()
}

/// A data directory as a kill leaves it, and what was acknowledged. Every append is a block, the journal reaches back a bit.
fn killed(dir: &Path, name: &str) -> (PathBuf, Vec<String>) {
    let (live, left) = (dir.join(format!("live-{name}")), dir.join(name));
    let (log, held) = open(&live, settings());
    let mut said = Vec::new();
    for number in 0..120 {
        let texts = [format!("event {number}"), "x".repeat(number * 9)];
        append(
            &log,
            &format!("a/{}", number % 5),
            &texts.each_ref().map(String::as_str),
        )
        .unwrap();
        said.extend(texts);
    }
    let large = "large ".repeat(40_000);
    append(&log, "a/1", &[&large, "behind it"]).unwrap();
    said.extend([large, "behind it".into()]);
    log.settle().unwrap();
    copy_tree(&live, &left);
    drop((log, held));
    fs::remove_dir_all(live).unwrap();
    (left, said)
}

fn salvage(dir: &Path) -> Salvage {
    Salvage::of(dir, &mut |_, _| ()).unwrap()
}

/// The texts of a salvaged log, checked, after something was appended to it.
fn opened(dir: &Path) -> (Vec<String>, Epoch) {
    let held = DataDir::open(dir, OpenOptions::default()).unwrap();
    let log = SledLog::open(&held, settings()).unwrap();
    let said = texts(&log, Position::ZERO);
    assert_eq!(log.verify(&mut |_| ()).unwrap().problems, []);
    append(&log, "a/1", &["goes on"]).unwrap();
    (said, log.epoch())
}

fn rest(salvage: &Salvage) -> BTreeMap<u64, String> {
    let mut rest = BTreeMap::new();
    let take = |record: &RecordRef<'_>| {
        rest.insert(
            record.position.get(),
            String::from_utf8(record.payload.to_vec()).unwrap(),
        );
        Ok::<_, LogError>(())
    };
    salvage.rest(take).unwrap();
    rest
}

/// All files below a directory with their bytes.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(tree(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    files
}

/// Damages every block in the log's files that holds a position; what stands inside of another block is left as it is.
fn lose(dir: &Path, position: u64) {
    let mut hit = 0;
    for (path, mut bytes) in tree(&dir.join("log")) {
        let mut at = 0;
        while at < bytes.len() {
            let Ok((_, block, used)) = decode_frame(&bytes[at..]) else {
                at += 1;
                continue;
            };
            at += used;
            if (block.first().get()..=block.last().get()).contains(&position) {
                bytes[at - 1] ^= 1;
                hit += 1;
            }
        }
        fs::write(path, bytes).unwrap();
    }
    assert!(hit > 0, "no block holds {position}");
}

#[test]
fn a_log_that_does_not_open_comes_back_whole_and_its_files_stay_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let (left, said) = killed(dir.path(), "left");
    // Nothing that the engine needs is there any more, and neither is what the log says of itself.
    fs::write(left.join(VOLUME).join("conf"), b"nothing that the engine knows").unwrap();
    let db = left.join(VOLUME).join("db");
    let mut bytes = fs::read(&db).unwrap();
    bytes[..16].fill(0xff);
    fs::write(&db, bytes).unwrap();
    let before = tree(&left);
    let salvaged = salvage(&left);
    let found = salvaged.found();
    assert!(found.is_whole(), "{found:?}");
    assert_eq!(
        (found.end.get(), found.notes.len()),
        (said.len() as u64, 0),
        "{found:?}"
    );
    let summary = salvaged.write(&dir.path().join("new"), &mut |_| ()).unwrap();
    assert!(rest(&salvaged).is_empty());
    let (again, epoch) = opened(&dir.path().join("new"));
    assert_eq!(again, said);
    assert!(epoch == summary.epoch && epoch != found.epoch);
    let manifest = fs::read_to_string(dir.path().join("new/log/manifest.json")).unwrap();
    assert!(
        manifest.contains("parent") && manifest.contains(&found.epoch.to_string()),
        "{manifest}"
    );
    assert_eq!(
        fs::read(left.join("log/secret")).unwrap(),
        fs::read(dir.path().join("new/log/secret")).unwrap()
    );
    assert!(tree(&left) == before, "the damaged directory was changed");
}

#[test]
fn what_is_missing_is_named_and_what_stands_behind_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (left, said) = killed(dir.path(), "left");
    lose(&left, 32);
    lose(&left, 241);
    let salvaged = salvage(&left);
    let found = salvaged.found();
    let missing: Vec<_> = found
        .missing
        .iter()
        .map(|(first, last)| (first.get(), last.get()))
        .collect();
    // 31 and 32 are one append, 241 is alone in its block, and in the journal with 242.
    assert_eq!(missing, [(31, 32), (241, 241)], "{found:?}");
    assert_eq!((found.end.get(), found.behind), (30, said.len() as u64 - 33));
    salvaged.write(&dir.path().join("new"), &mut |_| ()).unwrap();
    assert_eq!(opened(&dir.path().join("new")).0, said[..30]);
    let expected = (33..=said.len() as u64).filter(|position| *position != 241);
    let expected: BTreeMap<_, _> = expected
        .map(|position| (position, said[position as usize - 1].clone()))
        .collect();
    assert_eq!(rest(&salvaged), expected);
}

#[test]
fn an_append_of_which_the_end_is_missing_is_not_in_the_new_log() {
    let dir = tempfile::tempdir().unwrap();
    let (left, said) = killed(dir.path(), "left");
    let events = said.len() as u64;
    lose(&left, events);
    let salvaged = salvage(&left);
    let found = salvaged.found();
    assert_eq!(
        found.end.get(),
        events - 2,
        "the first half of the append does not count"
    );
    assert_eq!(
        (found.behind, found.missing.clone()),
        (1, vec![(Position::new(events), Position::new(events))])
    );
    assert_eq!(rest(&salvaged).into_keys().collect::<Vec<_>>(), [events - 1]);
}

#[test]
fn what_the_log_says_of_itself_may_be_lost_with_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let (left, said) = killed(dir.path(), "left");
    for name in ["annals.json", "log/manifest.json", "log/secret", "lock"] {
        fs::remove_file(left.join(name)).unwrap();
    }
    let salvaged = salvage(&left);
    let notes = salvaged.found().notes.join("\n");
    for lost in ["annals.json", "manifest"] {
        assert!(notes.contains(lost), "{notes}");
    }
    let lost = salvaged.found().lost.join("\n");
    assert!(lost.contains("secret") && lost.contains("personal tags"), "{lost}");
    assert!(!salvaged.found().is_whole(), "with the secret something is lost");
    salvaged.write(&dir.path().join("new"), &mut |_| ()).unwrap();
    assert_eq!(opened(&dir.path().join("new")).0, said);
    // A manifest that is read and speaks of a history that there are no blocks of.
    let (left, said) = killed(dir.path(), "again");
    let manifest = fs::read_to_string(left.join("log/manifest.json")).unwrap();
    let at = manifest.find("\"epoch\": \"").unwrap() + 10;
    let other = format!("{}{}{}", &manifest[..at], "00000000", &manifest[at + 8..]);
    let other = other
        .replace("\"format\": 3", "\"format\": 2")
        .replace("\"crc32c\"", "\"none\"");
    fs::write(left.join("log/manifest.json"), other).unwrap();
    assert_eq!(salvage(&left).found().end.get(), said.len() as u64);
}

#[test]
fn a_log_that_nothing_was_appended_to_is_whole_and_one_that_was_overwritten_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("live");
    drop(open(&live, settings()));
    let found = salvage(&live);
    assert!(found.found().is_whole(), "{:?}", found.found());
    assert_eq!(found.found().end, Position::ZERO);
    assert!(found.found().notes.join(" ").contains("nothing in it"));
    let summary = found.write(&dir.path().join("new"), &mut |_| ()).unwrap();
    assert_eq!(opened(&dir.path().join("new")), (vec![], summary.epoch));
    drop(found);
    let db = live.join(format!("log/{:020}/db", 1));
    let len = fs::metadata(&db).unwrap().len();
    fs::write(&db, vec![0; usize::try_from(len).unwrap()]).unwrap();
    let refused = Salvage::of(&live, &mut |_, _| ()).unwrap_err();
    assert!(refused.to_string().contains("nothing can be salvaged"), "{refused}");
}

#[test]
fn events_that_the_index_or_the_manifest_has_seen_and_no_file_holds_are_missing() {
    let dir = tempfile::tempdir().unwrap();
    let (live, left) = (dir.path().join("live"), dir.path().join("left"));
    let (log, held) = open(
        &live,
        LogSettings {
            volume_bytes_max: 1,
            ..settings()
        },
    );
    for number in 0..40 {
        append(&log, "a/1", &[&format!("event {number}")]).unwrap();
    }
    log.close();
    drop((log, held));
    copy_tree(&live, &left);
    for number in 31..=41 {
        let _ = fs::remove_dir_all(left.join(format!("log/{number:020}")));
    }
    for name in ["journal-0", "journal-1"] {
        fs::remove_file(left.join("log").join(name)).unwrap();
    }
    assert_eq!(
        salvage(&left).found().missing,
        [(Position::new(31), Position::new(40))],
        "the index knows"
    );
    fs::remove_dir_all(left.join("index")).unwrap();
    assert_eq!(
        salvage(&left).found().missing,
        [(Position::new(31), Position::new(40))],
        "the manifest knows"
    );
}

/// A made-up block that says of itself that it was written last of all.
fn forged(epoch: Epoch, real: &Block) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in real.raw_records() {
        let (_, header, payload) = record.unwrap();
        Block::push_record(&mut bytes, header, &vec![b'!'; payload.len()]);
    }
    let meta = FrameMeta {
        epoch,
        boot: 1,
        first: real.first(),
        count: 0,
        part: 0,
        parts: 1,
    };
    encode_frame(&Block::new(real.first(), real.count(), bytes.into()), meta)
}

#[test]
fn a_block_in_a_payload_is_not_taken_for_one_even_when_what_is_around_it_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let (live, left) = (dir.path().join("live"), dir.path().join("left"));
    let (log, _held) = open(&live, settings());
    let mut said = Vec::new();
    for number in 0..20 {
        append(&log, "a/1", &[&format!("event {number}")]).unwrap();
        said.push(format!("event {number}").into_bytes());
    }
    let real = log
        .read(Position::new(4), 1)
        .unwrap()
        .remove(0)
        .clip(Position::new(4), Position::new(5))
        .unwrap();
    for number in 0..6 {
        let payload = [noise(700, number), forged(log.epoch(), &real), noise(700, number + 50)].concat();
        let mut event = NewEvent::new("Said", payload.clone());
        event.content_type = "application/octet-stream".into();
        support::run(log.append(Append::new(support::stream("b/1"), vec![event]))).unwrap();
        said.push(payload);
    }
    log.settle().unwrap();
    copy_tree(&live, &left);
    let payloads = |dir: &Path| -> Vec<Vec<u8>> {
        let held = DataDir::open(dir, OpenOptions::default()).unwrap();
        let log = SledLog::open(&held, settings()).unwrap();
        let blocks = log.read(Position::ZERO, 1 << 20).unwrap();
        let records = blocks
            .iter()
            .flat_map(|block| block.iter().map(|record| record.unwrap().payload.to_vec()));
        records.collect()
    };
    // The block itself is gone from all files, and so are the beginnings of all that hold what was made up.
    lose(&left, 5);
    for (path, mut bytes) in tree(&left.join("log")) {
        for at in 0..bytes.len() {
            if let Ok((_, block, _)) = decode_frame(&bytes[at..])
                && block.last().get() > 20
            {
                bytes[at..at + FRAME_HEADER_LEN].fill(0);
            }
        }
        fs::write(path, bytes).unwrap();
    }
    let salvaged = salvage(&left);
    assert_eq!(salvaged.found().end.get(), 4, "{:?}", salvaged.found());
    let new = dir.path().join("new");
    salvaged.write(&new, &mut |_| ()).unwrap();
    assert_eq!(payloads(&new), said[..4]);
    assert!(rest(&salvaged).values().all(|text| !text.contains('!')));
    // Undamaged, what was made up is a payload like any other.
    let (whole, new) = (dir.path().join("whole"), dir.path().join("new-whole"));
    copy_tree(&live, &whole);
    salvage(&whole).write(&new, &mut |_| ()).unwrap();
    assert_eq!(payloads(&new), said);
    assert_eq!(payloads(&whole), said);
}

#[test]
fn what_is_in_use_or_in_the_way_is_refused_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |error: SalvageError, says: &str| assert!(error.to_string().contains(says), "{error}");
    let of = |path: &Path| Salvage::of(path, &mut |_, _| ());
    refused(of(&dir.path().join("nowhere")).unwrap_err(), "there is no log");
    let (live, held) = open(&dir.path().join("live"), settings());
    append(&live, "a/1", &["one"]).unwrap();
    refused(of(&dir.path().join("live")).unwrap_err(), "in use");
    live.close();
    drop((live, held));
    let salvaged = of(&dir.path().join("live")).unwrap();
    let write = |target: &Path| salvaged.write(target, &mut |_| ()).unwrap_err();
    refused(write(&dir.path().join("live/new")), "must stay as it is");
    refused(write(&dir.path().join("live/log")), "must stay as it is");
    refused(write(dir.path()), "not empty");
    refused(write(&dir.path().join("no/such/place")), "whose directory exists");
    let empty = dir.path().join("empty");
    fs::create_dir_all(empty.join("log")).unwrap();
    fs::write(empty.join("log/journal-0"), noise(10_000, 1)).unwrap();
    refused(of(&empty).unwrap_err(), "restore a backup");
}

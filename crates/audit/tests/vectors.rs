//! The test vectors of the transparency community for inclusion and consistency proofs: what must hold holds, and what must
//! fail fails. They are not in the repository: `ANNALS_TEST_DATA`, or `../shared/data` beside it, has `merkle-vectors`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a vector that cannot be read fails the test"
)]

use annals_audit::{Hash, leaf_hash, verify_consistency, verify_inclusion};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::{env, fs};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inclusion {
    leaf_idx: u64,
    #[serde(default)]
    start: u64,
    #[serde(alias = "end")]
    tree_size: u64,
    root: String,
    leaf_hash: String,
    proof: Option<Vec<String>>,
    desc: String,
    want_err: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Consistency {
    size1: u64,
    size2: u64,
    root1: String,
    root2: String,
    proof: Option<Vec<String>>,
    desc: String,
    want_err: bool,
}

#[test]
fn inclusion_proofs_hold_and_fail_as_the_vectors_say() {
    let (mut held, mut failed) = (0, 0);
    for (file, text) in vectors("inclusion") {
        let case: Inclusion = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let holds = (|| {
            let (leaf, root, proof) = (
                hash(&case.leaf_hash)?,
                hash(&case.root)?,
                hashes(case.proof.as_deref())?,
            );
            verify_inclusion(&leaf, case.leaf_idx, case.tree_size, &root, &proof).ok()
        })();
        assert_eq!(holds.is_none(), case.want_err, "{}: {}", file.display(), case.desc);
        if holds.is_some() { held += 1 } else { failed += 1 }
    }
    assert!(
        held >= 6 && failed >= 80,
        "{held} held and {failed} failed: are these all vectors?"
    );
}

/// A subtree is a tree of its own, whose leaves are counted from where it begins.
#[test]
fn inclusion_in_subtrees_holds_and_fails_as_the_vectors_say() {
    let (mut held, mut failed) = (0, 0);
    for (file, text) in vectors("subtreeinclusion") {
        let case: Inclusion = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let holds = (|| {
            let (leaf, root, proof) = (
                hash(&case.leaf_hash)?,
                hash(&case.root)?,
                hashes(case.proof.as_deref())?,
            );
            let size = case.tree_size.checked_sub(case.start).filter(|size| *size > 0)?;
            // It has to begin where a full subtree of at least its size does.
            case.start
                .is_multiple_of(size.checked_next_power_of_two()?)
                .then_some(())?;
            verify_inclusion(&leaf, case.leaf_idx.checked_sub(case.start)?, size, &root, &proof).ok()
        })();
        assert_eq!(holds.is_none(), case.want_err, "{}: {}", file.display(), case.desc);
        if holds.is_some() { held += 1 } else { failed += 1 }
    }
    assert!(
        held >= 6 && failed >= 80,
        "{held} held and {failed} failed: are these all vectors?"
    );
}

#[test]
fn consistency_proofs_hold_and_fail_as_the_vectors_say() {
    let (mut held, mut failed) = (0, 0);
    for (file, text) in vectors("consistency") {
        let case: Consistency =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let holds = (|| {
            let (old, new, proof) = (root(&case.root1)?, root(&case.root2)?, hashes(case.proof.as_deref())?);
            verify_consistency(case.size1, &old, case.size2, &new, &proof).ok()
        })();
        assert_eq!(holds.is_none(), case.want_err, "{}: {}", file.display(), case.desc);
        if holds.is_some() { held += 1 } else { failed += 1 }
    }
    assert!(
        held >= 5 && failed >= 80,
        "{held} held and {failed} failed: are these all vectors?"
    );
}

/// What is no hash (the vectors have such) cannot be given to a verification here: reading it fails before.
fn hash(text: &str) -> Option<Hash> {
    Hash::parse(text).ok()
}

/// Some vectors say "don't care" for a root, numbered, where it only matters whether both are the same.
fn root(text: &str) -> Option<Hash> {
    hash(text).or_else(|| text.starts_with("ZG9uJ3QgY2FyZ").then(|| leaf_hash(text.as_bytes())))
}

fn hashes(texts: Option<&[String]>) -> Option<Vec<Hash>> {
    texts.unwrap_or_default().iter().map(|text| hash(text)).collect()
}

/// Every vector below a directory, with its file.
fn vectors(kind: &str) -> Vec<(PathBuf, String)> {
    let data = env::var_os("ANNALS_TEST_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let root = data.join("merkle-vectors/testdata").join(kind);
    assert!(root.is_dir(), "no vectors at {}: set ANNALS_TEST_DATA", root.display());
    let mut found = Vec::new();
    let mut directories = vec![root];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found
}

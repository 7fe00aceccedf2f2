//! The tree and its proofs, from tiles, against an implementation that shares no code with ours.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use annals_audit::{
    Frontier, Hash, ProofMismatch, ProveError, TILE_WIDTH, Tile, TileSource, consistency_proof, inclusion_proof,
    leaf_hash, root_at, verify_consistency, verify_inclusion,
};
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use sha2::Sha256;
use std::collections::BTreeMap;

/// A tree in memory: ours as tiles, and the other one.
struct Both {
    frontier: Frontier,
    tiles: Tiles,
    other: MemoryBackedTree<Sha256, Vec<u8>>,
}

/// The hashes of each level of tiles.
#[derive(Default)]
struct Tiles(BTreeMap<u8, Vec<Hash>>);

impl TileSource for Tiles {
    type Error = String;

    fn tile(&self, tile: Tile) -> Result<Vec<Hash>, String> {
        let level = self.0.get(&tile.level).ok_or(format!("no level {}", tile.level))?;
        let start = usize::try_from(tile.index).unwrap() * usize::from(TILE_WIDTH);
        let end = (start + usize::from(TILE_WIDTH)).min(level.len());
        level
            .get(start..end)
            .map(<[Hash]>::to_vec)
            .ok_or(format!("no tile {tile}"))
    }
}

fn entry(n: u64) -> Vec<u8> {
    n.to_be_bytes().to_vec()
}

fn grown_to(size: u64) -> Both {
    let mut both = Both {
        frontier: Frontier::new(),
        tiles: Tiles::default(),
        other: MemoryBackedTree::new(),
    };
    for n in 0..size {
        let tiles = &mut both.tiles.0;
        both.frontier.push(leaf_hash(&entry(n)), |height, index, hash| {
            if height % 8 == 0 {
                let level = tiles.entry(height / 8).or_default();
                assert_eq!(
                    level.len() as u64,
                    index,
                    "the nodes of a level are completed in their order"
                );
                level.push(hash);
            }
        });
        both.other.push(entry(n));
    }
    both
}

fn bytes(proof: &[Hash]) -> Vec<u8> {
    proof.iter().flat_map(|hash| hash.0).collect()
}

#[test]
fn roots_and_proofs_are_those_of_another_implementation() {
    for size in [1, 2, 3, 7, 8, 255, 256, 257, 511, 600] {
        let both = grown_to(size);
        let root = both.frontier.root();
        assert_eq!(root.0[..], both.other.root().as_bytes()[..], "{size} leaves");
        assert_eq!(root_at(&both.tiles, size).unwrap(), root);
        for index in (0..size).step_by(if size > 100 { 37 } else { 1 }) {
            let proof = inclusion_proof(&both.tiles, index, size).unwrap();
            let theirs = both.other.prove_inclusion(usize::try_from(index).unwrap());
            assert_eq!(bytes(&proof), theirs.as_bytes(), "leaf {index} of {size}");
            verify_inclusion(&leaf_hash(&entry(index)), index, size, &root, &proof).unwrap();
        }
        for from in (1..size).step_by(if size > 100 { 31 } else { 1 }) {
            let proof = consistency_proof(&both.tiles, from, size).unwrap();
            let theirs = both.other.prove_consistency(usize::try_from(size - from).unwrap());
            assert_eq!(bytes(&proof), theirs.as_bytes(), "{from} to {size}");
            let old = root_at(&both.tiles, from).unwrap();
            verify_consistency(from, &old, size, &root, &proof).unwrap();
        }
    }
}

#[test]
fn a_tree_of_three_levels_of_tiles_proves_its_leaves() {
    let size = 70_000;
    let both = grown_to(size);
    let root = both.frontier.root();
    assert_eq!(root_at(&both.tiles, size).unwrap(), root);
    for index in [0, 1, 255, 256, 65_535, 65_536, 69_887, 69_888, 69_999] {
        let proof = inclusion_proof(&both.tiles, index, size).unwrap();
        verify_inclusion(&leaf_hash(&entry(index)), index, size, &root, &proof).unwrap();
        assert_eq!(
            bytes(&proof),
            both.other.prove_inclusion(usize::try_from(index).unwrap()).as_bytes()
        );
    }
    for from in [1, 256, 300, 65_536, 65_537, 69_999] {
        let old = root_at(&both.tiles, from).unwrap();
        let proof = consistency_proof(&both.tiles, from, size).unwrap();
        verify_consistency(from, &old, size, &root, &proof).unwrap();
    }
}

#[test]
fn what_the_tree_does_not_have_is_refused() {
    let both = grown_to(5);
    let root = both.frontier.root();
    assert!(matches!(
        inclusion_proof(&both.tiles, 5, 5),
        Err(ProveError::NoSuchLeaf { index: 5, size: 5 })
    ));
    assert!(matches!(
        consistency_proof(&both.tiles, 6, 5),
        Err(ProveError::NoSuchSizes { from: 6, to: 5 })
    ));
    assert!(matches!(
        inclusion_proof(&both.tiles, 0, 6),
        Err(ProveError::ShortTile { found: 5, .. })
    ));
    assert_eq!(
        verify_inclusion(&leaf_hash(&entry(5)), 5, 5, &root, &[]),
        Err(ProofMismatch::NoSuchLeaf { index: 5, size: 5 })
    );
    assert_eq!(root_at(&both.tiles, 0).unwrap(), Hash::of_nothing());
    assert!(consistency_proof(&both.tiles, 0, 5).unwrap().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is changed in a proof, its leaf, place, sizes or roots: it no longer holds.
    #[test]
    fn a_changed_proof_does_not_hold(size in 2_u64..600, from in 1_u64..600, index in 0_u64..600, bit in 0_usize..256, at in any::<prop::sample::Index>()) {
        let (index, from) = (index % size, from % size);
        let both = grown_to(size);
        let root = both.frontier.root();
        let leaf = leaf_hash(&entry(index));
        let proof = inclusion_proof(&both.tiles, index, size).unwrap();
        prop_assert_eq!(verify_inclusion(&leaf, index, size, &root, &proof), Ok(()));
        let flipped = |hash: &Hash| { let mut hash = *hash; hash.0[bit / 8] ^= 1 << (bit % 8); hash };
        prop_assert!(verify_inclusion(&flipped(&leaf), index, size, &root, &proof).is_err());
        prop_assert!(verify_inclusion(&leaf, index, size, &flipped(&root), &proof).is_err());
        prop_assert!(verify_inclusion(&leaf, index ^ 1, size, &root, &proof).is_err());
        let mut changed = proof.clone();
        let place = at.index(changed.len());
        changed[place] = flipped(&changed[place]);
        prop_assert!(verify_inclusion(&leaf, index, size, &root, &changed).is_err());
        prop_assert!(verify_inclusion(&leaf, index, size, &root, &proof[1..]).is_err());
        prop_assert!(verify_inclusion(&leaf, index, size, &root, &[&proof[..], &proof[..1]].concat()).is_err());
        if from > 0 {
            let old = root_at(&both.tiles, from).unwrap();
            let proof = consistency_proof(&both.tiles, from, size).unwrap();
            prop_assert_eq!(verify_consistency(from, &old, size, &root, &proof), Ok(()));
            prop_assert!(verify_consistency(from, &flipped(&old), size, &root, &proof).is_err());
            prop_assert!(verify_consistency(from, &old, size, &flipped(&root), &proof).is_err());
            let mut changed = proof;
            let place = at.index(changed.len());
            changed[place] = flipped(&changed[place]);
            prop_assert!(verify_consistency(from, &old, size, &root, &changed).is_err());
        }
    }
}

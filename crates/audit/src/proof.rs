//! Verifying proofs, with nothing but the proof and the roots (RFC 9162, sections 2.1.3.2 and 2.1.4.2).

use crate::hash::{Hash, node_hash};

/// Why a proof does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofMismatch {
    /// The tree has no leaf of that index.
    #[error("a tree of {size} leaves has no leaf {index}: they count from 0")]
    NoSuchLeaf {
        /// The index that was asked for.
        index: u64,
        /// The size of the tree.
        size: u64,
    },
    /// The older tree is larger than the newer, or is empty, of which there is nothing to prove.
    #[error("there is no proof from a tree of {from} leaves to one of {to}")]
    NoSuchSizes {
        /// Size of the older tree.
        from: u64,
        /// Size of the newer tree.
        to: u64,
    },
    /// The proof has more or fewer hashes than such a proof has.
    #[error("the proof has {0} hashes, which is not how many such a proof has")]
    WrongLength(usize),
    /// The hashes lead to another root.
    #[error("the proof leads to another root")]
    OtherRoot,
}

/// Verifies that the tree of `size` leaves with this `root` has this `leaf` at `index` (from 0).
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, root: &Hash, proof: &[Hash]) -> Result<(), ProofMismatch> {
    if index >= size {
        return Err(ProofMismatch::NoSuchLeaf { index, size });
    }
    let wrong_length = ProofMismatch::WrongLength(proof.len());
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in proof {
        if last == 0 {
            return Err(wrong_length);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            // A node at the right edge without a sibling moves up as it is.
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(wrong_length);
    }
    if hash == *root {
        Ok(())
    } else {
        Err(ProofMismatch::OtherRoot)
    }
}

/// Verifies that the tree of `to` leaves with root `new` begins with the `from` leaves of the tree with root `old`.
pub fn verify_consistency(from: u64, old: &Hash, to: u64, new: &Hash, proof: &[Hash]) -> Result<(), ProofMismatch> {
    if from == 0 || from > to {
        return Err(ProofMismatch::NoSuchSizes { from, to });
    }
    let wrong_length = ProofMismatch::WrongLength(proof.len());
    if from == to {
        if !proof.is_empty() {
            return Err(wrong_length);
        }
        return if old == new {
            Ok(())
        } else {
            Err(ProofMismatch::OtherRoot)
        };
    }
    // The subtree that both trees share and the old one ends with: the old root itself if the old tree is full.
    let shared = (from - 1).trailing_ones();
    let (mut node, mut last) = ((from - 1) >> shared, (to - 1) >> shared);
    let (start, path) = if from.is_power_of_two() {
        (old, proof)
    } else {
        proof.split_first().ok_or(wrong_length)?
    };
    let (mut of_old, mut of_new) = (*start, *start);
    for sibling in path {
        if last == 0 {
            return Err(wrong_length);
        }
        if node & 1 == 1 || node == last {
            of_old = node_hash(sibling, &of_old);
            of_new = node_hash(sibling, &of_new);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            of_new = node_hash(&of_new, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(wrong_length);
    }
    if of_old == *old && of_new == *new {
        Ok(())
    } else {
        Err(ProofMismatch::OtherRoot)
    }
}

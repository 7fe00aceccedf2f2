//! The right edge of a growing tree: what is needed to add leaves and to say the root, and nothing more.

use crate::hash::{Hash, node_hash};

/// The roots of the full subtrees that a tree of this size consists of, the largest first: one for each bit of the size
/// that is set. At most 64 hashes, however large the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// The frontier of the empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// The frontier of a tree of `size` leaves with these full subtrees, the largest first; `None` unless there are as
    /// many as the size has bits set.
    pub fn from_peaks(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (peaks.len() == size.count_ones() as usize).then_some(Self { size, peaks })
    }

    /// How many leaves the tree has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the full subtrees, the largest first.
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Adds a leaf. `full` is told of each subtree that this completes, leaves included, from the bottom: its height
    /// (0: a leaf), its index among those of its height, and its hash.
    pub fn push(&mut self, leaf: Hash, mut full: impl FnMut(u8, u64, Hash)) {
        let mut hash = leaf;
        let mut height = 0;
        full(height, self.size, hash);
        // Each set bit at the end of the size is a full subtree as high as the one that has just been completed.
        while self.size >> height & 1 == 1 {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
            height += 1;
            full(height, self.size >> height, hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root of the tree.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(&smallest) = peaks.next() else {
            return Hash::of_nothing();
        };
        peaks.fold(smallest, |right, left| node_hash(left, &right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::leaf_hash;

    /// The root as RFC 6962 defines it.
    fn by_definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Hash::of_nothing(),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                node_hash(&by_definition(left), &by_definition(right))
            }
        }
    }

    #[test]
    fn the_root_is_that_of_the_definition_at_every_size() {
        let leaves: Vec<Hash> = (0_u64..300).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        let mut frontier = Frontier::new();
        assert_eq!(frontier.root(), by_definition(&[]));
        for (added, leaf) in leaves.iter().enumerate() {
            frontier.push(*leaf, |height, index, hash| {
                let start = usize::try_from(index << height).unwrap();
                assert_eq!(hash, by_definition(&leaves[start..start + (1 << height)]));
            });
            assert_eq!(
                frontier.root(),
                by_definition(&leaves[..=added]),
                "{} leaves",
                added + 1
            );
            let again = Frontier::from_peaks(frontier.size(), frontier.peaks().to_vec());
            assert_eq!(again.as_ref(), Some(&frontier));
        }
        assert_eq!(Frontier::from_peaks(3, vec![leaves[0]]), None);
    }
}

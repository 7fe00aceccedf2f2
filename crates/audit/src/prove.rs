//! Making proofs and roots from tiles (RFC 6962, sections 2.1.1 and 2.1.2).

use crate::hash::{Hash, node_hash};
use crate::tile::{TILE_HEIGHT, TILE_WIDTH, Tile, TileSource};
use std::collections::HashMap;

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProveError<E> {
    /// The tree has no leaf of that index.
    #[error("a tree of {size} leaves has no leaf {index}: they count from 0")]
    NoSuchLeaf {
        /// The index that was asked for.
        index: u64,
        /// The size of the tree.
        size: u64,
    },
    /// The older tree is larger than the newer.
    #[error("a tree of {to} leaves has no beginning of {from}")]
    NoSuchSizes {
        /// Size of the older tree.
        from: u64,
        /// Size of the newer tree.
        to: u64,
    },
    /// The source has fewer hashes of a tile than the size of the tree says.
    #[error("tile {tile} has {found} hashes, and not {}", tile.width)]
    ShortTile {
        /// The tile, as wide as it should be.
        tile: Tile,
        /// How many hashes there are.
        found: usize,
    },
    /// The tiles cannot be read.
    #[error(transparent)]
    Source(E),
}

/// The root of the tree when it had `size` leaves.
pub fn root_at<S: TileSource>(source: &S, size: u64) -> Result<Hash, ProveError<S::Error>> {
    if size == 0 {
        return Ok(Hash::of_nothing());
    }
    Nodes::new(source, size).range(0, size)
}

/// The proof that the tree of `size` leaves has leaf `index` (from 0): the siblings on the way up, the leaf's first.
pub fn inclusion_proof<S: TileSource>(source: &S, index: u64, size: u64) -> Result<Vec<Hash>, ProveError<S::Error>> {
    if index >= size {
        return Err(ProveError::NoSuchLeaf { index, size });
    }
    let mut nodes = Nodes::new(source, size);
    let mut proof = Vec::new();
    let (mut start, mut end) = (0, size);
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            proof.push(nodes.range(middle, end)?);
            end = middle;
        } else {
            proof.push(nodes.range(start, middle)?);
            start = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The proof that the tree of `to` leaves begins with that of `from`; empty if they are the same, or the older is empty.
pub fn consistency_proof<S: TileSource>(source: &S, from: u64, to: u64) -> Result<Vec<Hash>, ProveError<S::Error>> {
    if from > to {
        return Err(ProveError::NoSuchSizes { from, to });
    }
    if from == 0 || from == to {
        return Ok(Vec::new());
    }
    let mut nodes = Nodes::new(source, to);
    let mut proof = Vec::new();
    let (mut start, mut end) = (0, to);
    // Down to the subtree with which the older tree ends.
    while end != from {
        let middle = start + split(end - start);
        if from <= middle {
            proof.push(nodes.range(middle, end)?);
            end = middle;
        } else {
            proof.push(nodes.range(start, middle)?);
            start = middle;
        }
    }
    // From the beginning on it is the older root itself, which the verifier has.
    if start != 0 {
        proof.push(nodes.range(start, end)?);
    }
    proof.reverse();
    Ok(proof)
}

/// The root over these hashes of one level, of which there are a power of two; of none at all it is that of the empty tree.
pub fn full_root(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => Hash::of_nothing(),
        [hash] => *hash,
        _ => {
            let (left, right) = hashes.split_at(hashes.len() / 2);
            node_hash(&full_root(left), &full_root(right))
        }
    }
}

/// The largest power of two below `n`, which is at least 2: how many leaves go to the left.
fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

/// Nodes of one tree, with the tiles that were read for it: a proof looks into the same few tiles again and again.
struct Nodes<'a, S> {
    source: &'a S,
    size: u64,
    tiles: HashMap<(u8, u64), Vec<Hash>>,
}

impl<'a, S: TileSource> Nodes<'a, S> {
    fn new(source: &'a S, size: u64) -> Self {
        Self {
            source,
            size,
            tiles: HashMap::new(),
        }
    }

    /// The hash of the subtree over the leaves from `start` to before `end`, as the definition splits the tree.
    fn range(&mut self, start: u64, end: u64) -> Result<Hash, ProveError<S::Error>> {
        let length = end - start;
        if length.is_power_of_two() {
            return self.full(start, length.trailing_zeros());
        }
        let middle = start + split(length);
        let left = self.range(start, middle)?;
        let right = self.range(middle, end)?;
        Ok(node_hash(&left, &right))
    }

    /// The hash of the full subtree of this height that begins at leaf `start`.
    fn full(&mut self, start: u64, height: u32) -> Result<Hash, ProveError<S::Error>> {
        let in_tile = height % u32::from(TILE_HEIGHT);
        let level = u8::try_from(height / u32::from(TILE_HEIGHT)).unwrap_or(u8::MAX);
        let first = start >> (height - in_tile);
        let hashes = self.tile(level, first)?;
        let offset = usize::try_from(first % u64::from(TILE_WIDTH)).unwrap_or(usize::MAX);
        // A full subtree that begins within the tree ends within it, and so within the tile, as wide as it is there.
        Ok(full_root(&hashes[offset..offset + (1 << in_tile)]))
    }

    /// The tile that holds hash `n` of a level, as wide as it is in this tree.
    fn tile(&mut self, level: u8, n: u64) -> Result<&[Hash], ProveError<S::Error>> {
        // A full subtree within the tree has its hash in a tile, so there is one.
        let tile = Tile::holding(level, n, self.size).ok_or(ProveError::NoSuchLeaf {
            index: n,
            size: self.size,
        })?;
        let hashes = match self.tiles.entry((tile.level, tile.index)) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(unknown) => {
                let mut hashes = self.source.tile(tile).map_err(ProveError::Source)?;
                if hashes.len() < usize::from(tile.width) {
                    return Err(ProveError::ShortTile {
                        tile,
                        found: hashes.len(),
                    });
                }
                hashes.truncate(usize::from(tile.width));
                unknown.insert(hashes)
            }
        };
        Ok(hashes)
    }
}

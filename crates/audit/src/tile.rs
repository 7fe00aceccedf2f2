//! Tiles: the tree in pieces of 256 hashes, named and laid out as C2SP's tlog-tiles says.

use crate::hash::{HASH_LEN, Hash};
use std::fmt;

/// How many hashes a full tile has.
pub const TILE_WIDTH: u16 = 256;
/// A tile is this many levels of the tree high.
pub(crate) const TILE_HEIGHT: u8 = 8;
/// The highest level: 8 levels of 8 cover 2^64 leaves.
const LEVEL_MAX: u8 = 63;

/// A tile: `width` hashes from `index * 256` on, at `level` (0: leaves; 1: each the root of 256 leaves; and so on).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tile {
    /// From 0 (leaves) to 63.
    pub level: u8,
    /// Place among the tiles of its level, from 0.
    pub index: u64,
    /// How many hashes it has: 256, or 1 to 255 at the right edge of the tree.
    pub width: u16,
}

/// A path that names no tile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no tile: it is <level>/<index in groups of three digits>[.p/<width>], such as 0/x001/234.p/7")]
pub struct MalformedTilePath(pub String);

/// Where tiles are read from: a file, a server, memory.
pub trait TileSource {
    /// What went wrong.
    type Error;

    /// The hashes of a tile, at least as many as its width; those behind it are not looked at.
    fn tile(&self, tile: Tile) -> Result<Vec<Hash>, Self::Error>;
}

impl Tile {
    /// The tile of this level that holds hash `n` of it, as wide as it is in a tree of `size` leaves; `None` if that tree
    /// has no such hash.
    pub fn holding(level: u8, n: u64, size: u64) -> Option<Self> {
        let hashes = size.checked_shr(u32::from(level) * u32::from(TILE_HEIGHT)).unwrap_or(0);
        let index = n / u64::from(TILE_WIDTH);
        let width = (hashes - index.checked_mul(u64::from(TILE_WIDTH))?.min(hashes)).min(u64::from(TILE_WIDTH));
        (n < hashes).then_some(Self {
            level,
            index,
            width: u16::try_from(width).unwrap_or(TILE_WIDTH),
        })
    }

    /// Its length in bytes.
    pub fn len(self) -> usize {
        usize::from(self.width) * HASH_LEN
    }

    /// Whether it has no hash, which a tile that is served never is.
    pub fn is_empty(self) -> bool {
        self.width == 0
    }

    /// Reads what `Display` writes, and nothing else: a tile has one path.
    pub fn parse(path: &str) -> Result<Self, MalformedTilePath> {
        let malformed = || MalformedTilePath(path.chars().take(80).collect());
        let (level, rest) = path.split_once('/').ok_or_else(malformed)?;
        let level = decimal(level)
            .filter(|level| *level <= u64::from(LEVEL_MAX))
            .ok_or_else(malformed)?;
        let (index, width) = index_and_width(rest).ok_or_else(malformed)?;
        Ok(Self {
            level: u8::try_from(level).map_err(|_| malformed())?,
            index,
            width,
        })
    }

    /// The path of the bundle that holds the entries of this tile's leaves, without `entries/`: `N[.p/W]`.
    pub fn entries_path(self) -> String {
        let mut path = index_path(self.index);
        if self.width < TILE_WIDTH {
            path.push_str(&format!(".p/{}", self.width));
        }
        path
    }

    /// Reads the path of a bundle of entries, as [`Tile::entries_path`] writes it.
    pub fn parse_entries(path: &str) -> Result<Self, MalformedTilePath> {
        let (index, width) = index_and_width(path).ok_or_else(|| MalformedTilePath(path.chars().take(80).collect()))?;
        Ok(Self { level: 0, index, width })
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.level, self.entries_path())
    }
}

/// A decimal number without leading zeroes or signs.
fn decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

fn index_and_width(path: &str) -> Option<(u64, u16)> {
    let (index, width) = match path.split_once(".p/") {
        None => (path, TILE_WIDTH),
        Some((index, width)) => {
            let width = decimal(width).filter(|width| (1..u64::from(TILE_WIDTH)).contains(width))?;
            (index, u16::try_from(width).ok()?)
        }
    };
    let mut digits = String::new();
    for (place, group) in index.split('/').rev().enumerate() {
        let group = if place == 0 { group } else { group.strip_prefix('x')? };
        if group.len() != 3 || !group.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        digits.insert_str(0, group);
    }
    let number: u64 = digits.parse().ok()?;
    (index_path(number) == index).then_some((number, width))
}

/// `1234067` as `x001/x234/067`.
fn index_path(index: u64) -> String {
    let mut path = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        path.insert_str(0, &format!("x{:03}/", rest % 1000));
        rest /= 1000;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        for (tile, path) in [
            (
                Tile {
                    level: 0,
                    index: 1_234_067,
                    width: 256,
                },
                "0/x001/x234/067",
            ),
            (
                Tile {
                    level: 2,
                    index: 0,
                    width: 1,
                },
                "2/000.p/1",
            ),
            (
                Tile {
                    level: 63,
                    index: 999,
                    width: 255,
                },
                "63/999.p/255",
            ),
            (
                Tile {
                    level: 0,
                    index: u64::MAX,
                    width: 256,
                },
                "0/x018/x446/x744/x073/x709/x551/615",
            ),
        ] {
            assert_eq!(tile.to_string(), path);
            assert_eq!(Tile::parse(path), Ok(tile));
        }
        for wrong in [
            "",
            "0",
            "0/",
            "0/1",
            "0/0001",
            "64/000",
            "00/000",
            "0/x000/001",
            "0/001/002",
            "0/x001",
            "0/000.p/0",
            "0/000.p/256",
            "0/000.p/01",
            "0/+01",
            "-1/000",
            "0/x018/x446/x744/x073/x709/x551/616",
            "0/000/",
            "0/000.p/1/",
        ] {
            assert!(Tile::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_tree_of_70_000_leaves_has_the_tiles_of_the_specification() {
        let tile = |level, n| Tile::holding(level, n, 70_000).map(|tile| (tile.index, tile.width));
        assert_eq!(tile(0, 0), Some((0, 256)));
        assert_eq!(tile(0, 69_999), Some((273, 112)));
        assert_eq!(tile(0, 70_000), None);
        assert_eq!(tile(1, 255), Some((0, 256)));
        assert_eq!(tile(1, 272), Some((1, 17)));
        assert_eq!(tile(1, 273), None);
        assert_eq!(tile(2, 0), Some((0, 1)));
        assert_eq!(tile(3, 0), None);
        assert_eq!(Tile::holding(8, 0, u64::MAX), None);
    }
}

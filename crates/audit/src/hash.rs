//! The hashes of the tree: SHA-256 with one byte before it that tells leaves from nodes (RFC 6962, section 2.1).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::fmt;

/// Length of a hash in bytes.
pub const HASH_LEN: usize = 32;

const LEAF: [u8; 1] = [0x00];
const NODE: [u8; 1] = [0x01];

/// A hash of the tree: of a leaf, of a node, or a root. Shown in Base64, as checkpoints and proofs write it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(pub [u8; HASH_LEN]);

/// A text that is no hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no hash: 32 bytes in Base64 are 44 characters")]
pub struct MalformedHash(pub String);

impl Hash {
    /// The root of the empty tree: SHA-256 of nothing.
    pub fn of_nothing() -> Self {
        Self(Sha256::digest([]).into())
    }

    /// Reads what `Display` writes: 44 characters of standard Base64, and nothing else.
    pub fn parse(text: &str) -> Result<Self, MalformedHash> {
        let malformed = || MalformedHash(text.chars().take(64).collect());
        let bytes = STANDARD.decode(text).map_err(|_| malformed())?;
        Ok(Self(bytes.try_into().map_err(|_| malformed())?))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The hash of a leaf with this entry.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update(LEAF).chain_update(entry).finalize().into())
}

/// The hash of the node above these two.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let hash = Sha256::new()
        .chain_update(NODE)
        .chain_update(left.0)
        .chain_update(right.0);
    Hash(hash.finalize().into())
}

/// The entry of a record: its canonical header, then the SHA-256 of its payload. A payload can so be withheld or
/// destroyed, and every proof stays valid.
pub fn entry(header: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(header.len() + HASH_LEN);
    entry.extend_from_slice(header);
    entry.extend_from_slice(&Sha256::digest(payload));
    entry
}

/// The leaf of a record: the hash of its [`entry`], which is not put together for it.
pub fn record_leaf(header: &[u8], payload: &[u8]) -> Hash {
    let hash = Sha256::new().chain_update(LEAF).chain_update(header);
    Hash(hash.chain_update(Sha256::digest(payload)).finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_the_leaf_of_its_entry() {
        assert_eq!(
            record_leaf(b"header", b"payload"),
            leaf_hash(&entry(b"header", b"payload"))
        );
    }

    #[test]
    fn a_hash_is_read_as_it_is_written_and_nothing_else_is() {
        let hash = leaf_hash(b"x");
        assert_eq!(Hash::parse(&hash.to_string()), Ok(hash));
        let text = hash.to_string();
        for wrong in ["", "AAAA", &text[..43], &format!("{text}="), &format!(" {text}")] {
            assert!(Hash::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn leaves_and_nodes_of_the_same_bytes_differ() {
        let (left, right) = (leaf_hash(b"a"), leaf_hash(b"b"));
        let both = [left.0, right.0].concat();
        assert_ne!(node_hash(&left, &right), leaf_hash(&both));
    }
}

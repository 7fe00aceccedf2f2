//! Proof for auditors: the Merkle tree over a log's records, its tiles, signed checkpoints and their cosignatures.
//!
//! Formats are those of the transparency community, so that tools of others verify what we sign: the tree of RFC 6962,
//! and C2SP's [tlog-tiles](https://c2sp.org/tlog-tiles), [tlog-checkpoint](https://c2sp.org/tlog-checkpoint),
//! [signed-note](https://c2sp.org/signed-note), [tlog-cosignature](https://c2sp.org/tlog-cosignature) and
//! [tlog-proof](https://c2sp.org/tlog-proof). No engine, no server, no I/O: what reads and writes brings a [`TileSource`].

mod checkpoint;
mod frontier;
mod hash;
mod key;
mod note;
mod proof;
mod prove;
mod tile;
mod tlog_proof;

pub use checkpoint::{Checkpoint, MalformedCheckpoint, ORIGIN_LEN_MAX};
pub use frontier::Frontier;
pub use hash::{HASH_LEN, Hash, MalformedHash, entry, leaf_hash, node_hash, record_leaf};
pub use key::{Algorithm, InvalidKey, Signer, VerifierKey};
pub use note::{MalformedNote, NOTE_LEN_MAX, Note, NoteSignature, SIGNATURES_MAX, Untrusted};
pub use proof::{ProofMismatch, verify_consistency, verify_inclusion};
pub use prove::{ProveError, consistency_proof, full_root, inclusion_proof, root_at};
pub use tile::{MalformedTilePath, TILE_WIDTH, Tile, TileSource};
pub use tlog_proof::{MalformedProof, ProofFails, TlogProof};

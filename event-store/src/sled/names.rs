//! Names of what the index finds by hash: commands, appended events, ids. In memory they are long enough to be told apart;
//! on disk only the first eight bytes stand, and the records are asked.

use annals_core::EventId;
use sha2::{Digest, Sha256};

/// What stands in the index on disk: the beginning of a name.
pub(super) type ShortHash = [u8; 8];
/// A name in the tail, where the record cannot be asked yet: no two differ in content and agree in hash.
pub(super) type Name = [u8; 16];

/// The first bytes of SHA-256 over the parts, each after its length (u32, little endian).
fn name(parts: &[&[u8]]) -> Name {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u32).to_le_bytes());
        hasher.update(part);
    }
    let mut name = [0; 16];
    name.copy_from_slice(&hasher.finalize()[..16]);
    name
}

pub(super) fn short(name: &Name) -> ShortHash {
    let mut short = [0; 8];
    short.copy_from_slice(&name[..8]);
    short
}

/// Name of a command: stream and key.
pub(super) fn command_name(stream: &str, key: &str) -> Name {
    name(&[stream.as_bytes(), key.as_bytes()])
}

/// Name of an event's id.
pub(super) fn id_name(id: &EventId) -> Name {
    match id {
        EventId::Uuid(uuid) => {
            let mut buffer = uuid::Uuid::encode_buffer();
            name(&[uuid.hyphenated().encode_lower(&mut buffer).as_bytes()])
        }
        other => name(&[other.to_string().as_bytes()]),
    }
}

/// Name of an event that came with an id of its own: stream, source and id.
pub(super) fn appended_name(id: &EventId, stream: &str, source: &str) -> Name {
    name(&[stream.as_bytes(), source.as_bytes(), id.to_string().as_bytes()])
}

/// What the index has for a command.
pub(super) fn command_hash(stream: &str, key: &str) -> ShortHash {
    short(&command_name(stream, key))
}

/// What the index has for an event's id.
pub(super) fn id_hash(id: &EventId) -> ShortHash {
    short(&id_name(id))
}

/// What the index has for an event that came with an id of its own.
pub(super) fn appended_hash(id: &EventId, stream: &str, source: &str) -> ShortHash {
    short(&appended_name(id, stream, source))
}

//! A block file: a run of blocks in one plain file that never changes, with a table of where each begins and a digest
//! of all of it. A sealed volume is one, and so is a backup. `docs/format.md` defines it byte by byte.

mod read;
mod repack;
mod write;

pub(crate) use read::BlockFile;
pub(crate) use repack::Repack;
pub(crate) use write::BlockFileWriter;

/// Begins the file.
pub(crate) const MAGIC: [u8; 8] = *b"ANNALSF\x01";
/// Begins the trailer.
pub(crate) const END_MAGIC: [u8; 8] = *b"ANNALSE\x01";
/// Magic, length and checksum in front of the head.
const PREFIX_LEN: usize = 16;
/// One entry of the table: first position, offset.
const ENTRY_LEN: usize = 16;
/// What ends the file.
pub(crate) const TRAILER_LEN: usize = 80;
/// Longest head that a reader takes, bytes.
const HEAD_LEN_MAX: usize = 16 << 20;

/// Checksum of the prefix (without its own field) and the head.
fn head_checksum(prefix: &[u8], head: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&prefix[..12]), head)
}

#[cfg(test)]
mod tests;

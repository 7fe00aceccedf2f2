//! A frame: one block as it is stored and sent. Self-describing, so that it can be found in a raw file.
//!
//! `docs/format.md` defines the header byte by byte. The checksum covers the header and the stored bytes.
//!
//! Nothing behind a frame's header looks like the beginning of one: payloads are strangers' bytes, and may hold a copy of a
//! frame, or a made-up one. A frame that would is masked, so that what is found in a raw file was written as a frame.

use annals_core::{Block, Epoch, Position};
use bytes::Bytes;
use memchr::memmem::Finder;
use std::borrow::Cow;
use std::sync::LazyLock;

/// Length of a frame's header in bytes.
pub const FRAME_HEADER_LEN: usize = 64;
pub(crate) const MAGIC: [u8; 4] = *b"ANB\x01";
/// Newest format that is read: that of a masked frame.
const FORMAT: u8 = 2;
/// Format of a frame that needs no mask.
const FORMAT_PLAIN: u8 = 1;
const COMPRESSION_NONE: u8 = 0;
const COMPRESSION_LZ4: u8 = 1;
/// Largest block that a reader takes, raw: one append of the largest size and its headers.
pub(crate) const RAW_LEN_MAX: usize = 48 * 1024 * 1024;
/// Where the mask stands in the header.
const MASK_AT: usize = 56;
/// Where the checksum stands in the header.
const CRC_AT: usize = 60;
/// Even in a frame of 48 MiB one mask in eighty is spoilt by chance, so that not even the third is ever needed.
const MASKS_TRIED_MAX: usize = 64;

/// What a frame says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameMeta {
    /// The history that the block belongs to.
    pub epoch: Epoch,
    /// How many times the log had been opened for writing when it was written; breaks ties in a salvage.
    pub boot: u64,
    /// Position of the first record.
    pub first: Position,
    /// How many records; for a part of a record: 1.
    pub count: u32,
    /// Which part of a record that is larger than a block, from 0.
    pub part: u16,
    /// Of how many parts; 1 for whole records.
    pub parts: u16,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Fewer bytes than a frame has.
    #[error("the block is cut short: {have} bytes of {need}")]
    Cut {
        /// Bytes there are.
        have: usize,
        /// Bytes there should be.
        need: usize,
    },
    /// Does not begin like a frame.
    #[error("there is no block here")]
    NotAFrame,
    /// Written by a newer binary.
    #[error("the block has format {0}, this binary reads up to {FORMAT}: upgrade it")]
    Newer(u8),
    /// The checksum does not match.
    #[error("the block's checksum does not match its bytes")]
    Checksum,
    /// Bytes that pass the checksum but make no sense.
    #[error("the block is malformed: {0}")]
    Malformed(&'static str),
}

/// Encodes a block. `meta` is taken as it is, except position and count, which are the block's.
pub fn encode_frame(block: &Block, meta: FrameMeta) -> Vec<u8> {
    let meta = FrameMeta {
        first: block.first(),
        count: block.count() as u32,
        ..meta
    };
    encode_bytes(block.bytes(), &meta)
}

/// Encodes raw bytes of records, or of a part of one.
pub(crate) fn encode_bytes(raw: &[u8], meta: &FrameMeta) -> Vec<u8> {
    let mut frame = vec![0; FRAME_HEADER_LEN + lz4_flex::block::get_maximum_output_size(raw.len())];
    let stored = lz4_flex::block::compress_into(raw, &mut frame[FRAME_HEADER_LEN..]).ok();
    let (compression, len) = match stored {
        Some(len) if len < raw.len() => (COMPRESSION_LZ4, len),
        _ => {
            frame[FRAME_HEADER_LEN..FRAME_HEADER_LEN + raw.len()].copy_from_slice(raw);
            (COMPRESSION_NONE, raw.len())
        }
    };
    frame.truncate(FRAME_HEADER_LEN + len);
    write_header(&mut frame, meta, compression, raw.len());
    mask_if_needed(&mut frame);
    frame
}

/// Makes a frame of bytes that stand uncompressed behind room for its header; gives it and these bytes, which share their
/// memory unless the frame had to be masked.
pub(crate) fn seal_raw(mut frame: Vec<u8>, meta: &FrameMeta) -> (Bytes, Bytes) {
    let raw_len = frame.len().saturating_sub(FRAME_HEADER_LEN);
    write_header(&mut frame, meta, COMPRESSION_NONE, raw_len);
    if !needs_mask(&frame) {
        let frame = Bytes::from(frame);
        let raw = frame.slice(FRAME_HEADER_LEN..);
        return (frame, raw);
    }
    let raw = Bytes::copy_from_slice(&frame[FRAME_HEADER_LEN..]);
    mask_if_needed(&mut frame);
    (frame.into(), raw)
}

/// A frame as another boot would have written it, without compressing it again. `None` if its new checksum would look like the
/// beginning of a frame: it is then encoded anew.
pub(crate) fn written_by(mut frame: Vec<u8>, boot: u64) -> Option<Vec<u8>> {
    frame.get_mut(24..32)?.copy_from_slice(&boot.to_le_bytes());
    if frame.len() < FRAME_HEADER_LEN {
        return None;
    }
    write_checksum(&mut frame);
    (!needs_mask(&frame)).then_some(frame)
}

/// Whether what looks like the beginning of a frame stands in what strangers may have written, or in the mask before it. What
/// the header says before that is the log's own, and may be any number: the position 21,122,625 has the magic's bytes.
fn needs_mask(frame: &[u8]) -> bool {
    static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(&MAGIC));
    FINDER.find(&frame[MASK_AT..]).is_some()
}

/// Masks what is stored until nothing in the frame looks like the beginning of another. Each place spoils one of 2^32 masks,
/// and nobody can know beforehand which one is taken: the checksum is that of bytes with times and ids in them.
fn mask_if_needed(frame: &mut [u8]) {
    let (mut mask, mut seed) = (0, crc_in(frame));
    for _ in 0..MASKS_TRIED_MAX {
        if !needs_mask(frame) {
            return;
        }
        apply_mask(&mut frame[FRAME_HEADER_LEN..], mask);
        seed = crc32c::crc32c(&seed.to_le_bytes()).max(1);
        mask = seed;
        apply_mask(&mut frame[FRAME_HEADER_LEN..], mask);
        frame[4] = FORMAT;
        frame[MASK_AT..CRC_AT].copy_from_slice(&mask.to_le_bytes());
        write_checksum(frame);
    }
}

fn apply_mask(stored: &mut [u8], mask: u32) {
    let mask = mask.to_le_bytes();
    for (at, byte) in stored.iter_mut().enumerate() {
        *byte ^= mask[at % mask.len()];
    }
}

fn write_checksum(frame: &mut [u8]) {
    let crc = checksum(frame);
    frame[CRC_AT..FRAME_HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
}

/// Writes the header in front of what is stored; `frame` has at least the header's length.
fn write_header(frame: &mut [u8], meta: &FrameMeta, compression: u8, raw_len: usize) {
    let len = frame.len() - FRAME_HEADER_LEN;
    frame[0..4].copy_from_slice(&MAGIC);
    frame[4] = FORMAT_PLAIN;
    frame[5] = compression;
    frame[8..24].copy_from_slice(meta.epoch.as_bytes());
    frame[24..32].copy_from_slice(&meta.boot.to_le_bytes());
    frame[32..40].copy_from_slice(&meta.first.get().to_le_bytes());
    frame[40..44].copy_from_slice(&meta.count.to_le_bytes());
    frame[44..46].copy_from_slice(&meta.part.to_le_bytes());
    frame[46..48].copy_from_slice(&meta.parts.to_le_bytes());
    frame[48..52].copy_from_slice(&(raw_len as u32).to_le_bytes());
    frame[52..56].copy_from_slice(&(len as u32).to_le_bytes());
    write_checksum(frame);
}

fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..CRC_AT]), &frame[FRAME_HEADER_LEN..])
}

/// Decodes the frame at the beginning of `bytes`: what it says of itself, its block, and how many bytes it took.
pub fn decode_frame(bytes: &[u8]) -> Result<(FrameMeta, Block, usize), FrameError> {
    let (meta, raw, used) = decode_bytes(bytes)?;
    if meta.first.get().checked_add(u64::from(meta.count)).is_none() {
        return Err(FrameError::Malformed("positions that there cannot be"));
    }
    Ok((meta, Block::new(meta.first, u64::from(meta.count), raw.into()), used))
}

/// What the bytes at the beginning of `bytes` say of themselves and how many bytes they take, if they are a frame with
/// its checksum. Nothing is decompressed.
pub(crate) fn check_frame(bytes: &[u8]) -> Result<(FrameMeta, usize), FrameError> {
    let header: &[u8; FRAME_HEADER_LEN] = bytes.first_chunk().ok_or(FrameError::Cut {
        have: bytes.len(),
        need: FRAME_HEADER_LEN,
    })?;
    if header[0..4] != MAGIC {
        return Err(FrameError::NotAFrame);
    }
    if !(FORMAT_PLAIN..=FORMAT).contains(&header[4]) {
        return Err(FrameError::Newer(header[4]));
    }
    let (raw_len, len) = (u32_at(header, 48) as usize, u32_at(header, 52) as usize);
    if raw_len > RAW_LEN_MAX || len > RAW_LEN_MAX {
        return Err(FrameError::Malformed("larger than a block can be"));
    }
    let used = FRAME_HEADER_LEN + len;
    let frame = bytes.get(..used).ok_or(FrameError::Cut {
        have: bytes.len(),
        need: used,
    })?;
    if checksum(frame) != crc_of(header) {
        return Err(FrameError::Checksum);
    }
    Ok((meta_of(header), used))
}

fn crc_in(frame: &[u8]) -> u32 {
    frame.first_chunk().map_or(0, crc_of)
}

/// The checksum that a frame's header names.
pub(crate) fn crc_of(header: &[u8; FRAME_HEADER_LEN]) -> u32 {
    u32_at(header, CRC_AT)
}

/// Decodes a frame to its raw bytes.
pub(crate) fn decode_bytes(bytes: &[u8]) -> Result<(FrameMeta, Vec<u8>, usize), FrameError> {
    let (meta, used) = check_frame(bytes)?;
    let raw_len = bytes.first_chunk().map_or(0, |header| u32_at(header, 48) as usize);
    let mut stored = Cow::Borrowed(&bytes[FRAME_HEADER_LEN..used]);
    if bytes[4] != FORMAT_PLAIN {
        let mask = bytes.first_chunk().map_or(0, |header| u32_at(header, MASK_AT));
        apply_mask(stored.to_mut(), mask);
    }
    let raw = match bytes[5] {
        COMPRESSION_NONE if raw_len == stored.len() => stored.into_owned(),
        COMPRESSION_LZ4 => {
            lz4_flex::block::decompress(&stored, raw_len).map_err(|_| FrameError::Malformed("does not decompress"))?
        }
        _ => return Err(FrameError::Malformed("unknown compression")),
    };
    if raw.len() != raw_len {
        return Err(FrameError::Malformed("decompresses to another length"));
    }
    Ok((meta, raw, used))
}

fn meta_of(header: &[u8; FRAME_HEADER_LEN]) -> FrameMeta {
    let mut epoch = [0; 16];
    epoch.copy_from_slice(&header[8..24]);
    FrameMeta {
        epoch: Epoch::from_bytes(epoch),
        boot: u64_at(header, 24),
        first: Position::new(u64_at(header, 32)),
        count: u32_at(header, 40),
        part: u16_at(header, 44),
        parts: u16_at(header, 46),
    }
}

fn u16_at(bytes: &[u8; FRAME_HEADER_LEN], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8; FRAME_HEADER_LEN], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8; FRAME_HEADER_LEN], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// Joins the parts of a record that is larger than a block.
pub(crate) fn join(first: Position, parts: &[Vec<u8>]) -> Block {
    Block::new(first, 1, Bytes::from(parts.concat()))
}

/// An uncompressed frame of one record as it was written before there were masks.
#[cfg(test)]
pub(crate) fn encode_unmasked(raw: &[u8], first: Position) -> Vec<u8> {
    let mut frame = [&[0; FRAME_HEADER_LEN], raw].concat();
    let meta = FrameMeta {
        epoch: Epoch::from_bytes([1; 16]),
        boot: 1,
        first,
        count: 1,
        part: 0,
        parts: 1,
    };
    write_header(&mut frame, &meta, COMPRESSION_NONE, raw.len());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> (Vec<u8>, FrameMeta) {
        let mut bytes = Vec::new();
        Block::push_record(&mut bytes, b"header", &[b'x'; 500]);
        Block::push_record(&mut bytes, b"header", b"payload");
        let epoch = Epoch::from_bytes([3; 16]);
        let meta = FrameMeta {
            epoch,
            boot: 7,
            first: Position::new(41),
            count: 2,
            part: 0,
            parts: 1,
        };
        (encode_frame(&Block::new(meta.first, 2, bytes.into()), meta), meta)
    }

    #[test]
    fn a_block_comes_back_as_it_was_stored() {
        let (mut bytes, meta) = frame();
        let len = bytes.len();
        bytes.extend_from_slice(b"what follows");
        let (found, block, used) = decode_frame(&bytes).unwrap();
        assert_eq!((found, used), (meta, len));
        assert_eq!((block.first().get(), block.last().get()), (41, 42));
    }

    #[test]
    fn a_frame_that_another_boot_takes_over_says_so_and_nothing_else_changes() {
        let (bytes, meta) = frame();
        let taken = written_by(bytes.clone(), 9).unwrap();
        let (found, block, used) = decode_frame(&taken).unwrap();
        assert_eq!((found, used), (FrameMeta { boot: 9, ..meta }, bytes.len()));
        let (_, before, _) = decode_frame(&bytes).unwrap();
        assert_eq!(block.bytes(), before.bytes());
        // One from before there were masks is not kept as it is: it holds what looks like another.
        assert_eq!(written_by(encode_unmasked(&bytes, Position::new(1)), 9), None);
    }

    #[test]
    fn every_altered_byte_and_every_cut_is_noticed() {
        let (bytes, _) = frame();
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 0x10;
            assert!(decode_frame(&altered).is_err(), "byte {at}");
            assert!(decode_frame(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn no_frame_can_be_seen_in_a_frame_whatever_a_payload_holds() {
        let (inner, meta) = frame();
        // Text that does not compress around it, so that lz4 keeps it as it is.
        let noise: Vec<u8> = (0..4_000u32)
            .flat_map(|at| crc32c::crc32c(&at.to_le_bytes()).to_le_bytes())
            .collect();
        let mut record = [&noise[..], &inner, &noise[..777], &inner, &MAGIC].concat();
        for round in 0..50 {
            record.push(round);
            let raw = record.clone();
            for masked in [encode_bytes(&raw, &meta), seal(&raw, &meta)] {
                assert!(!needs_mask(&masked), "round {round}");
                assert_eq!(masked[4], FORMAT);
                let (found, shown, used) = decode_bytes(&masked).unwrap();
                assert_eq!((found, used), (meta, masked.len()));
                assert!(shown == raw, "round {round}");
                // The next payload spoils this mask, too.
                let mask: [u8; 4] = *masked[MASK_AT..].first_chunk().unwrap();
                let turned = mask.iter().cycle().skip(record.len() % 4);
                record.extend(MAGIC.iter().zip(turned).map(|(byte, mask)| byte ^ mask));
            }
        }
    }

    #[test]
    fn a_header_may_hold_the_bytes_of_the_magic() {
        let (_, meta) = frame();
        let first = Position::new(u64::from(u32::from_le_bytes(MAGIC)));
        assert_eq!(first.get(), 21_122_625);
        let epoch = Epoch::from_bytes(*b"ANB\x01ANB\x01ANB\x01ANB\x01");
        for meta in [FrameMeta { first, ..meta }, FrameMeta { epoch, ..meta }] {
            for raw in [&b"a payload"[..], &[b"a payload ", &MAGIC[..]].concat()] {
                let sealed = seal(raw, &meta);
                assert_eq!(decode_bytes(&sealed).unwrap(), (meta, raw.to_vec(), sealed.len()));
                // Nothing in the payload to hide, no mask: what the header holds is not looked for.
                let plain = !raw.ends_with(&MAGIC);
                assert_eq!(sealed[4] == FORMAT_PLAIN, plain, "{meta:?}");
            }
        }
    }

    fn seal(raw: &[u8], meta: &FrameMeta) -> Vec<u8> {
        let (frame, shown) = seal_raw([&[0; FRAME_HEADER_LEN], raw].concat(), meta);
        assert!(shown == raw, "readers get what was written");
        frame.to_vec()
    }
}

//! Finds block frames in a raw file, by magic, plausible header and checksum, wherever they begin. Memory is bounded.

use crate::frame::{FRAME_HEADER_LEN, FrameMeta, MAGIC, RAW_LEN_MAX, check_frame, crc_of};
use annals_core::Position;
use memchr::memmem::Finder;
use std::io::{self, Read};

/// Longest frame of a volume: in a sealed one a large record, of at most 1 MiB and its header, is in one.
pub(crate) const VOLUME_FRAME_MAX: usize = 2 << 20;
/// Longest frame of the journal: a group of the largest appends with all their headers.
pub(crate) const JOURNAL_FRAME_MAX: usize = RAW_LEN_MAX + FRAME_HEADER_LEN;
/// How much of the file is in memory at a time.
const WINDOW: usize = 2 << 20;

/// A frame in a raw file, its checksum checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawFrame {
    pub(crate) meta: FrameMeta,
    /// Where it begins in its file, bytes.
    pub(crate) at: u64,
    /// Length with its header, bytes.
    pub(crate) len: u32,
    pub(crate) crc: u32,
    /// Which of the files that are looked at.
    pub(crate) file: u16,
    /// Files of one lineage were written one after the other by the same hands: what is older there is stale.
    pub(crate) lineage: u16,
}

impl RawFrame {
    /// Position of its last record.
    pub(crate) fn last(&self) -> Position {
        self.meta.first.plus(u64::from(self.meta.count)).previous()
    }
}

/// Reads `source` to its end and tells every frame in it of at most `frame_max` bytes, in the order of the file. Returns
/// its length in bytes.
///
/// What stands inside a frame is not looked at: a payload may hold the bytes of a frame, and before there were masks it
/// could be seen.
pub(crate) fn scan(
    mut source: impl Read,
    frame_max: usize,
    (file, lineage): (u16, u16),
    mut found: impl FnMut(RawFrame),
) -> io::Result<u64> {
    let finder = Finder::new(&MAGIC);
    let mut window = vec![0; WINDOW + frame_max];
    // The window holds the file's bytes from `base` on, `filled` of them.
    let (mut base, mut filled) = (0u64, 0);
    loop {
        let ended = fill(&mut source, &mut window, &mut filled)?;
        let mut at = 0;
        let keep = loop {
            let Some(next) = finder.find(&window[at..filled]) else {
                break at.max(filled.saturating_sub(MAGIC.len() - 1));
            };
            at += next;
            let rest = &window[at..filled];
            if !ended && rest.len() < frame_max {
                break at;
            }
            let Ok((meta, used)) = check_frame(&rest[..rest.len().min(frame_max)]) else {
                at += 1;
                continue;
            };
            found(RawFrame {
                meta,
                at: base + at as u64,
                len: used as u32,
                crc: rest.first_chunk::<FRAME_HEADER_LEN>().map_or(0, crc_of),
                file,
                lineage,
            });
            at += used;
        };
        if ended {
            return Ok(base + filled as u64);
        }
        window.copy_within(keep..filled, 0);
        base += keep as u64;
        filled -= keep;
    }
}

/// Fills the window; true at the end of the file.
fn fill(source: &mut impl Read, window: &mut [u8], filled: &mut usize) -> io::Result<bool> {
    while *filled < window.len() {
        match source.read(&mut window[*filled..]) {
            Ok(0) => return Ok(true),
            Ok(read) => *filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::encode_bytes;
    use annals_core::Epoch;

    fn frame(first: u64, raw: &[u8]) -> Vec<u8> {
        let meta = FrameMeta {
            epoch: Epoch::from_bytes([1; 16]),
            boot: 1,
            first: Position::new(first),
            count: 1,
            part: 0,
            parts: 1,
        };
        encode_bytes(raw, &meta)
    }

    /// Bytes that lz4 cannot make smaller.
    fn noise(len: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..len).map(next).collect()
    }

    fn found(bytes: &[u8]) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        let tell = |frame: RawFrame| found.push((frame.meta.first.get(), frame.at));
        let len = scan(bytes, VOLUME_FRAME_MAX, (0, 0), tell).unwrap();
        assert_eq!(len, bytes.len() as u64);
        found
    }

    #[test]
    fn frames_are_found_wherever_they_begin_also_across_the_windows() {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for first in 1..200 {
            bytes.extend(noise(first as usize * 131, first));
            bytes.extend_from_slice(&MAGIC[..(first % 5) as usize]);
            expected.push((first, bytes.len() as u64));
            bytes.extend(frame(first, &noise(60_000, first)));
        }
        assert!(bytes.len() > 5 * WINDOW);
        assert_eq!(found(&bytes), expected);
    }

    #[test]
    fn a_frame_that_is_cut_or_altered_is_passed_over_and_the_next_is_found() {
        let whole = frame(7, &noise(5_000, 1));
        let mut bytes = whole[..3_000].to_vec();
        bytes.extend_from_slice(&whole);
        let mut altered = whole.clone();
        altered[2_500] ^= 1;
        bytes.extend(altered);
        bytes.extend(frame(8, b"x"));
        bytes.extend_from_slice(&whole[..100]);
        assert_eq!(found(&bytes), [(7, 3_000), (8, 3_000 + 2 * whole.len() as u64)]);
    }

    #[test]
    fn a_frame_in_the_payload_of_a_frame_is_not_taken_for_one_also_when_the_outer_one_is_damaged() {
        let mut inner = noise(500, 3);
        inner.extend(frame(99, &noise(900, 2)));
        let mut bytes = frame(1, &inner);
        assert_eq!(found(&bytes), [(1, 0)]);
        bytes[300] ^= 1;
        assert_eq!(found(&bytes), []);
        assert_eq!(found(&bytes[200..]), [], "its beginning was written over");
    }

    #[test]
    fn a_frame_in_a_frame_of_a_binary_that_did_not_mask_is_not_taken_for_one() {
        let inner = [noise(500, 3), frame(99, &noise(900, 2))].concat();
        let bytes = crate::frame::encode_unmasked(&inner, Position::new(1));
        assert_eq!(bytes.windows(4).filter(|bytes| *bytes == MAGIC).count(), 2);
        assert_eq!(found(&bytes), [(1, 0)]);
    }
}

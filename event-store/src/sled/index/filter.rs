//! Which keys a run may have: ten bits a key, so that a key that is nowhere, as that of every new command, is not looked
//! for on disk. One wrong "maybe" in about a hundred; never a wrong "no".

use bytes::Bytes;

/// Bits for each key.
const BITS_PER_KEY: u64 = 10;
/// A key sets and asks for bits of one line, so that a look-up touches one line of the processor's cache.
const LINE_BYTES: usize = 64;
const LINE_BITS: u64 = 8 * LINE_BYTES as u64;
const PROBES: u32 = 6;
/// Lines in one page: what is read, checked and cached at once.
const PAGE_LINES: u64 = 63;
/// Length of a page without its checksum; the last page of a filter may be shorter.
pub(super) const PAGE_BYTES: usize = PAGE_LINES as usize * LINE_BYTES;

/// What the filter knows of a key: FNV-1a with 64 bits over its bytes, mixed.
pub(super) fn key_hash(key: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in key {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ (hash >> 32)
}

/// How many lines a filter for so many keys has.
pub(super) fn lines_for(keys: u64) -> u64 {
    (keys * BITS_PER_KEY).div_ceil(LINE_BITS).max(1)
}

fn line_of(hash: u64, lines: u64) -> u64 {
    ((u128::from(hash) * u128::from(lines)) >> 64) as u64
}

/// The bits of a line that a key has.
fn probes(hash: u64) -> impl Iterator<Item = usize> {
    let bits = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..PROBES).map(move |probe| ((bits >> (9 * probe + 10)) & (LINE_BITS - 1)) as usize)
}

/// The page that a key's line is in, and the line's place in it.
pub(super) fn place(hash: u64, lines: u64) -> (u64, usize) {
    let line = line_of(hash, lines);
    (line / PAGE_LINES, (line % PAGE_LINES) as usize * LINE_BYTES)
}

/// Length of a page without its checksum.
pub(super) fn page_len(page: u64, lines: u64) -> u64 {
    lines.saturating_sub(page * PAGE_LINES).min(PAGE_LINES) * LINE_BYTES as u64
}

/// Whether the page with the key's line says that the key may be there.
pub(super) fn page_has(page: &Bytes, at: usize, hash: u64) -> bool {
    let Some(line) = page.get(at..at + LINE_BYTES) else {
        return true;
    };
    probes(hash).all(|bit| line[bit / 8] & (1 << (bit % 8)) != 0)
}

/// A filter while its run is written.
pub(super) struct Builder {
    bytes: Vec<u8>,
    lines: u64,
}

impl Builder {
    pub(super) fn new(keys: u64) -> Self {
        let lines = lines_for(keys);
        Self {
            bytes: vec![0; lines as usize * LINE_BYTES],
            lines,
        }
    }

    pub(super) fn add(&mut self, key: &[u8]) {
        let hash = key_hash(key);
        let start = line_of(hash, self.lines) as usize * LINE_BYTES;
        for bit in probes(hash) {
            self.bytes[start + bit / 8] |= 1 << (bit % 8);
        }
    }

    pub(super) fn lines(&self) -> u64 {
        self.lines
    }

    pub(super) fn pages(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks(PAGE_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_always_there_and_little_else() {
        let mut builder = Builder::new(10_000);
        (0..10_000u32).for_each(|key| builder.add(&key.to_be_bytes()));
        let pages: Vec<Bytes> = builder.pages().map(Bytes::copy_from_slice).collect();
        let has = |key: u32| {
            let hash = key_hash(&key.to_be_bytes());
            let (page, at) = place(hash, builder.lines());
            page_has(&pages[page as usize], at, hash)
        };
        assert!((0..10_000).all(has));
        let wrong = (10_000..110_000).filter(|key| has(*key)).count();
        assert!(wrong < 3_000, "{wrong} of 100,000 keys are there that were never added");
    }
}

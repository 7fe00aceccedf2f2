//! The bytes of a block of the index: entries in the order of their keys, each without what its key shares with the one
//! before it.
//!
//! An entry is a key, the number that orders the entries of one key (for a stream the version of the first event, for all
//! others the first position), and ascending positions.

use bytes::Bytes;

/// Most positions in one entry; more are cut into several entries of the same key.
pub(super) const POSITIONS_MAX: usize = 512;
/// Longest key: its kind, then a stream or a tag.
pub(super) const KEY_LEN_MAX: usize = 1024;
/// Length of a key that is a hash: its kind, then eight bytes.
pub(super) const HASH_KEY_LEN: usize = 9;

/// Kind of the entries of streams, the only one whose entries have a version.
pub(super) const STREAM: u8 = b's';
/// Kind of the entries of tags.
pub(super) const TAG: u8 = b't';

/// Bytes that no writer of ours wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

fn is_text(kind: u8) -> bool {
    kind == STREAM || kind == TAG
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A number at the beginning of the bytes, and how many it took.
fn varint(bytes: &[u8]) -> Result<(u64, usize), Malformed> {
    let mut number = 0u64;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if at == 9 && bits > 1 {
            break;
        }
        number |= bits << (7 * at);
        if byte & 0x80 == 0 {
            return Ok((number, at + 1));
        }
    }
    Err(Malformed("a number does not end"))
}

/// Takes a number off the bytes.
pub(super) fn take_varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let (number, len) = varint(bytes)?;
    *bytes = &bytes[len..];
    Ok(number)
}

/// Builds a block entry by entry.
#[derive(Default)]
pub(super) struct Encoder {
    bytes: Vec<u8>,
    last: Vec<u8>,
}

impl Encoder {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds an entry that belongs behind all others. `first` counts for streams only.
    pub(super) fn push(&mut self, key: &[u8], first: u64, positions: &[u64]) {
        let Some((&start, later)) = positions.split_first() else {
            return;
        };
        let Some(&kind) = key.first() else { return };
        let shared = key.iter().zip(&self.last).take_while(|(a, b)| a == b).count();
        put_varint(&mut self.bytes, shared as u64);
        if shared == 0 {
            self.bytes.push(kind);
        }
        let rest = &key[shared.max(1)..];
        if is_text(kind) {
            put_varint(&mut self.bytes, rest.len() as u64);
        }
        self.bytes.extend_from_slice(rest);
        put_varint(&mut self.bytes, positions.len() as u64);
        if kind == STREAM {
            put_varint(&mut self.bytes, first);
        }
        put_varint(&mut self.bytes, start);
        let mut last = start;
        for position in later {
            put_varint(&mut self.bytes, position - last);
            last = *position;
        }
        self.last.truncate(shared);
        self.last.extend_from_slice(&key[shared..]);
    }

    /// The block's bytes; what follows begins another one.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.last.clear();
        std::mem::take(&mut self.bytes)
    }
}

/// Reads a block entry by entry.
pub(super) struct Entries {
    bytes: Bytes,
    at: usize,
    /// Key of the entry read last.
    pub(super) key: Vec<u8>,
    /// What orders the entries of its key.
    pub(super) order: u64,
    /// Its positions, ascending, at least one.
    pub(super) positions: Vec<u64>,
    /// How many positions of the entry stand at `at` and were not read.
    unread: u64,
}

impl Entries {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self {
            bytes,
            at: 0,
            key: Vec::new(),
            order: 0,
            positions: Vec::new(),
            unread: 0,
        }
    }

    fn number(&mut self) -> Result<u64, Malformed> {
        let (number, len) = varint(self.bytes.get(self.at..).unwrap_or_default())?;
        self.at += len;
        Ok(number)
    }

    /// Reads the next entry; false at the end. What it needs is bounded by the bytes there are.
    pub(super) fn read(&mut self) -> Result<bool, Malformed> {
        Ok(self.next_key()? && self.read_rest().map(|()| true)?)
    }

    /// Reads the key of the next entry, and passes over what was not read of the one before; false at the end.
    pub(super) fn next_key(&mut self) -> Result<bool, Malformed> {
        self.pass()?;
        if self.at >= self.bytes.len() {
            return Ok(false);
        }
        self.read_key()?;
        let count = self.number()?;
        if count == 0 || count > POSITIONS_MAX as u64 {
            return Err(Malformed("the number of positions is out of bounds"));
        }
        self.unread = count;
        Ok(true)
    }

    /// Reads what belongs to the key that was read last.
    pub(super) fn read_rest(&mut self) -> Result<(), Malformed> {
        let count = std::mem::take(&mut self.unread);
        let version = (self.key[0] == STREAM).then(|| self.number()).transpose()?;
        let mut last = self.number()?;
        self.order = version.unwrap_or(last);
        self.positions.clear();
        self.positions.push(last);
        for _ in 1..count {
            let step = self.number()?;
            last = match last.checked_add(step) {
                Some(position) if step > 0 => position,
                _ => return Err(Malformed("positions do not ascend")),
            };
            self.positions.push(last);
        }
        Ok(())
    }

    /// Passes over what belongs to the key that was read last: numbers are not read, only their ends are counted, eight bytes
    /// at a time. A look-up passes over half a block, which took most of its time when each number was read.
    fn pass(&mut self) -> Result<(), Malformed> {
        let count = std::mem::take(&mut self.unread);
        if count == 0 {
            return Ok(());
        }
        let mut left = count + u64::from(self.key[0] == STREAM);
        while let Some(eight) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()) {
            const CONTINUES: u64 = 0x8080_8080_8080_8080;
            let ends = u64::from((!u64::from_le_bytes(*eight) & CONTINUES).count_ones());
            if ends >= left {
                break;
            }
            left -= ends;
            self.at += eight.len();
        }
        while left > 0 {
            let byte = self.bytes.get(self.at).ok_or(Malformed("a number does not end"))?;
            left -= u64::from(byte & 0x80 == 0);
            self.at += 1;
        }
        Ok(())
    }

    fn read_key(&mut self) -> Result<(), Malformed> {
        let shared = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        if shared > self.key.len() {
            return Err(Malformed("a key shares more than there is"));
        }
        self.key.truncate(shared);
        if shared == 0 {
            let kind = self.bytes.get(self.at).ok_or(Malformed("a key has no kind"))?;
            self.key.push(*kind);
            self.at += 1;
        }
        let rest = if is_text(self.key[0]) {
            usize::try_from(self.number()?).unwrap_or(usize::MAX)
        } else {
            HASH_KEY_LEN.saturating_sub(self.key.len())
        };
        let end = self.at.checked_add(rest).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(Malformed("a key is longer than the block"))?;
        self.key.extend_from_slice(&self.bytes[self.at..end]);
        self.at = end;
        if self.key.len() > KEY_LEN_MAX {
            return Err(Malformed("a key is too long"));
        }
        Ok(())
    }
}

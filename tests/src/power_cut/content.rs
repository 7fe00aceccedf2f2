//! The bytes of a file, sparse and cheap to copy: pages that were never written are not there and read as zeros.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

const PAGE: usize = 4096;

/// Bytes and length of a file.
#[derive(Debug, Clone, Default)]
pub struct Content {
    pages: BTreeMap<u64, Arc<[u8; PAGE]>>,
    len: u64,
}

impl Content {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Writes bytes; the file grows if they reach beyond its end.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        self.put(offset, data);
        self.len = self.len.max(offset + data.len() as u64);
    }

    /// Writes bytes and leaves the length alone: what stands beyond it is not seen until the length is set.
    pub(super) fn put(&mut self, offset: u64, mut data: &[u8]) {
        let mut at = offset;
        while !data.is_empty() {
            let within = (at % PAGE as u64) as usize;
            let (part, rest) = data.split_at(data.len().min(PAGE - within));
            let page = self
                .pages
                .entry(at / PAGE as u64)
                .or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[within..within + part.len()].copy_from_slice(part);
            at += part.len() as u64;
            data = rest;
        }
    }

    /// Sets the length; what was beyond is gone, what is new reads as zeros.
    pub fn truncate(&mut self, len: u64) {
        let (whole, within) = (len / PAGE as u64, (len % PAGE as u64) as usize);
        self.pages.split_off(&(len.div_ceil(PAGE as u64)));
        if within > 0
            && let Some(page) = self.pages.get_mut(&whole)
        {
            Arc::make_mut(page)[within..].fill(0);
        }
        self.len = len;
    }

    /// Writes it to a new file.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let file = File::create_new(path)?;
        for (number, page) in &self.pages {
            file.write_all_at(&page[..], number * PAGE as u64)?;
        }
        file.set_len(self.len)
    }

    /// Whether a file has exactly these bytes.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn same_as(&self, path: &Path) -> io::Result<bool> {
        let bytes = std::fs::read(path)?;
        let zeros = [0; PAGE];
        let same = |(number, chunk): (usize, &[u8])| {
            let page = self.pages.get(&(number as u64)).map_or(&zeros, |page| &**page);
            page[..chunk.len()] == *chunk
        };
        Ok(bytes.len() as u64 == self.len && bytes.chunks(PAGE).enumerate().all(same))
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn load(path: &Path) -> io::Result<Self> {
        let bytes = std::fs::read(path)?;
        let mut content = Self::default();
        for (number, chunk) in bytes.chunks(PAGE).enumerate() {
            if chunk.iter().any(|byte| *byte != 0) {
                content.put((number * PAGE) as u64, chunk);
            }
        }
        content.len = bytes.len() as u64;
        Ok(content)
    }

    /// All bytes, for small files.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        for (number, page) in &self.pages {
            let start = (*number as usize) * PAGE;
            let end = (start + PAGE).min(bytes.len());
            if start < end {
                bytes[start..end].copy_from_slice(&page[..end - start]);
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_off_reads_as_zeros_when_the_file_grows_again() {
        let mut content = Content::default();
        content.write(4090, b"0123456789");
        content.truncate(4092);
        content.truncate(4100);
        assert_eq!(content.bytes()[4088..], *b"\0\x0001\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn a_copy_keeps_what_it_was() {
        let mut content = Content::default();
        content.write(0, b"old");
        let copy = content.clone();
        content.write(1, b"new");
        assert_eq!((copy.bytes(), content.bytes()), (b"old".to_vec(), b"onew".to_vec()));
    }

    #[test]
    fn files_are_written_and_compared_byte_by_byte() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let mut content = Content::default();
        content.write(10_000, b"x");
        content.save(&path).unwrap();
        assert!(content.same_as(&path).unwrap());
        assert_eq!(Content::load(&path).unwrap().bytes(), content.bytes());
        content.write(9_999, b"y");
        assert!(!content.same_as(&path).unwrap());
    }
}

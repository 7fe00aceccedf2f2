//! A file of blocks comes back as it was written, or is refused.

use super::*;
use crate::frame::{FrameMeta, encode_frame};
use annals_core::{Block, Epoch, Position};

fn file(records: u64) -> Vec<u8> {
    let mut writer = BlockFileWriter::new(Vec::new(), b"{}").unwrap();
    let mut repack = Repack::new(Position::new(11));
    let mut blocks = Vec::new();
    for number in 0..records {
        blocks.extend(repack.push(b"header", &vec![number as u8; 10_000]));
    }
    blocks.extend(repack.take());
    for block in &blocks {
        let meta = FrameMeta {
            epoch: Epoch::from_bytes([1; 16]),
            boot: 1,
            first: block.first(),
            count: 0,
            part: 0,
            parts: 1,
        };
        writer.frame(block, &encode_frame(block, meta)).unwrap();
    }
    writer.finish().unwrap().0
}

fn opened(bytes: &[u8]) -> Result<BlockFile, annals_core::LogError> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("blocks"), bytes).unwrap();
    BlockFile::open(&dir.path().join("blocks"), Position::new(11))
}

/// All that can be read of a file, or the error.
fn read_all(bytes: &[u8]) -> Result<Vec<Block>, annals_core::LogError> {
    let file = opened(bytes)?;
    file.check_digest(&mut |_| ())?;
    (0..file.blocks())
        .map(|number| file.block(number).map(|block| block.unwrap()))
        .collect()
}

#[test]
fn blocks_come_back_full_and_in_order() {
    let bytes = file(25);
    let blocks = read_all(&bytes).unwrap();
    assert_eq!(blocks.iter().map(Block::count).collect::<Vec<_>>(), [6, 6, 6, 6, 1]);
    let file = opened(&bytes).unwrap();
    assert_eq!(
        (file.first().get(), file.last().get(), file.len()),
        (11, 35, bytes.len() as u64)
    );
    assert_eq!(file.block_before(Position::new(10)), None);
    assert_eq!(file.block_before(Position::new(16)), Some(0));
    assert_eq!(file.block_before(Position::new(17)), Some(1));
    assert_eq!(file.block_before(Position::new(99)), Some(4));
    assert!(file.block(5).unwrap().is_none());
}

#[test]
fn a_file_without_blocks_is_a_file() {
    assert_eq!(read_all(&file(0)).unwrap().len(), 0);
}

#[test]
fn every_altered_byte_and_every_cut_is_noticed() {
    let bytes = file(7);
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 0x20;
        assert!(read_all(&altered).is_err(), "byte {at}");
    }
    for len in (0..bytes.len()).step_by(7) {
        assert!(read_all(&bytes[..len]).is_err(), "cut at {len}");
    }
}

//! Rewrites the records of volumes into a file of full blocks, and compares what was written with what was read.

use super::pace::Pace;
use super::plan::Plan;
use super::{SealError, storage};
use crate::block_file::{BlockFile, BlockFileWriter, Repack};
use crate::frame::{FrameMeta, encode_frame, written_by};
use crate::sled::shared::Shared;
use annals_core::{Block, LogError, Position};
use serde_json::json;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use xxhash_rust::xxh3::Xxh3;

/// Checksum of records, whatever blocks they are in: of two that were made in one sealing, so that nobody could have made
/// one to match.
#[derive(Default)]
pub(super) struct Records {
    digest: Xxh3,
    next: Position,
}

impl Records {
    fn from(first: Position) -> Self {
        Self {
            next: first,
            ..Self::default()
        }
    }

    /// Takes the next records; an error if other ones should follow.
    fn add(&mut self, block: &Block) -> Result<(), LogError> {
        if block.first() != self.next {
            return Err(LogError::Damaged {
                position: self.next,
                detail: "the event is missing".into(),
            });
        }
        let mut len = 0;
        for record in block.raw_records() {
            let (_, header, payload) = record?;
            len += Block::record_len(header.len(), payload.len());
        }
        // Records stand one behind the other in the same form in every block.
        self.digest.update(block.bytes().get(..len).unwrap_or_default());
        self.next = block.last().next();
        Ok(())
    }

    /// The digest, if the records go up to `end`.
    fn finish(self, end: Position) -> Result<u128, LogError> {
        if self.next != end.next() {
            return Err(LogError::Damaged {
                position: self.next,
                detail: "the event is missing".into(),
            });
        }
        Ok(self.digest.digest128())
    }
}

/// Writes the records of the plan's volumes into a synced file; gives their digest.
pub(super) fn rewrite(
    shared: &Shared,
    plan: &Plan,
    partial: &Path,
    stop: &AtomicBool,
    pace: &mut Pace<'_>,
) -> Result<u128, SealError> {
    let first = plan.new.first;
    let head = json!({"kind": "volume", "epoch": shared.epoch, "first": first});
    let file = File::create(partial).map_err(storage)?;
    let out = BlockFileWriter::new(file, head.to_string().as_bytes()).map_err(storage)?;
    let meta = FrameMeta {
        epoch: shared.epoch,
        boot: shared.volumes.boot(),
        first,
        count: 0,
        part: 0,
        parts: 1,
    };
    let mut output = Output { out, meta };
    let (mut repack, mut records) = (Repack::new(first), Records::from(first));
    for (at, entry) in plan.old.iter().enumerate() {
        let end = plan.old.get(at + 1).map_or(plan.end, |next| next.first.previous());
        let volume = shared.volumes.closed(entry)?;
        // Nobody else replaces volumes.
        let volume = volume.ok_or_else(|| LogError::Storage("the volume is not part of the log".into()))?;
        let mut blocks = volume.scan(records.next)?;
        while let Some(stored) = blocks.next_stored() {
            let (block, frame) = stored?;
            if block.first() > end {
                break;
            }
            let whole = block.first() == records.next && block.last() <= end;
            let block = block.clip(records.next.previous(), end).map_err(LogError::from)?;
            records.add(&block)?;
            if whole && Repack::is_full(&block) {
                if let Some(begun) = repack.pass(&block) {
                    output.block(&begun)?;
                }
                output.stored(&block, frame)?;
            } else {
                for record in block.raw_records() {
                    let (_, header, payload) = record.map_err(LogError::from)?;
                    if let Some(full) = repack.push(header, payload) {
                        output.block(&full)?;
                    }
                }
            }
            check(stop)?;
            if pace.worked(block.bytes().len()) {
                // A lot at once would make the appends' own syncs wait.
                output.out.sink().sync_data().map_err(storage)?;
            }
        }
        if records.next != end.next() {
            let detail = "the event is missing".into();
            return Err(SealError::Failed(LogError::Damaged {
                position: records.next,
                detail,
            }));
        }
    }
    if let Some(rest) = repack.take() {
        output.block(&rest)?;
    }
    let (file, _) = output.out.finish().map_err(storage)?;
    file.sync_all().map_err(storage)?;
    Ok(records.finish(plan.end)?)
}

fn check(stop: &AtomicBool) -> Result<(), SealError> {
    if stop.load(Ordering::Acquire) {
        return Err(SealError::Stopped);
    }
    Ok(())
}

struct Output {
    out: BlockFileWriter<File>,
    meta: FrameMeta,
}

impl Output {
    fn block(&mut self, block: &Block) -> Result<(), SealError> {
        let frame = encode_frame(block, self.meta);
        self.out.frame(block, &frame).map_err(storage)
    }

    /// A block that is stored in one frame, which is as good as any that would be made of it.
    fn stored(&mut self, block: &Block, frame: Vec<u8>) -> Result<(), SealError> {
        match written_by(frame, self.meta.boot) {
            Some(frame) => self.out.frame(block, &frame).map_err(storage),
            None => self.block(block),
        }
    }
}

/// Reads the file that was written: every block, every record, and all of its bytes must be what they were.
pub(super) fn compare(
    partial: &Path,
    plan: &Plan,
    digest: u128,
    stop: &AtomicBool,
    pace: &mut Pace<'_>,
) -> Result<(), SealError> {
    let file = BlockFile::open(partial, plan.new.first)?;
    file.check_digest(&mut |_| ())?;
    let mut records = Records::from(plan.new.first);
    for number in 0..file.blocks() {
        check(stop)?;
        let Some(block) = file.block(number)? else { break };
        records.add(&block)?;
        pace.worked(block.bytes().len());
    }
    if records.finish(plan.end)? != digest {
        let text = format!(
            "{} does not hold the records that it was written from",
            partial.display()
        );
        return Err(SealError::Failed(LogError::Storage(text)));
    }
    Ok(())
}

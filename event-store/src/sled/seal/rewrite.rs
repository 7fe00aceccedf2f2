//! Rewrites the records of volumes into a file of full blocks, and compares what was written with what was read.

use super::pace::Pace;
use super::plan::Plan;
use super::{SealError, storage};
use crate::block_file::{BlockFile, BlockFileWriter, Repack};
use crate::frame::{FrameMeta, encode_frame};
use crate::sled::shared::Shared;
use annals_core::{Block, LogError, Position, RecordRef};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Digest of records, whatever blocks they are in.
#[derive(Default)]
pub(super) struct Records {
    digest: Sha256,
    next: Position,
}

impl Records {
    fn from(first: Position) -> Self {
        Self {
            next: first,
            ..Self::default()
        }
    }

    /// Takes the next record; an error if another one should follow.
    fn add(&mut self, record: &RecordRef<'_>) -> Result<(), LogError> {
        if record.position != self.next {
            return Err(LogError::Damaged {
                position: self.next,
                detail: "the event is missing".into(),
            });
        }
        self.next = self.next.next();
        let lens = [record.header_bytes.len() as u64, record.payload.len() as u64];
        lens.iter().for_each(|len| self.digest.update(len.to_le_bytes()));
        self.digest.update(record.header_bytes);
        self.digest.update(record.payload);
        Ok(())
    }

    /// The digest, if the records go up to `end`.
    fn finish(self, end: Position) -> Result<[u8; 32], LogError> {
        if self.next != end.next() {
            return Err(LogError::Damaged {
                position: self.next,
                detail: "the event is missing".into(),
            });
        }
        Ok(self.digest.finalize().into())
    }
}

/// Writes the records of the plan's volumes into a synced file; gives their digest.
pub(super) fn rewrite(
    shared: &Shared,
    plan: &Plan,
    partial: &Path,
    stop: &AtomicBool,
    pace: &mut Pace<'_>,
) -> Result<[u8; 32], SealError> {
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
        for block in volume.scan(records.next)? {
            let block = block?;
            for record in block.iter().take_while(|record| !is_beyond(record, end)) {
                let record = record.map_err(LogError::from)?;
                records.add(&record)?;
                if let Some(full) = repack.push(record.header_bytes, record.payload) {
                    output.block(&full)?;
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

fn is_beyond<E>(record: &Result<RecordRef<'_>, E>, end: Position) -> bool {
    record.as_ref().is_ok_and(|record| record.position > end)
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
}

/// Reads the file that was written: every block, every record, and all of its bytes must be what they were.
pub(super) fn compare(
    partial: &Path,
    plan: &Plan,
    digest: &[u8; 32],
    stop: &AtomicBool,
    pace: &mut Pace<'_>,
) -> Result<(), SealError> {
    let file = BlockFile::open(partial, plan.new.first)?;
    file.check_digest(&mut |_| ())?;
    let mut records = Records::from(plan.new.first);
    for number in 0..file.blocks() {
        check(stop)?;
        let Some(block) = file.block(number)? else { break };
        for record in block.iter() {
            records.add(&record.map_err(LogError::from)?)?;
        }
        pace.worked(block.bytes().len());
    }
    if records.finish(plan.end)? != *digest {
        let text = format!(
            "{} does not hold the records that it was written from",
            partial.display()
        );
        return Err(SealError::Failed(LogError::Storage(text)));
    }
    Ok(())
}

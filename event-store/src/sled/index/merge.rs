//! Merging: neighbouring runs of one level become one of the next, so that a look-up asks few of them. Entries stream from
//! the old files to the new one; what is kept in memory is the filter and the fences of the new run.

use super::Index;
use super::run::{Run, storage};
use super::run_path;
use super::scan::Scan;
use super::write::{RunWriter, Stretch};
use annals_core::LogError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How many runs of a level become one of the next.
const FAN_IN: usize = 4;
/// More keys are not merged into one run: its filter is in memory while it is written.
const KEYS_MAX: u64 = 32 << 20;
/// So many runs waiting to be merged make merging go on without rests.
const BACKLOG: usize = 3 * FAN_IN;
/// How many entries are merged before the merger looks up: whether to stop, whether to rest.
const SLICE: usize = 4096;
const REST_MAX: Duration = Duration::from_millis(20);

/// The next runs to merge: where they begin.
fn due(runs: &[Arc<Run>]) -> Option<usize> {
    // Levels fall from the oldest run to the newest; the newest full group is the cheapest to merge.
    let mut end = runs.len();
    while end > 0 {
        let level = runs[end - 1].level;
        let start = runs[..end]
            .iter()
            .rposition(|run| run.level != level)
            .map_or(0, |at| at + 1);
        if end - start >= FAN_IN {
            let keys: u64 = runs[start..start + FAN_IN].iter().map(|run| run.footer.keys).sum();
            if keys <= KEYS_MAX {
                return Some(start);
            }
        }
        end = start;
    }
    None
}

impl Index {
    /// Merges one group of runs, if one is due; whether it did. When told to stop it leaves everything as it was.
    pub(in crate::sled) fn merge_once(&self, stop: &AtomicBool) -> Result<bool, LogError> {
        let runs = self.runs();
        let Some(start) = due(&runs) else { return Ok(false) };
        let group = &runs[start..start + FAN_IN];
        let (oldest, newest) = (&group[0], &group[FAN_IN - 1]);
        let number = self.new_number();
        let path = run_path(&self.dir, number);
        let stretch = Stretch {
            epoch: oldest.footer.epoch,
            number,
            after: oldest.footer.after,
            last: newest.footer.last,
            level: oldest.level + 1,
            keys_max: group.iter().map(|run| run.footer.keys).sum(),
        };
        let merged = RunWriter::create(&path, stretch).and_then(|writer| self.copy(group, writer, stop));
        let merged = match merged {
            Ok(Some(writer)) => writer.finish(),
            Ok(None) => {
                std::fs::remove_file(&path).map_err(storage)?;
                return Ok(false);
            }
            Err(error) => Err(error),
        };
        let merged = merged.inspect_err(|_| {
            // It counts only when the manifest names it; what is left is removed when the index is opened again.
            let _ = std::fs::remove_file(&path);
        })?;
        // Meanwhile runs were added at the end only: this is the one thread that takes any away.
        self.commit(None, |runs| {
            runs.splice(start..start + FAN_IN, [Arc::new(merged)]);
        })?;
        Ok(true)
    }

    /// Copies all entries, resting as long as it works unless runs pile up; `None` when told to stop.
    fn copy(
        &self,
        group: &[Arc<Run>],
        mut writer: RunWriter,
        stop: &AtomicBool,
    ) -> Result<Option<RunWriter>, LogError> {
        let mut scan = self.noticed(Scan::new(group, &[]))?;
        let (mut count, mut since) = (0usize, Instant::now());
        while let Some(entry) = self.noticed(scan.next_entry())? {
            writer.push(&entry.key, entry.order, &entry.positions)?;
            count += 1;
            if count.is_multiple_of(SLICE) {
                if stop.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                let fresh = self.runs().iter().filter(|run| run.level == 0).count();
                if fresh < BACKLOG {
                    std::thread::sleep(since.elapsed().min(REST_MAX));
                }
                since = Instant::now();
            }
        }
        Ok(Some(writer))
    }
}

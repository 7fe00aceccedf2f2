//! What can be set about views and reactors. Every bound has a default that suits one machine.

use crate::ViewDefinition;
use crate::failures::{Backoff, Bounds};
use annals_core::FailurePolicy;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Directories and bounds of views and reactors. Make one with [`ProjectionSettings::new`], then change what differs.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProjectionSettings {
    /// Where views keep their stores. May be deleted while nothing runs: it is then built anew from the log.
    pub views_dir: PathBuf,
    /// Where reactors keep their outboxes. Not derived from the log: belongs into a backup.
    pub reactors_dir: PathBuf,
    /// Whether a view that has read further than the log's end, in the log's epoch, waits for a person to decide instead of
    /// being built anew. For a log that is another node's: there it means that the log lost events.
    pub refuse_ahead: bool,
    /// Most events in one batch.
    pub batch_events_max: usize,
    /// Most rows that one batch of a serving view changes; batches grow with the lag up to this.
    pub batch_rows_max: usize,
    /// Most rows that a build keeps in memory before it writes them.
    pub build_rows_max: usize,
    /// Percent of the time that a rebuild works while others append; it has all of it while nobody does.
    pub rebuild_share_percent: u32,
    /// Threads that all views together fold and write with when much is to be done; 0: one for each processor, 8 at most.
    /// What comes of it does not depend on them.
    pub fold_threads: usize,
    /// Bytes of records read from the log at once.
    pub read_bytes: usize,
    /// Bytes of rows that a view keeps in memory for folding, about.
    pub table_bytes_max: usize,
    /// Bytes of what was read from the disk that all views and reactors together keep in memory.
    pub cache_bytes: u64,
    /// Most files of stores that are kept open.
    pub open_files_max: usize,
    /// Bytes of rows that a view or reactor gathers in memory before it spills them, about.
    pub spill_bytes: u64,
    /// The same for all of them together, with what is being spilled.
    pub spill_bytes_all: u64,
    /// What was written is spilled after this long; what a kill takes before that is folded again.
    pub spill_every: Duration,
    /// Largest row in bytes. A larger one stops its view.
    pub row_bytes_max: usize,
    /// Free bytes on the disk below which views and reactors wait instead of writing.
    pub reserve_bytes: u64,
    /// Most commands of one reactor that are dispatched at the same time, each for another key.
    pub dispatch_in_flight_max: usize,
    /// Most commands that wait in the outbox of one reactor; it reads no further events until there are fewer.
    pub outbox_pending_max: usize,
    /// How often an event or a command that fails is tried before it is a dead letter, at least once.
    pub attempts_max: u32,
    /// Pause after the first failed attempt; each further one is twice as long, spread by a quarter up or down.
    pub retry_pause_min: Duration,
    /// Longest pause between two attempts.
    pub retry_pause_max: Duration,
    /// Most keys that one view or reactor parks; with one more it stops.
    pub dead_letters_max: usize,
    /// Events that wait for the parked keys of one view, about; with more it stops.
    pub parked_events_max: u64,
    /// How long views keep what their rows were, by recorded time; `None`: for ever. Older versions are dropped little by
    /// little; what held at the beginning of that time is kept.
    pub history_kept: Option<Duration>,
    /// The same for single views, by their names.
    pub history_kept_by: BTreeMap<String, Option<Duration>>,
    /// What views do about failing events, by their names; all others do as their code says.
    pub on_failure: BTreeMap<String, FailurePolicy>,
}

impl ProjectionSettings {
    /// Settings with these directories and the defaults for everything else.
    pub fn new(views_dir: impl Into<PathBuf>, reactors_dir: impl Into<PathBuf>) -> Self {
        Self {
            views_dir: views_dir.into(),
            reactors_dir: reactors_dir.into(),
            refuse_ahead: false,
            batch_events_max: 16_384,
            batch_rows_max: 2_048,
            build_rows_max: 131_072,
            rebuild_share_percent: 20,
            fold_threads: 0,
            read_bytes: 1024 * 1024,
            table_bytes_max: 16 * 1024 * 1024,
            cache_bytes: 32 * 1024 * 1024,
            open_files_max: 128,
            spill_bytes: 8 * 1024 * 1024,
            spill_bytes_all: 64 * 1024 * 1024,
            spill_every: Duration::from_secs(10),
            row_bytes_max: 16 * 1024 * 1024,
            reserve_bytes: 64 * 1024 * 1024,
            dispatch_in_flight_max: 32,
            outbox_pending_max: 4_096,
            attempts_max: 5,
            retry_pause_min: Duration::from_millis(100),
            retry_pause_max: Duration::from_secs(30),
            dead_letters_max: 1_000,
            parked_events_max: 100_000,
            history_kept: None,
            history_kept_by: BTreeMap::new(),
            on_failure: BTreeMap::new(),
        }
    }

    /// What this view does about an event that fails.
    pub(crate) fn policy(&self, view: &ViewDefinition) -> FailurePolicy {
        self.on_failure
            .get(view.name())
            .copied()
            .unwrap_or_else(|| view.on_failure())
    }

    /// How long this view keeps what its rows were.
    pub(crate) fn history_kept(&self, view: &str) -> Option<Duration> {
        self.history_kept_by.get(view).copied().unwrap_or(self.history_kept)
    }

    pub(crate) fn backoff(&self) -> Backoff {
        Backoff {
            attempts_max: self.attempts_max.max(1),
            pause_min: self.retry_pause_min,
            pause_max: self.retry_pause_max,
        }
    }

    pub(crate) fn letter_bounds(&self) -> Bounds {
        Bounds {
            letters_max: self.dead_letters_max,
            waiting_max: self.parked_events_max,
        }
    }
}

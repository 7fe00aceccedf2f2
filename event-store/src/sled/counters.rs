//! Counts what happens to appends, for [`LogMetrics`]. Plain atomics: the writer pays a few additions for each append.

use super::shared::{HEADS_MAX, Shared};
use crate::metrics::{CacheMetrics, LogMetrics};
use annals_core::{AppendError, Appended, Histogram};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Ranges of sync times, microseconds.
const SYNC_MICROS: &[u64] = &[
    100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 1_000_000, 10_000_000,
];
/// Why appends are refused.
const REASONS: [&str; 11] = [
    "conflict",
    "condition-failed",
    "condition-outrun",
    "key-reused",
    "overloaded",
    "storage-full",
    "clock-jumped",
    "invalid",
    "closed",
    "failed",
    "other",
];

pub(super) struct Counters {
    appends: AtomicU64,
    duplicates: AtomicU64,
    events: AtomicU64,
    bytes: AtomicU64,
    turns: AtomicU64,
    sync: Histogram,
    refused: [AtomicU64; REASONS.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            appends: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            events: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            sync: Histogram::new(SYNC_MICROS),
            refused: Default::default(),
        }
    }
}

fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

impl Counters {
    /// An append was decided.
    pub(super) fn decided(&self, answer: &Result<Appended, AppendError>) {
        match answer {
            Ok(appended) if appended.duplicate => add(&self.duplicates, 1),
            Ok(appended) => {
                add(&self.appends, 1);
                add(&self.events, appended.events.len() as u64);
            }
            // Sent back to be checked anew: whoever gives up counts it.
            Err(AppendError::ConditionOutrun { .. }) => {}
            Err(error) => self.refused(error),
        }
    }

    /// An append was refused.
    pub(super) fn refused(&self, error: &AppendError) {
        let reason = match error {
            AppendError::VersionConflict { .. } => "conflict",
            AppendError::KeyReused { .. } => "key-reused",
            AppendError::Overloaded { .. } => "overloaded",
            AppendError::StorageFull { .. } => "storage-full",
            AppendError::ClockJumped { .. } => "clock-jumped",
            AppendError::Invalid(_) | AppendError::TooLarge { .. } => "invalid",
            AppendError::Closed(_) => "closed",
            AppendError::OutcomeUnknown(_) | AppendError::Log(_) => "failed",
            AppendError::ConditionFailed { .. } => "condition-failed",
            AppendError::ConditionOutrun { .. } => "condition-outrun",
            _ => "other",
        };
        if let Some(at) = REASONS.iter().position(|known| *known == reason) {
            add(&self.refused[at], 1);
        }
    }

    /// A group was stored by an append's own runtime.
    pub(super) fn turned(&self) {
        add(&self.turns, 1);
    }

    /// A group of so many bytes was written and synced.
    pub(super) fn synced(&self, bytes: usize, took: Duration) {
        add(&self.bytes, bytes as u64);
        self.sync.add(took);
    }
}

/// All numbers of a log.
pub(super) fn read(shared: &Shared) -> LogMetrics {
    let counters = &shared.counters;
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let sync = counters.sync.snapshot();
    let (queue_appends, queue_bytes) = shared.queue.waiting();
    let refused = REASONS.into_iter().zip(counters.refused.iter().map(get)).collect();
    LogMetrics {
        appends: get(&counters.appends),
        duplicates: get(&counters.duplicates),
        events: get(&counters.events),
        groups: sync.count,
        turns: get(&counters.turns),
        bytes: get(&counters.bytes),
        sync,
        refused,
        queue_appends: (queue_appends, shared.settings.queue_appends_max),
        queue_bytes: (queue_bytes, shared.settings.queue_bytes_max),
        head: shared.head.get(),
        stored: shared.recent.stored(),
        unindexed: shared.tail.len(),
        volumes: shared.volumes.starts().len(),
        caches: caches(shared),
        failed: shared.fatal.get().is_some(),
    }
}

fn caches(shared: &Shared) -> Vec<CacheMetrics> {
    let blocks = CacheMetrics {
        name: "blocks",
        used: shared.blocks.weight(),
        capacity: shared.blocks.capacity(),
        hits: shared.blocks.hits(),
        misses: shared.blocks.misses(),
    };
    let heads = CacheMetrics {
        name: "stream-heads",
        used: shared.heads.len() as u64,
        capacity: HEADS_MAX as u64,
        hits: shared.heads.hits(),
        misses: shared.heads.misses(),
    };
    vec![blocks, heads, shared.index.cache_metrics()]
}

//! What a log says about itself to whoever watches it. Numbers only; nothing here knows an engine.

use annals_core::{HistogramSnapshot, Position};

/// Numbers of a log at one moment. Counters begin at zero when the log is opened.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct LogMetrics {
    /// Appends accepted, those answered as known not counted.
    pub appends: u64,
    /// Appends answered as known: their key or event ids were in the log already.
    pub duplicates: u64,
    /// Events accepted.
    pub events: u64,
    /// Groups that were synced.
    pub groups: u64,
    /// Those of them that an append's own runtime stored, because there was little to do.
    pub turns: u64,
    /// Bytes that were synced.
    pub bytes: u64,
    /// How long writing and syncing a group took.
    pub sync: HistogramSnapshot,
    /// Appends refused, by reason.
    pub refused: Vec<(&'static str, u64)>,
    /// Appends that wait, and the most that may.
    pub queue_appends: (usize, usize),
    /// Bytes of appends that wait, and the most that may.
    pub queue_bytes: (usize, usize),
    /// The durable head.
    pub head: Position,
    /// How far the volumes hold the log; what follows is in the journal and in memory.
    pub stored: Position,
    /// Events that are in memory because the index does not have them yet.
    pub unindexed: usize,
    /// Volumes.
    pub volumes: usize,
    /// Caches.
    pub caches: Vec<CacheMetrics>,
    /// Whether the storage failed, so that appends are refused until the log is opened again.
    pub failed: bool,
}

/// Numbers of one cache.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CacheMetrics {
    /// Which one.
    pub name: &'static str,
    /// What is in it: bytes, or entries where each is small.
    pub used: u64,
    /// The most that it takes, in the same unit.
    pub capacity: u64,
    /// Look-ups that found something.
    pub hits: u64,
    /// Look-ups that found nothing.
    pub misses: u64,
}

//! How far views and reactors are, and what keeps them from going on: what operators read.

use crate::Comparison;
use annals_core::Position;
use chrono::{DateTime, Utc};
use serde::Serialize;

/// A view or a reactor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProjectionKind {
    /// A read model.
    View,
    /// A process that answers events with commands.
    Reactor,
}

/// What a view or reactor is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ProjectionState {
    /// It is opening its store.
    Starting,
    /// It follows the log.
    Running,
    /// It is being built from the log's beginning and serves nothing until that is done.
    Rebuilding,
    /// The disk is full; it goes on by itself when there is space again.
    WaitingForSpace,
    /// A person told it to rest; its rows are served as they stand.
    Paused,
    /// It does not go on; `error` says why and what to do.
    Stopped,
    /// It is not running: the status was read from its store.
    Offline,
}

impl ProjectionState {
    /// The name that it has in JSON: `running`, `waiting-for-space`…
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Rebuilding => "rebuilding",
            Self::WaitingForSpace => "waiting-for-space",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Offline => "offline",
        }
    }
}

/// Status of a view or reactor.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ProjectionStatus {
    /// Its name.
    pub name: String,
    /// View or reactor.
    pub kind: ProjectionKind,
    /// A view's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// What it is doing.
    pub state: ProjectionState,
    /// Up to where it has read the log.
    pub position: Position,
    /// Where the log ends.
    pub head: Position,
    /// Events it has not read yet.
    pub lag_events: u64,
    /// Age of the first event it has not read yet, in seconds; zero at the head.
    pub lag_seconds: f64,
    /// Events a second, lately.
    pub rate: f64,
    /// Why it stopped or waits, and what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Events or commands that failed and whose keys are parked, or that it stopped at.
    pub dead_letters: u64,
    /// A view's rebuild that is going on, or the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rebuild: Option<RebuildStatus>,
    /// A reactor's commands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outbox: Option<OutboxStatus>,
}

/// What became of a reactor's commands.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct OutboxStatus {
    /// Commands that wait for dispatch or for another attempt.
    pub pending: u64,
    /// Commands that were accepted.
    pub dispatched: u64,
    /// Commands that the domain rejected, which is final.
    pub rejected: u64,
    /// When the next timer is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_timer_at: Option<DateTime<Utc>>,
    /// The command that is being retried, with its attempts and last error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retrying: Option<String>,
}

/// What a rebuild is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RebuildState {
    /// It folds the log into the shadow, or compares.
    Running,
    /// A person told it to rest.
    Paused,
    /// The new rows are whole and wait to be swapped in.
    Ready,
    /// The shadow took the place of the old store.
    Done,
    /// It failed; the old store still serves.
    Failed,
    /// It was cancelled by a person, or interrupted by a shutdown and goes on after it; the old store still serves.
    Cancelled,
}

/// How far a rebuild is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RebuildStatus {
    /// What it is doing.
    pub state: RebuildState,
    /// The version that is being built.
    pub version: u32,
    /// Up to where it has read the log.
    pub position: Position,
    /// Where it has to get to.
    pub total: Position,
    /// Events a second since it began.
    pub events_per_second: f64,
    /// Seconds until it is done, at that rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<f64>,
    /// Whether the new rows take the place of the old ones by themselves.
    pub swap: bool,
    /// Old rows compared with new ones, if that was asked for and is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

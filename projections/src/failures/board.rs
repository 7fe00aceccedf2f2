//! The dead letters of a store as everybody sees them: put up by its worker, read by queries and people, without I/O.

use crate::ProjectionKind;
use crate::store::Letter;
use annals_core::Position;
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// What becomes of an event or command that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DeadLetterState {
    /// It is tried again by itself; its key waits meanwhile.
    Retrying,
    /// It was tried often enough: its key waits until a person says what to do.
    Parked,
    /// The whole view or reactor waits for it.
    Stopped,
}

/// An event that a view or reactor could not fold, or a command that could not be carried out, and what waits for it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Names it in paths.
    pub id: String,
    /// The view or reactor.
    pub projection: String,
    /// Which of the two.
    pub kind: ProjectionKind,
    /// The view's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// What becomes of it.
    pub state: DeadLetterState,
    /// Key of the row or state; none if the event's keys are not known.
    pub key: Option<String>,
    /// The event: where it stands.
    pub position: Position,
    /// Its id.
    pub event_id: String,
    /// Its type.
    pub event_type: String,
    /// Its stream.
    pub stream: String,
    /// Which of the event's commands, for a command of a reactor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// Command and stream, for a command of a reactor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// What went wrong the last time.
    pub error: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Events or commands of the key that wait, this one among them.
    pub waiting: u64,
    /// When it failed first.
    pub first_failed_at: DateTime<Utc>,
    /// When it failed last.
    pub last_failed_at: DateTime<Utc>,
}

/// A letter of the view of this version.
pub(crate) fn dead_letter(view: &str, version: u32, letter: &Letter, state: DeadLetterState) -> DeadLetter {
    let key = letter.key.as_deref().map(|key| format!(":{}", short(key)));
    let id = format!("{view}:{version}:{}{}", letter.position, key.unwrap_or_default());
    DeadLetter {
        kind: ProjectionKind::View,
        version: Some(version),
        ..shown(id, view, letter, state)
    }
}

/// A letter of the event that a reactor stopped at.
pub(crate) fn event_letter(reactor: &str, letter: &Letter, state: DeadLetterState) -> DeadLetter {
    shown(format!("{reactor}:{}", letter.position), reactor, letter, state)
}

fn shown(id: String, projection: &str, letter: &Letter, state: DeadLetterState) -> DeadLetter {
    DeadLetter {
        id,
        projection: projection.to_owned(),
        kind: ProjectionKind::Reactor,
        version: None,
        state,
        key: letter.key.clone(),
        position: letter.position,
        event_id: letter.event_id.clone(),
        event_type: letter.event_type.clone(),
        stream: letter.stream.clone(),
        number: None,
        command: None,
        error: letter.error.clone(),
        attempts: letter.attempts,
        waiting: letter.waiting,
        first_failed_at: annals_core::time(letter.first_failed),
        last_failed_at: annals_core::time(letter.last_failed),
    }
}

/// Eight characters that stand for a key in an id, because a key may have characters that a path may not.
fn short(key: &str) -> String {
    format!("{:08x}", crc32c::crc32c(key.as_bytes()))
}

/// The parked keys of one store. Whoever looks holds up nobody.
#[derive(Debug, Default)]
pub(crate) struct Board {
    parked: RwLock<Arc<BTreeMap<String, Posted>>>,
}

/// A letter on the board.
#[derive(Debug, Clone)]
pub(crate) struct Posted {
    pub(crate) letter: Arc<Letter>,
    /// Whether it is tried again by itself.
    pub(crate) retrying: bool,
}

impl Board {
    pub(crate) fn put_up(&self, parked: BTreeMap<String, Posted>) {
        *self.parked.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(parked);
    }

    pub(crate) fn all(&self) -> Arc<BTreeMap<String, Posted>> {
        Arc::clone(&self.parked.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The event that the key waits for.
    pub(crate) fn parked(&self, key: &str) -> Option<Position> {
        self.all().get(key).map(|posted| posted.letter.position)
    }
}

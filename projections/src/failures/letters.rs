//! The letters of one store as its worker keeps them: which keys are parked, when each is tried again, and what of that
//! is not written yet.

use super::backoff::Backoff;
use super::board::{Board, Posted};
use super::skips::Skips;
use crate::store::{Letter, LetterChange, RowStore, StoreError};
use annals_core::{EventLog, KEY_LEN_MAX, Position};
use chrono::Utc;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest error that is kept in bytes.
const ERROR_LEN_MAX: usize = 2_000;

/// Bounds of what is parked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) letters_max: usize,
    pub(crate) waiting_max: u64,
}

struct Parked {
    letter: Arc<Letter>,
    /// When it is tried again; none: not by itself.
    due: Option<Instant>,
}

/// See the module.
pub(crate) struct Letters {
    backoff: Backoff,
    bounds: Bounds,
    parked: BTreeMap<String, Parked>,
    waiting: u64,
    changes: Vec<LetterChange>,
    stopped: Option<Letter>,
}

impl Letters {
    /// No letters.
    pub(crate) fn new(backoff: Backoff, bounds: Bounds) -> Self {
        Self {
            backoff,
            bounds,
            parked: BTreeMap::new(),
            waiting: 0,
            changes: Vec::new(),
            stopped: None,
        }
    }

    /// The letters of a store. Those that were not tried often enough are due at once, as are those that were skipped.
    pub(crate) fn load(store: &RowStore, backoff: Backoff, bounds: Bounds, skips: &Skips) -> Result<Self, StoreError> {
        let (letters, stopped) = store.letters()?;
        let mut loaded = Self::new(backoff, bounds);
        loaded.stopped = stopped;
        for letter in letters {
            let Some(key) = letter.key.clone() else { continue };
            let due = letter.attempts < backoff.attempts_max || skips.settles(letter.position, Some(&key));
            loaded.waiting += letter.waiting;
            let letter = Arc::new(letter);
            loaded.parked.insert(
                key,
                Parked {
                    letter,
                    due: due.then(Instant::now),
                },
            );
        }
        Ok(loaded)
    }

    pub(crate) fn is_parked(&self, key: &str) -> bool {
        !self.parked.is_empty() && self.parked.contains_key(key)
    }

    /// Whether one more key may be parked; the text says which bound is reached.
    pub(crate) fn room(&self) -> Result<(), String> {
        if self.parked.len() >= self.bounds.letters_max {
            return Err(format!(
                "{} keys are parked already, more are not allowed",
                self.parked.len()
            ));
        }
        if self.waiting >= self.bounds.waiting_max {
            return Err(self.waiting_text());
        }
        Ok(())
    }

    /// How many events wait, where that are too many.
    pub(crate) fn waiting_text(&self) -> String {
        format!(
            "{} events wait for parked keys, {} are allowed",
            self.waiting, self.bounds.waiting_max
        )
    }

    /// Whether the events that wait have reached their bound.
    pub(crate) fn is_full(&self) -> bool {
        !self.parked.is_empty() && self.waiting >= self.bounds.waiting_max
    }

    /// Parks a key whose event failed for the first time. The event itself is counted when it is read again, with those
    /// that wait.
    pub(crate) fn park(&mut self, letter: Letter) {
        let Some(key) = letter.key.clone() else { return };
        self.put(key, Letter { waiting: 0, ..letter });
    }

    fn put(&mut self, key: String, letter: Letter) {
        let pause = self.backoff.after(letter.attempts, letter.position.get());
        self.changes.push(LetterChange::Put(letter.clone()));
        let due = pause.map(|pause| Instant::now() + pause);
        let letter = Arc::new(letter);
        self.parked.insert(key, Parked { letter, due });
    }

    /// Events of parked keys that were read.
    pub(crate) fn wait(&mut self, waiting: Vec<(String, Position)>) {
        let mut touched = BTreeSet::new();
        for (key, position) in waiting {
            if let Some(parked) = self.parked.get_mut(&key) {
                Arc::make_mut(&mut parked.letter).waiting += 1;
                self.waiting += 1;
                touched.insert(key.clone());
                self.changes.push(LetterChange::Wait(key, position));
            }
        }
        for parked in touched.iter().filter_map(|key| self.parked.get(key)) {
            self.changes.push(LetterChange::Put((*parked.letter).clone()));
        }
    }

    /// The key whose turn it is to be folded again.
    pub(crate) fn due(&self, now: Instant) -> Option<String> {
        let due = self.parked.iter().filter_map(|(key, parked)| Some((parked.due?, key)));
        let (at, key) = due.min_by_key(|(at, _)| *at)?;
        (at <= now).then(|| key.clone())
    }

    /// How long until it is some key's turn.
    pub(crate) fn next_due(&self, now: Instant) -> Option<Duration> {
        let due = self.parked.values().filter_map(|parked| parked.due);
        due.min().map(|at| at.saturating_duration_since(now))
    }

    /// A person asked for another attempt, or to pass the event by: that key's turn is now.
    pub(crate) fn again(&mut self, position: Position, key: &str) -> bool {
        match self.parked.get_mut(key) {
            Some(parked) if parked.letter.position == position => {
                Arc::make_mut(&mut parked.letter).attempts = 0;
                parked.due = Some(Instant::now());
                true
            }
            _ => false,
        }
    }

    /// The first events that waited for a key are folded or passed by; then one failed, or the next ones are to come.
    pub(crate) fn folded(&mut self, key: &str, done: &[Position], failed: Option<Letter>, next: Option<Position>) {
        let Some(parked) = self.parked.get_mut(key) else { return };
        for position in done {
            self.changes.push(LetterChange::Waited(key.to_owned(), *position));
        }
        let mut letter = (*parked.letter).clone();
        letter.waiting = letter.waiting.saturating_sub(done.len() as u64);
        self.waiting = self.waiting.saturating_sub(done.len() as u64);
        match (failed, next) {
            (Some(failed), _) => {
                let same = failed.position == letter.position;
                let letter = Letter {
                    attempts: if same { letter.attempts + 1 } else { 1 },
                    first_failed: if same { letter.first_failed } else { failed.first_failed },
                    waiting: letter.waiting,
                    ..failed
                };
                self.put(key.to_owned(), letter);
            }
            (None, Some(next)) => {
                letter.position = next;
                letter.attempts = 0;
                self.changes.push(LetterChange::Put(letter.clone()));
                parked.letter = Arc::new(letter);
                parked.due = Some(Instant::now());
            }
            (None, None) => {
                self.parked.remove(key);
                self.changes.push(LetterChange::Remove(key.to_owned()));
            }
        }
    }

    /// The view stops at this event, or goes on.
    pub(crate) fn stop_at(&mut self, letter: Option<Letter>) {
        if self.stopped != letter {
            self.changes.push(LetterChange::Stopped(letter.clone()));
            self.stopped = letter;
        }
    }

    /// What is not written yet.
    pub(crate) fn take_changes(&mut self) -> Vec<LetterChange> {
        std::mem::take(&mut self.changes)
    }

    /// Shows everybody how it is.
    pub(crate) fn put_up(&self, board: &Board) {
        let posted = |parked: &Parked| Posted {
            letter: Arc::clone(&parked.letter),
            retrying: parked.due.is_some(),
        };
        board.put_up(
            self.parked
                .iter()
                .map(|(key, parked)| (key.clone(), posted(parked)))
                .collect(),
        );
    }
}

/// A letter about an event that failed just now, for the first time as far as it goes by itself.
pub(crate) fn letter(log: &dyn EventLog, position: Position, key: Option<String>, error: &str) -> Letter {
    let now = Utc::now().timestamp_micros();
    let mut letter = Letter {
        // A key that is too long names no row.
        key: key.filter(|key| key.len() <= KEY_LEN_MAX),
        position,
        event_id: String::new(),
        event_type: String::new(),
        stream: String::new(),
        error: error[..error.floor_char_boundary(ERROR_LEN_MAX)].to_owned(),
        attempts: 1,
        first_failed: now,
        last_failed: now,
        waiting: 1,
    };
    // An event that cannot be read here cannot be folded either, and then the log's error is what is told.
    if let Ok(Some(record)) = log.read_one(position)
        && let Ok(record) = record.view()
    {
        letter.event_id = record.header.id.to_string();
        letter.event_type = record.header.event_type.to_owned();
        letter.stream = record.header.stream.to_owned();
    }
    letter
}

//! Closed volumes that are open for reading: few at a time, each once, whoever asks. One that is damaged is looked at once,
//! and whoever asks for it later is told what was found then.

use super::stored::{Keeping, Stored};
use annals_core::LogError;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, Weak};

/// How many volumes that were closed by this process stay open for readers as they are; sled keeps nearly all of each.
pub(super) const WRITTEN_OPEN_MAX: usize = 2;
/// How many others stay open for readers; each keeps a table of its blocks.
const TABLES_OPEN_MAX: usize = 32;

/// What is known of a volume.
pub(super) enum Seen {
    /// It was opened, and is open as long as somebody holds it.
    Open(Weak<Stored>),
    /// It cannot be opened, and why. It is not looked at again: each look may take long, and finds the same.
    Damaged(LogError),
}

impl Default for Seen {
    fn default() -> Self {
        Self::Open(Weak::new())
    }
}

impl Seen {
    /// The volume if it is open; the error if it is known to be damaged.
    pub(super) fn volume(&self) -> Result<Option<Arc<Stored>>, LogError> {
        match self {
            Self::Open(volume) => Ok(volume.upgrade()),
            Self::Damaged(error) => Err(error.clone()),
        }
    }
}

/// Where a volume is opened: who comes second waits for the first, and nobody else does.
pub(super) type Slot = Arc<Mutex<Seen>>;

/// Closed volumes that are open for reading.
#[derive(Default)]
pub(super) struct Opened {
    /// Kept open, least recently used first.
    recent: VecDeque<(String, Arc<Stored>)>,
    /// Of every volume that was ever opened, by name: also of those that only a reader still holds.
    pub(super) slots: HashMap<String, Slot>,
}

impl Opened {
    /// Keeps a volume open; gives what has to go for it, to be closed where no lock is held.
    pub(super) fn keep(&mut self, name: &str, volume: &Arc<Stored>) -> Vec<(String, Arc<Stored>)> {
        let mut gone: Vec<_> = self.forget(name).into_iter().collect();
        self.recent.push_back((name.to_owned(), volume.clone()));
        for (keeping, max) in [(Keeping::Memory, WRITTEN_OPEN_MAX), (Keeping::Table, TABLES_OPEN_MAX)] {
            let of_kind = |kept: &&(String, Arc<Stored>)| kept.1.keeping() == keeping;
            if self.recent.iter().filter(of_kind).count() > max {
                let oldest = self.recent.iter().position(|kept| of_kind(&kept));
                gone.extend(oldest.and_then(|oldest| self.recent.remove(oldest)));
            }
        }
        gone
    }

    pub(super) fn forget(&mut self, name: &str) -> Option<(String, Arc<Stored>)> {
        let known = self.recent.iter().position(|(kept, _)| kept == name)?;
        self.recent.remove(known)
    }
}

//! What changed in the rows of a view, told to those who watch it after each write. Nobody is waited for: who is slow
//! learns only that anything may have changed.

use crate::definition::Change;
use std::sync::Arc;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::broadcast::{Receiver, Sender};

/// Writes that are kept for those who watch; each has at most as many keys as a write has rows.
const KEPT_MAX: usize = 32;

/// What one write changed.
#[derive(Debug)]
enum Changed {
    /// The rows of these keys, in order, and whether each may stand elsewhere in a list than before.
    Rows(Vec<(String, bool)>),
    /// Perhaps all: another store took the place of the one before.
    All,
}

/// Where a view tells what it wrote.
pub(crate) struct Changes(Sender<Arc<Changed>>);

impl Changes {
    pub(crate) fn new() -> Self {
        Self(Sender::new(KEPT_MAX))
    }

    /// These were written. Costs nothing while nobody watches.
    pub(crate) fn rows(&self, changes: &[Change]) {
        if self.0.receiver_count() == 0 || changes.is_empty() {
            return;
        }
        let moved = |change: &Change| change.old_len.is_none() || !change.index_added.is_empty();
        let keys = changes
            .iter()
            .map(|change| (change.key.as_str().to_owned(), moved(change)));
        let mut keys: Vec<_> = keys.collect();
        keys.sort_unstable();
        // Nobody may watch any more: that is fine.
        let _ = self.0.send(Arc::new(Changed::Rows(keys)));
    }

    /// All rows may be others.
    pub(crate) fn all(&self) {
        let _ = self.0.send(Arc::new(Changed::All));
    }

    pub(crate) fn watch(&self) -> ViewWatch {
        ViewWatch {
            changes: self.0.subscribe(),
        }
    }
}

/// Watches the rows of a view. See [`crate::ViewHandle::watch`].
#[derive(Debug)]
pub struct ViewWatch {
    changes: Receiver<Arc<Changed>>,
}

/// What changed since one looked last.
#[derive(Debug)]
pub struct Seen {
    writes: Vec<Arc<Changed>>,
    /// Whether anything may have changed.
    anything: bool,
}

impl ViewWatch {
    /// Waits for the next change, and takes with it all that came in the meantime. `None` when the view is gone. May be
    /// dropped at any time without losing anything.
    pub async fn changed(&mut self) -> Option<Seen> {
        let mut seen = Seen {
            writes: Vec::new(),
            anything: false,
        };
        match self.changes.recv().await {
            Ok(changed) => seen.add(changed),
            Err(RecvError::Lagged(_)) => seen.anything = true,
            Err(RecvError::Closed) => return None,
        }
        self.take(&mut seen);
        Some(seen)
    }

    /// Adds what came since.
    pub fn take(&mut self, seen: &mut Seen) {
        // No more than is kept at a time, or a busy view would be listened to for ever.
        for _ in 0..=KEPT_MAX {
            match self.changes.try_recv() {
                Ok(changed) => seen.add(changed),
                Err(TryRecvError::Lagged(_)) => seen.anything = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }
}

impl Seen {
    fn add(&mut self, changed: Arc<Changed>) {
        match *changed {
            Changed::All => self.anything = true,
            Changed::Rows(_) if self.anything => {}
            Changed::Rows(_) => self.writes.push(changed),
        }
    }

    /// Whether the row of this key may have changed.
    pub fn touches(&self, key: &str) -> bool {
        let has = |keys: &[(String, bool)]| keys.binary_search_by(|(known, _)| known.as_str().cmp(key)).is_ok();
        self.anything || self.rows().any(has)
    }

    /// Whether a list may have changed that has the rows of these keys: one of them did, or any row was made or stands
    /// elsewhere in an index.
    pub fn touches_list(&self, has: impl Fn(&str) -> bool) -> bool {
        self.anything || self.rows().flatten().any(|(key, moved)| *moved || has(key))
    }

    fn rows(&self) -> impl Iterator<Item = &[(String, bool)]> {
        self.writes.iter().filter_map(|changed| match &**changed {
            Changed::Rows(keys) => Some(keys.as_slice()),
            Changed::All => None,
        })
    }
}

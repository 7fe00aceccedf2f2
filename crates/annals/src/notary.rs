//! The notary of a node: a thread that lets the log's Merkle tree grow and signs checkpoints of it.

use annals_core::EventLog;
use annals_event_store::{DataDir, LogTree, Notary, NotaryError, NotarySettings, SledLog, TreeFollower};
use anyhow::Result;
use std::sync::{Arc, Mutex, PoisonError};

/// The notary at work.
pub(crate) struct NotaryAtWork {
    notary: Arc<Notary>,
    follower: TreeFollower,
}

impl NotaryAtWork {
    /// Opens tree, keys and checkpoints of a data directory, and starts the thread.
    pub(crate) fn start(dir: &DataDir, log: &Arc<SledLog>) -> Result<Self> {
        let log = Arc::clone(log) as Arc<dyn EventLog>;
        let notary = Arc::new(Notary::of(dir, log, NotarySettings::default())?);
        let (signing, said) = (Arc::clone(&notary), Mutex::new(String::new()));
        let looked = move |_: &LogTree| say_once(&said, signing.sign_if_due());
        let follower = TreeFollower::start(Arc::clone(notary.tree()), looked)?;
        Ok(Self { notary, follower })
    }

    pub(crate) fn notary(&self) -> &Arc<Notary> {
        &self.notary
    }

    /// Signs what is there. Before the log is closed, once nothing is appended any more.
    pub(crate) fn stop(self) {
        drop(self.follower);
        if let Err(error) = self.notary.finish() {
            tracing::error!(%error, "the end of the log was not signed");
        }
    }
}

/// What fails ten times a second is said once, until it is something else.
fn say_once(said: &Mutex<String>, result: Result<(), NotaryError>) {
    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
    let error = result.err().map(|error| error.to_string()).unwrap_or_default();
    if !error.is_empty() && *said != error {
        tracing::error!(error, "no checkpoint is signed");
    }
    *said = error;
}

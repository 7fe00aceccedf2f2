//! Says to answers that would go on for ever that their server is being stopped.

use std::sync::Arc;
use tokio::sync::watch;

/// Whether the server is being stopped. Clones share it.
#[derive(Clone)]
pub(crate) struct Closing(Arc<watch::Sender<bool>>);

impl Default for Closing {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Closing {
    /// From now on it is.
    pub(crate) fn begin(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves when it is.
    pub(crate) async fn wait(&self) {
        let mut closing = self.0.subscribe();
        // The sender lives as long as this does.
        let _ = closing.wait_for(|begun| *begun).await;
    }
}

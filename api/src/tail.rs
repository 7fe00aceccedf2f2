//! Tells all who listen that the log's head moved: one thread waits for it on behalf of them all.

use crate::closing::Closing;
use annals_core::{Appender, Position};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How long the thread waits before it looks whether anybody listens still.
const STEP: Duration = Duration::from_millis(250);
/// How long it lets further events gather before it tells of them: at full load the head moves a thousand times a second.
const GATHER: Duration = Duration::from_millis(5);

/// The head of the log, as long as anybody listens. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Tail(Arc<Mutex<Option<watch::Sender<Position>>>>);

impl Tail {
    /// The head from now on. From within a runtime.
    pub(crate) fn listen(&self, log: &Arc<dyn Appender>, closing: &Closing) -> watch::Receiver<Position> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = told.as_ref() {
            return told.subscribe();
        }
        let (sender, receiver) = watch::channel(log.head());
        *told = Some(sender);
        let (tail, log, closing) = (self.clone(), Arc::clone(log), closing.clone());
        tokio::task::spawn_blocking(move || tail.run(log.as_ref(), &closing));
        receiver
    }

    fn run(&self, log: &dyn Appender, closing: &Closing) {
        let mut head = Position::ZERO;
        loop {
            head = log.wait_beyond(head, STEP);
            let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let over = closing.begun() || told.as_ref().is_none_or(|told| told.receiver_count() == 0);
            if over {
                // The next one who listens starts another thread.
                *told = None;
                return;
            }
            if let Some(told) = told.as_ref() {
                told.send_if_modified(|known| std::mem::replace(known, head) != head);
            }
            drop(told);
            std::thread::sleep(GATHER);
        }
    }
}

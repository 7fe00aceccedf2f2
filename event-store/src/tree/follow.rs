//! The thread that lets the tree grow with the log.

use super::{LogTree, TreeError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Pause between two looks at the log. Who needs a leaf sooner calls [`LogTree::reach`]; growing with every group instead
/// would wake a thread for each, and take from appends what nobody asked for.
const TURN: Duration = Duration::from_millis(100);
/// Pause after an error: the log or the disk may be in order again.
const PAUSE: Duration = Duration::from_secs(1);

/// Lets a tree grow until it is dropped, which waits until the hashes of what is there are durable.
pub struct TreeFollower {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TreeFollower {
    /// Starts the thread. It calls `looked` about ten times a second, after the tree has grown to the head that it saw.
    pub fn start(tree: Arc<LogTree>, looked: impl Fn(&LogTree) + Send + 'static) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("annals-tree".into()).spawn(move || {
            // What fails every second is said once, until it is something else.
            let mut said = String::new();
            while !stopped.load(Ordering::Relaxed) {
                match step(&tree, &stopped) {
                    Ok(()) => {
                        said.clear();
                        looked(&tree);
                        pause(TURN, &stopped);
                    }
                    Err(error) => {
                        let error = error.to_string();
                        if error != said {
                            tracing::error!(error, "the Merkle tree cannot grow; tried again every second");
                        }
                        said = error;
                        pause(PAUSE, &stopped);
                    }
                }
            }
            if let Err(error) = tree.save() {
                tracing::warn!(%error, "the Merkle tree was not saved: more of it is hashed anew at the next start");
            }
        })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for TreeFollower {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in it was printed, and there is nothing that its end could still do.
            let _ = thread.join();
        }
    }
}

fn step(tree: &LogTree, stopped: &AtomicBool) -> Result<(), TreeError> {
    // To the head that there is now: under load there is always a next one, and what is due by time must not wait for it.
    let head = tree.log.head().get();
    while !stopped.load(Ordering::Relaxed) && tree.size() < head && tree.grow()? {}
    Ok(())
}

fn pause(mut left: Duration, stopped: &AtomicBool) {
    while !left.is_zero() && !stopped.load(Ordering::Relaxed) {
        let now = left.min(TURN);
        std::thread::sleep(now);
        left -= now;
    }
}

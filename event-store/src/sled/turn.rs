//! Turns: while there is little to do, an append's own runtime does the writer's work, so that the append changes threads
//! neither on its way to the writer nor on its way back. That is most of the time of a single client.
//!
//! The append is queued as any other, and a task of the same runtime takes it from there and stores it: order, bounds,
//! groups and answers are the queue's and the writer's, and whoever waits for the answer is told by the watchdog when the
//! disk does not give one. The task holds a thread of the runtime for as long as one sync takes; the writer's thread looks
//! after it meanwhile, so that another one waits for the network.

use super::queue::Queued;
use super::shared::Shared;
use super::writer::{GROUP_BYTES_MAX, Writer};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use tokio::runtime::{Handle, RuntimeFlavor};

/// Larger appends are left to the writer's thread: what takes long must not hold a thread of the runtime.
const TURN_BYTES_MAX: usize = 64 * 1024;

/// The writer, and who is at it.
pub(super) struct Desk {
    shared: Arc<Shared>,
    /// Whoever holds it takes from the queue and stores what was taken before it lets go.
    writer: Mutex<Writer>,
    /// The runtime that lends a thread to a turn.
    lender: Mutex<Option<Handle>>,
}

impl Desk {
    pub(super) fn new(shared: Arc<Shared>, writer: Writer) -> Self {
        Self {
            shared,
            writer: Mutex::new(writer),
            lender: Mutex::default(),
        }
    }

    /// The writer's thread: stores what waits until the queue is closed and empty.
    pub(super) fn run(&self) {
        let queue = &self.shared.queue;
        while queue.wait(|| self.look()) {
            let mut writer = self.hold();
            let group = queue.take(GROUP_BYTES_MAX);
            // Empty: a turn took it.
            if !group.is_empty() {
                writer.store(group);
            }
        }
        self.hold().end();
    }

    fn hold(&self) -> MutexGuard<'_, Writer> {
        self.look();
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lender(&self) -> MutexGuard<'_, Option<Handle>> {
        self.lender.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A turn that waits for its sync may hold the thread that waits for the network as well: wakes another one, which
    /// then does.
    fn look(&self) {
        if let Some(runtime) = &*self.lender() {
            drop(runtime.spawn(async {}));
        }
    }

    /// Stores what waits, unless another is at it or it would have to wait for more than the sync.
    fn turn(&self) {
        let mut writer = match self.writer.try_lock() {
            Ok(writer) => writer,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if writer.would_wait() {
            return;
        }
        let group = self.shared.queue.take(GROUP_BYTES_MAX);
        if !group.is_empty() {
            self.shared.counters.turned();
            *self.lender() = Handle::try_current().ok();
            writer.store(group);
            *self.lender() = None;
        }
    }
}

/// A turn that is due. Whatever it leaves, also if it is never run, is left to the writer's thread.
pub(super) struct Turn(Weak<Desk>);

impl Turn {
    /// Whether an append can be a turn: it must come from a task of a runtime that has another thread for the rest.
    pub(super) fn is_for(queued: &Queued) -> bool {
        let runtime = queued.runtime.as_ref();
        queued.bytes <= TURN_BYTES_MAX
            && tokio::task::try_id().is_some()
            && runtime.is_some_and(|runtime| {
                runtime.runtime_flavor() == RuntimeFlavor::MultiThread && runtime.metrics().num_workers() > 1
            })
    }

    /// Has the current runtime take a turn next.
    pub(super) fn begin(desk: &Arc<Desk>) {
        let turn = Self(Arc::downgrade(desk));
        if let Ok(runtime) = Handle::try_current() {
            drop(runtime.spawn(async move { turn.run() }));
        }
    }

    fn run(&self) {
        if let Some(desk) = self.0.upgrade() {
            desk.turn();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // After the writer was let go: who came meanwhile has told nobody, or was told that another is at it.
        if let Some(desk) = self.0.upgrade() {
            desk.shared.queue.tell();
        }
    }
}

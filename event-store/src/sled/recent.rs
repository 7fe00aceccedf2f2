//! The newest blocks in memory: read by those who follow the log, and stored in the volumes behind the writer's back.
//! Whatever is durable and not stored yet is here, so a reader finds each position either here or in a volume.

use annals_core::{Block, LogError, Position};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// How many bytes of stored blocks are kept for those who follow the log.
const KEPT_BYTES_MAX: usize = 4 << 20;
/// What a block costs beside its bytes.
const BLOCK_COST: usize = 96;

#[derive(Default)]
struct Ring {
    blocks: VecDeque<Block>,
    bytes: usize,
    stored: Position,
}

impl Ring {
    fn evict(&mut self) {
        while self.bytes > KEPT_BYTES_MAX && self.blocks.front().is_some_and(|block| block.last() <= self.stored) {
            if let Some(block) = self.blocks.pop_front() {
                self.bytes -= cost(&block);
            }
        }
    }

    /// Index of the first block that ends after a position.
    fn start(&self, after: Position) -> usize {
        self.blocks.partition_point(|block| block.last() <= after)
    }
}

fn cost(block: &Block) -> usize {
    block.bytes().len() + BLOCK_COST
}

/// What the writer, the storer and those who wait for it tell each other.
#[derive(Default)]
struct Work {
    /// Bytes that are not taken by the storer yet.
    waiting: usize,
    /// Everything up to here is to be stored, however little it is.
    settle: Position,
    stored: Position,
    closed: bool,
    failed: bool,
}

/// What the storer is to do.
pub(super) struct Task {
    /// Durable blocks that it did not have yet.
    pub(super) blocks: Vec<Block>,
    /// Whether also what does not fill a block is to be stored.
    pub(super) all: bool,
}

pub(super) struct Recent {
    /// How many bytes wait before they are worth storing.
    store_bytes: usize,
    ring: RwLock<Ring>,
    work: Mutex<Work>,
    wake: Condvar,
    moved: Condvar,
}

impl Recent {
    /// Nothing yet, in a log that is stored up to `stored`.
    pub(super) fn new(stored: Position, store_bytes: usize) -> Self {
        let ring = Ring {
            stored,
            ..Ring::default()
        };
        let work = Work {
            stored,
            ..Work::default()
        };
        Self {
            store_bytes,
            ring: RwLock::new(ring),
            work: Mutex::new(work),
            wake: Condvar::new(),
            moved: Condvar::new(),
        }
    }

    fn ring(&self) -> RwLockReadGuard<'_, Ring> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring_mut(&self) -> RwLockWriteGuard<'_, Ring> {
        self.ring.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a block that is durable in the journal.
    pub(super) fn push(&self, block: Block) {
        let len = block.bytes().len();
        let mut ring = self.ring_mut();
        ring.bytes += cost(&block);
        ring.blocks.push_back(block);
        ring.evict();
        drop(ring);
        let mut work = self.work();
        let before = work.waiting;
        work.waiting += len;
        let enough = self.store_bytes.max(1);
        if before < enough && work.waiting >= enough {
            self.wake.notify_one();
        }
    }

    /// How many bytes the storer has not taken yet.
    pub(super) fn waiting(&self) -> usize {
        self.work().waiting
    }

    /// Up to where the volumes hold everything.
    pub(super) fn stored(&self) -> Position {
        self.ring().stored
    }

    /// Blocks after `after` and up to `head`, of about `bytes_max` bytes; empty if memory does not reach back so far.
    pub(super) fn read(&self, after: Position, head: Position, bytes_max: usize) -> Result<Vec<Block>, LogError> {
        let ring = self.ring();
        if ring.blocks.front().is_none_or(|block| block.first() > after.next()) {
            return Ok(Vec::new());
        }
        let (mut blocks, mut bytes) = (Vec::new(), 0);
        let from = ring.blocks.iter().skip(ring.start(after));
        for block in from.take_while(|block| block.first() <= head) {
            let block = block.clip(after, head)?;
            bytes += block.bytes().len();
            blocks.push(block);
            if bytes >= bytes_max {
                break;
            }
        }
        Ok(blocks)
    }

    /// The block that holds a position, if memory has it.
    pub(super) fn holding(&self, position: Position) -> Option<Block> {
        let ring = self.ring();
        let block = ring.blocks.get(ring.start(position.previous()))?;
        (block.first() <= position).then(|| block.clone())
    }

    /// For the storer: waits until there is enough to store after `taken`, or all of it is asked for. `None` when
    /// everything is stored and nothing more will come, or storing has failed.
    pub(super) fn take(&self, taken: Position) -> Option<Task> {
        let mut work = self.work();
        let all = loop {
            if work.failed {
                return None;
            }
            let enough = work.waiting >= self.store_bytes.max(1);
            if enough || work.closed || work.settle > work.stored {
                break work.closed || !enough;
            }
            work = self.wake.wait(work).unwrap_or_else(PoisonError::into_inner);
        };
        if work.closed && work.waiting == 0 && work.stored >= taken && work.settle <= work.stored {
            return None;
        }
        work.waiting = 0;
        drop(work);
        let ring = self.ring();
        let blocks = ring.blocks.iter().skip(ring.start(taken)).cloned().collect();
        Some(Task { blocks, all })
    }

    /// Says that the volumes hold everything up to a position.
    pub(super) fn advance(&self, stored: Position) {
        let mut ring = self.ring_mut();
        ring.stored = stored;
        ring.evict();
        drop(ring);
        self.work().stored = stored;
        self.moved.notify_all();
    }

    /// Waits until everything up to a position is stored; false if that will never be.
    pub(super) fn wait_stored(&self, position: Position) -> bool {
        let mut work = self.work();
        // The storer may be waiting for more than there is.
        if work.stored < position {
            work.settle = work.settle.max(position);
            self.wake.notify_one();
        }
        while work.stored < position && !work.failed {
            work = self.moved.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
        work.stored >= position
    }

    /// Nothing more will come: the storer is to store everything and end.
    pub(super) fn close(&self) {
        self.work().closed = true;
        self.wake.notify_all();
    }

    /// Storing has failed: nobody waits any more.
    pub(super) fn fail(&self) {
        self.work().failed = true;
        self.wake.notify_all();
        self.moved.notify_all();
    }
}

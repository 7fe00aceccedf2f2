//! Threads that several views share for work that falls into independent parts: folding, encoding, writing. However many
//! views are built at a time, no more threads work than there are processors.

use rayon_core::{ThreadPool, ThreadPoolBuilder};
use std::sync::OnceLock;

/// More threads than this gain little: parts become small, and reading the log is one thread's work.
const MOST: usize = 8;

/// See the module. The threads start when there is the first work for them.
pub(crate) struct Threads {
    count: usize,
    pool: OnceLock<Option<ThreadPool>>,
}

impl Threads {
    /// So many threads; 0: one for each processor, 8 at most.
    pub(crate) fn new(count: usize) -> Self {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        let count = if count == 0 { processors().min(MOST) } else { count };
        Self {
            count,
            pool: OnceLock::new(),
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Does `work` for each item, side by side, and `meanwhile` in the thread that called. Returns what came of the
    /// items, in their order.
    pub(crate) fn each<T: Send, R: Send>(
        &self,
        items: Vec<T>,
        work: impl Fn(T) -> R + Sync,
        meanwhile: impl FnOnce(),
    ) -> Vec<R> {
        let pool = if items.len() > 1 { self.pool() } else { None };
        let Some(pool) = pool else {
            let done = items.into_iter().map(work).collect();
            meanwhile();
            return done;
        };
        let mut done: Vec<Option<R>> = items.iter().map(|_| None).collect();
        let work = &work;
        pool.in_place_scope(|scope| {
            for (item, done) in items.into_iter().zip(&mut done) {
                scope.spawn(move |_| *done = Some(work(item)));
            }
            meanwhile();
        });
        // A panic in one of them goes on here, so that all are there.
        done.into_iter().flatten().collect()
    }

    /// None if one thread is all there is: then the caller's does the work.
    fn pool(&self) -> Option<&ThreadPool> {
        let start = || {
            let builder = ThreadPoolBuilder::new().num_threads(self.count);
            let started = builder.thread_name(|number| format!("views-{number}")).build();
            let failed =
                |error: &_| tracing::warn!(%error, "no threads to fold with: each view folds in its own alone");
            started.inspect_err(failed).ok()
        };
        if self.count < 2 {
            return None;
        }
        self.pool.get_or_init(start).as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_of_the_items_is_in_their_order_with_any_number_of_threads() {
        for count in 0..5 {
            let (threads, mut called) = (Threads::new(count), false);
            let doubled = threads.each((0..100).collect(), |number: u32| number * 2, || called = true);
            assert_eq!(doubled, (0..100).map(|number| number * 2).collect::<Vec<_>>());
            assert!(called && threads.count() >= 1);
        }
    }
}

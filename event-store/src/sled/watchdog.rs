//! Notices a sync that does not come back. sled's flush has no time limit, and neither has the system's: without this,
//! appends would wait for ever for a disk that does not answer.
//!
//! The threads that sync only note when they began; another thread looks at that every now and then.

use super::answers::Answers;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the watchdog looks.
pub(super) const LOOK: Duration = Duration::from_millis(500);

/// What is being synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Journal,
    Volume,
    Index,
}

impl Place {
    const ALL: [Self; 3] = [Self::Journal, Self::Volume, Self::Index];
}

/// The syncs under way, at most one at each place, and the answers that wait for the journal's.
pub(super) struct Syncs {
    zero: Instant,
    /// When each began, milliseconds after `zero`, and one; 0 when there is none.
    began: [AtomicU64; Place::ALL.len()],
    waiting: Mutex<Answers>,
    given_up: AtomicBool,
}

impl Default for Syncs {
    fn default() -> Self {
        Self {
            zero: Instant::now(),
            began: Default::default(),
            waiting: Mutex::default(),
            given_up: AtomicBool::new(false),
        }
    }
}

impl Syncs {
    fn waiting(&self) -> MutexGuard<'_, Answers> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.zero.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    /// Runs a sync. `answers` wait for it; those that nobody has given up on stand there again afterwards.
    pub(super) fn run<T>(&self, place: Place, mut answers: Option<&mut Answers>, sync: impl FnOnce() -> T) -> T {
        if let Some(answers) = &mut answers {
            std::mem::swap(&mut *self.waiting(), answers);
        }
        self.began[place as usize].store(self.now(), Ordering::Release);
        let done = sync();
        self.began[place as usize].store(0, Ordering::Release);
        if let Some(answers) = &mut answers {
            std::mem::swap(&mut *self.waiting(), answers);
        }
        done
    }

    /// The sync under way got on: its time begins anew.
    pub(super) fn moved_on(&self, place: Place) {
        self.began[place as usize].store(self.now(), Ordering::Release);
    }

    /// The place whose sync takes longer than `max`.
    fn overdue(&self, max: Duration) -> Option<Place> {
        let max = u64::try_from(max.as_millis()).unwrap_or(u64::MAX);
        Place::ALL.into_iter().find(|place| {
            let began = self.began[*place as usize].load(Ordering::Acquire);
            began > 0 && self.now().saturating_sub(began) >= max
        })
    }

    /// Whether a sync was given up: the thread that waits for it may never end.
    pub(super) fn given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// Watches until the other end of `stop` is gone, or a sync takes longer than `max`: then `fail` is told why, and
    /// whoever waits for the sync is told that nobody knows.
    pub(super) fn watch(&self, max: Duration, look: Duration, stop: &Receiver<()>, fail: impl FnOnce(&str)) {
        while stop.recv_timeout(look) == Err(RecvTimeoutError::Timeout) {
            let Some(place) = self.overdue(max) else { continue };
            let what = match place {
                Place::Journal => "the journal",
                Place::Volume => "a volume",
                Place::Index => "the index",
            };
            let why = format!(
                "a sync of {what} has not come back within {} s: the disk does not answer",
                max.as_secs()
            );
            tracing::error!(
                why,
                "the log failed; the outcome of appends in flight is unknown, appends stop"
            );
            self.given_up.store(true, Ordering::Release);
            fail(&why);
            std::mem::take(&mut *self.waiting()).unknown(&why);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use annals_core::{AppendError, Appended, Position, Version};
    use std::sync::mpsc::{channel, sync_channel};
    use tokio::sync::oneshot;

    fn appended() -> Appended {
        Appended {
            version: Version::new(1),
            position: Position::new(1),
            events: Vec::new(),
            duplicate: false,
        }
    }

    #[test]
    fn a_sync_that_never_comes_back_fails_the_log_and_those_who_wait_are_told() {
        let syncs = Syncs::default();
        let (answer, answered) = oneshot::channel();
        let (release, held) = channel::<()>();
        let (_watching, stop) = sync_channel(0);
        let (failed, why) = channel();
        std::thread::scope(|scope| {
            let syncs = &syncs;
            scope.spawn(move || {
                let mut answers = Answers::default();
                answers.add(answer, Ok(appended()));
                // A disk that does not answer until the test is over.
                syncs.run(Place::Journal, Some(&mut answers), || held.recv().unwrap_err());
                // Nobody is answered twice: there is none left to answer.
                answers.give();
            });
            let max = Duration::from_millis(20);
            syncs.watch(max, Duration::from_millis(1), &stop, |why| {
                failed.send(why.to_owned()).unwrap()
            });
            assert!(why.recv().unwrap().contains("the journal"));
            assert!(syncs.given_up());
            let told = answered.blocking_recv().unwrap();
            assert!(matches!(told, Err(AppendError::OutcomeUnknown(_))), "{told:?}");
            drop(release);
        });
    }

    #[test]
    fn an_index_that_is_never_written_fails_the_log_though_appends_go_on() {
        let syncs = Syncs::default();
        let (release, held) = channel::<()>();
        let (_watching, stop) = sync_channel(0);
        let (failed, why) = channel();
        std::thread::scope(|scope| {
            let syncs = &syncs;
            scope.spawn(move || syncs.run(Place::Index, None, || held.recv().unwrap_err()));
            // The journal's syncs come back all the time.
            syncs.run(Place::Journal, None, || ());
            syncs.watch(Duration::from_millis(20), Duration::from_millis(1), &stop, |why| {
                failed.send(why.to_owned()).unwrap()
            });
            assert!(why.recv().unwrap().contains("the index"));
            assert!(syncs.given_up());
            drop(release);
        });
    }

    #[test]
    fn syncs_that_come_back_are_no_reason_to_fail() {
        let syncs = Syncs::default();
        let (watching, stop) = sync_channel(0);
        std::thread::scope(|scope| {
            let syncs = &syncs;
            scope.spawn(move || {
                let fail = |why: &str| panic!("{why}");
                syncs.watch(Duration::from_secs(3600), Duration::from_millis(1), &stop, fail);
            });
            for _ in 0..50 {
                let (answer, answered) = oneshot::channel();
                let mut answers = Answers::default();
                answers.add(answer, Ok(appended()));
                syncs.run(Place::Journal, Some(&mut answers), std::thread::yield_now);
                answers.give();
                assert!(
                    answered.blocking_recv().unwrap().is_ok(),
                    "its answer is there to be given"
                );
            }
            drop(watching);
        });
        assert!(!syncs.given_up());
        // The smallest limit sees only what is under way.
        assert_eq!(syncs.overdue(Duration::ZERO), None);
    }
}

//! The answers of a group, given all at once.

use annals_core::{AppendError, Appended};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;

/// Groups up to this size are answered right here: the hand-over would take longer than it saves.
const FEW: usize = 4;

/// Where an append's answer goes.
pub(super) type Answerer = oneshot::Sender<Result<Appended, AppendError>>;

type Answer = (Answerer, Result<Appended, AppendError>);

/// Answers that wait until their group is durable.
#[derive(Default)]
pub(super) struct Answers {
    waiting: Vec<Answer>,
    runtime: Option<Handle>,
}

impl Answers {
    pub(super) fn add(&mut self, answerer: Answerer, answer: Result<Appended, AppendError>) {
        self.waiting.push((answerer, answer));
    }

    /// The runtime of one that waits.
    pub(super) fn on(&mut self, runtime: Option<&Handle>) {
        if self.runtime.is_none() {
            self.runtime = runtime
                .filter(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
                .cloned();
        }
    }

    /// Gives all answers. Each wakes a task; from a thread of the runtime that is a push to its own queue, from here it
    /// would be a lock and often a system call, so many are given over there.
    pub(super) fn give(&mut self) {
        let batch = Batch(std::mem::take(&mut self.waiting));
        match self.runtime.take() {
            Some(runtime) if batch.0.len() > FEW => drop(runtime.spawn(async move { drop(batch) })),
            _ => drop(batch),
        }
    }

    /// Answers that nobody knows whether they were stored, but for those that were refused anyway.
    pub(super) fn unknown(&mut self, why: &str) {
        for (_, answer) in &mut self.waiting {
            if answer.is_ok() {
                *answer = Err(AppendError::OutcomeUnknown(why.to_owned()));
            }
        }
        drop(Batch(std::mem::take(&mut self.waiting)));
    }
}

/// Gives its answers when it is dropped, so that they are given also by a runtime that ends before it gets to them.
struct Batch(Vec<Answer>);

impl Drop for Batch {
    fn drop(&mut self) {
        for (answerer, answer) in self.0.drain(..) {
            // A caller that went away needs no answer.
            let _ = answerer.send(answer);
        }
    }
}

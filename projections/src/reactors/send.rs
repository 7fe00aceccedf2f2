//! Dispatches the commands of several keys at the same time, those of one key one after the other.

use super::directory::actor;
use super::dispatch::{DispatchError, DispatchRequest, Dispatcher};
use super::journal::{Outgoing, Rejected};
use super::pending::{CommandFailure, Outcome};
use crate::definition::panic_text;
use crate::progress::locked;
use annals_core::Metadata;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Dispatches commands, grouped by key, with at most `in_flight` at a time. Stops early when `stopping` says so.
pub(crate) fn send(
    reactor: &str,
    dispatcher: &dyn Dispatcher,
    groups: &[Vec<Outgoing>],
    in_flight: usize,
    stopping: &(dyn Fn() -> bool + Sync),
) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::with_capacity(groups.len()));
    let work = || {
        while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = send_in_order(reactor, dispatcher, group, stopping);
            locked(&outcomes).push(outcome);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..in_flight.min(groups.len()) {
            let spawned = std::thread::Builder::new()
                .name(format!("dispatch-{reactor}"))
                .spawn_scoped(scope, work);
            if spawned.is_err() {
                // Fewer threads do the same, only later: this one always works.
                break;
            }
        }
        work();
    });
    outcomes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn send_in_order(
    reactor: &str,
    dispatcher: &dyn Dispatcher,
    group: &[Outgoing],
    stopping: &(dyn Fn() -> bool + Sync),
) -> Outcome {
    let mut outcome = Outcome {
        key: group.first().map(|command| command.key.clone()).unwrap_or_default(),
        ..Outcome::default()
    };
    for command in group {
        if stopping() {
            break;
        }
        let request = request(reactor, command);
        let result = catch_unwind(AssertUnwindSafe(|| dispatcher.dispatch(request)))
            .unwrap_or_else(|panic| Err(DispatchError::Failed(panic_text(panic.as_ref()))));
        match result {
            Ok(()) => outcome.accepted.push(command.id()),
            Err(DispatchError::Rejected(rejection)) => outcome.rejected.push(Rejected {
                id: command.id(),
                what: what(command),
                code: rejection.code.into_owned(),
                message: rejection.message,
            }),
            Err(DispatchError::Failed(error)) => {
                outcome.failed_at = Some(command.position);
                outcome.failed = Some(CommandFailure { error, counts: true });
                break;
            }
            Err(DispatchError::Unavailable(error)) => {
                outcome.failed_at = Some(command.position);
                outcome.failed = Some(CommandFailure { error, counts: false });
                break;
            }
        }
        outcome.done += 1;
    }
    outcome
}

/// Stream and command, for people.
pub(crate) fn what(command: &Outgoing) -> String {
    let call = &command.call;
    format!("{} of {}/{}", call.command, call.category, call.id)
}

fn request(reactor: &str, command: &Outgoing) -> DispatchRequest {
    DispatchRequest {
        call: command.call.clone(),
        key: format!("{reactor}:{}:{}", command.position, command.number),
        occurred_at: command.occurred.map(annals_core::time),
        metadata: Metadata {
            actor: Some(actor(reactor)),
            correlation_id: Some(command.correlation.clone()),
            causation_id: Some(command.causation.clone()),
            traceparent: None,
        },
    }
}

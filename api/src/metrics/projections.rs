//! How far views and reactors are.

use super::exposition::Exposition;
use annals_projections::{OutboxStatus, ProjectionKind, ProjectionState, ProjectionStatus};

const STATES: [ProjectionState; 6] = [
    ProjectionState::Starting,
    ProjectionState::Running,
    ProjectionState::Rebuilding,
    ProjectionState::WaitingForSpace,
    ProjectionState::Paused,
    ProjectionState::Stopped,
];

fn kind(status: &ProjectionStatus) -> &'static str {
    match status.kind {
        ProjectionKind::View => "view",
        ProjectionKind::Reactor => "reactor",
    }
}

pub(super) fn expose(text: &mut Exposition, statuses: &[ProjectionStatus]) {
    let mut gauges = |name: &str, help: &str, of: fn(&ProjectionStatus) -> f64| {
        text.gauges(name, help);
        for status in statuses {
            let labels = [("projection", status.name.as_str()), ("kind", kind(status))];
            text.sample(name, &labels, of(status));
        }
    };
    gauges("annals_projection_position", "How far it has read the log.", |status| {
        status.position.get() as f64
    });
    gauges(
        "annals_projection_lag_events",
        "Events that it has not read yet.",
        |status| status.lag_events as f64,
    );
    let help = "Age of the first event that it has not read yet; 0 at the head.";
    gauges("annals_projection_lag_seconds", help, |status| status.lag_seconds);
    gauges(
        "annals_projection_events_per_second",
        "Events that it reads a second, lately.",
        |status| status.rate,
    );
    let help = "Events or commands that failed, and whose keys are parked or that it stopped at.";
    gauges("annals_projection_dead_letters", help, |status| {
        status.dead_letters as f64
    });
    const STATE: &str = "annals_projection_state";
    text.gauges(STATE, "1 for the state that it is in, 0 for the others.");
    for status in statuses {
        for state in STATES {
            let labels = [
                ("projection", status.name.as_str()),
                ("kind", kind(status)),
                ("state", state.as_str()),
            ];
            text.sample(STATE, &labels, u8::from(status.state == state));
        }
    }
    outboxes(text, statuses);
}

fn outboxes(text: &mut Exposition, statuses: &[ProjectionStatus]) {
    let mut gauges = |name: &str, help: &str, of: fn(&OutboxStatus) -> u64| {
        text.gauges(name, help);
        for status in statuses {
            if let Some(outbox) = &status.outbox {
                text.sample(name, &[("projection", status.name.as_str())], of(outbox));
            }
        }
    };
    gauges("annals_outbox_pending", "Commands of a reactor that wait.", |outbox| {
        outbox.pending
    });
    gauges(
        "annals_outbox_dispatched",
        "Commands of a reactor that were ever accepted.",
        |outbox| outbox.dispatched,
    );
    gauges(
        "annals_outbox_rejected",
        "Commands of a reactor that were ever rejected.",
        |outbox| outbox.rejected,
    );
    gauges(
        "annals_outbox_retrying",
        "1 if a command of a reactor is being retried.",
        |outbox| u64::from(outbox.retrying.is_some()),
    );
}

//! Checkpoints of views: the first one of a new store, and which ones can be gone on from.

use crate::ViewDefinition;
use crate::store::{Checkpoint, STORE_FORMAT};
use annals_core::{EventLog, Position};

/// Why a store cannot be folded on from where it ends, if it cannot.
pub(super) fn unfit(log: &dyn EventLog, view: &ViewDefinition, checkpoint: &Checkpoint) -> Option<String> {
    if checkpoint.format != STORE_FORMAT {
        return Some(format!(
            "its store has format {}, not {STORE_FORMAT}",
            checkpoint.format
        ));
    }
    if checkpoint.epoch != log.epoch() {
        let (read, epoch) = (checkpoint.epoch, log.epoch());
        return Some(format!("it read the log's epoch {read}, the log is in {epoch}"));
    }
    if checkpoint.position > log.head() {
        let (position, head) = (checkpoint.position, log.head());
        return Some(format!("it is at {position}, ahead of the log's end at {head}"));
    }
    if checkpoint.history.is_some() != view.keeps_history() {
        let kept = if checkpoint.history.is_some() { "kept" } else { "off" };
        return Some(format!("its history was {kept} and is not now"));
    }
    (checkpoint.fingerprint != view.fingerprint())
        .then(|| "the row or the indexes of the view are not what they were when it was built".into())
}

/// The checkpoint of a store that has read nothing yet.
pub(crate) fn first_checkpoint(log: &dyn EventLog, fingerprint: &str, history: bool) -> Checkpoint {
    Checkpoint {
        format: STORE_FORMAT,
        epoch: log.epoch(),
        position: Position::ZERO,
        fingerprint: fingerprint.to_owned(),
        rows: 0,
        history: history.then_some(Position::ZERO),
        outbox: None,
    }
}

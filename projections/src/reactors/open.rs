//! Opens a reactor's outbox and state, and refuses where dispatching could repeat or leave out an effect.

use super::directory::{ReactorsDir, first_effect};
use super::journal::{Journal, JournalError};
use super::pending::Pending;
use super::timers::Fired;
use crate::failures::DeadLetter;
use crate::store::{Checkpoint, RowStore, STORE_FORMAT, StoreError, Stores};
use crate::views::first_checkpoint;
use crate::{OutboxStatus, ProjectionSettings, ReactorDefinition};
use annals_core::{Epoch, EventLog, Position};
use std::path::Path;

/// A reactor's files.
pub(crate) struct Opened {
    pub(crate) journal: Journal,
    pub(crate) store: RowStore,
    /// How far the state is; it may be behind or ahead of the journal.
    pub(crate) checkpoint: Checkpoint,
}

/// Opens the files of a reactor; begins them if it is new. The error says what a person has to do.
pub(crate) fn open(
    log: &dyn EventLog,
    settings: &ProjectionSettings,
    stores: &Stores,
    directory: &ReactorsDir,
    reactor: &ReactorDefinition,
) -> Result<Opened, String> {
    let name = reactor.name();
    let mut journal = open_journal(log, settings, directory, name)?;
    let found = journal.state();
    if found.epoch != log.epoch() {
        return Err(refusal(
            name,
            &format!(
                "its outbox belongs to the log's epoch {}, the log is in {}: it was restored or salvaged, and the server of \
                 the log before it may still be running, or may have dispatched more than this outbox knows",
                found.epoch,
                log.epoch()
            ),
        ));
    }
    if found.position > log.head() {
        return Err(refusal(
            name,
            &format!(
                "its outbox is at {}, ahead of the log's end at {}",
                found.position,
                log.head()
            ),
        ));
    }
    know_timers(log, &mut journal, name)?;
    let found = journal.state();
    let (store, checkpoint) = open_state(&directory.state(name), log, stores, reactor)?;
    match checkpoint {
        Some(checkpoint) if fits(&checkpoint, log, &journal, reactor) => {
            let mark = checkpoint.outbox.as_ref().map_or(0, |mark| mark.sequence);
            if mark > found.sequence {
                return Err(refusal(
                    name,
                    &format!(
                        "its outbox ends with entry {}, entry {mark} was there before",
                        found.sequence
                    ),
                ));
            }
            Ok(Opened {
                journal,
                store,
                checkpoint,
            })
        }
        checkpoint => {
            let store = if checkpoint.is_some() {
                drop(store);
                fresh_state(&directory.state(name), stores)?
            } else {
                store
            };
            Ok(Opened {
                journal,
                store,
                checkpoint: first_checkpoint(log, reactor.fingerprint(), false),
            })
        }
    }
}

/// An outbox from before there were timers: what would have been due until then is let be.
fn know_timers(log: &dyn EventLog, journal: &mut Journal, name: &str) -> Result<(), String> {
    if journal.state().fired.is_some() {
        return Ok(());
    }
    let fired = Fired::before(log, journal.state().position.next()).map_err(|error| error.to_string())?;
    journal
        .fired(fired, Vec::new())
        .map_err(|error| format!("the outbox of reactor {name} cannot be written: {error}"))
}

fn open_journal(
    log: &dyn EventLog,
    settings: &ProjectionSettings,
    directory: &ReactorsDir,
    name: &str,
) -> Result<Journal, String> {
    let path = directory.outbox(name);
    let io = |error: std::io::Error| format!("the files of reactor {name} cannot be used: {error}");
    match Journal::open(&path) {
        Ok(journal) => {
            if !directory.knows(name).unwrap_or(true) {
                directory.register(name, journal.state().epoch).map_err(io)?;
            }
            return Ok(journal);
        }
        Err(JournalError::Missing) => {}
        Err(JournalError::Io(error)) => return Err(io(error)),
        Err(error) => return Err(refusal(name, &format!("its outbox {}: {error}", path.display()))),
    }
    match directory.knows(name) {
        Ok(false) => {}
        Ok(true) => return Err(refusal(name, &format!("its outbox {} is missing", path.display()))),
        Err(error) => {
            return Err(refusal(
                name,
                &format!("the register of the reactors cannot be read: {error}"),
            ));
        }
    }
    let effect = first_effect(log, settings.read_bytes, name).map_err(|error| error.to_string())?;
    if let Some(position) = effect {
        let reason = format!("its outbox is missing, but it has worked on this log before, at position {position}");
        return Err(refusal(name, &reason));
    }
    directory
        .begin(name, log.epoch(), Position::ZERO, Fired::nothing())
        .map_err(io)?;
    Journal::open(&path).map_err(|error| format!("the outbox of reactor {name} cannot be opened: {error}"))
}

fn refusal(name: &str, reason: &str) -> String {
    format!(
        "reactor {name} dispatches nothing: {reason}. Restore the reactors' directory from a backup, or say which event \
         is the first that it has not answered: `annals projections resume {name} --from POSITION`"
    )
}

fn open_state(
    path: &Path,
    log: &dyn EventLog,
    stores: &Stores,
    reactor: &ReactorDefinition,
) -> Result<(RowStore, Option<Checkpoint>), String> {
    if !path.is_dir() {
        return Ok((fresh_state(path, stores)?, None));
    }
    let opened = stores.open(path).and_then(|store| {
        let checkpoint = store.checkpoint()?;
        Ok((store, checkpoint))
    });
    match opened {
        Ok(opened) => Ok(opened),
        Err(error @ StoreError::InUse(_)) => Err(error.to_string()),
        Err(error) => {
            tracing::warn!(reactor = reactor.name(), %error, head = %log.head(), "its state is folded anew from the log");
            Ok((fresh_state(path, stores)?, None))
        }
    }
}

/// States are derived from the log: what does not fit is thrown away.
pub(super) fn fresh_state(path: &Path, stores: &Stores) -> Result<RowStore, String> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(format!("{} cannot be removed: {error}", path.display()));
        }
        _ => {}
    }
    stores
        .create(path)
        .map_err(|error| format!("{} cannot be opened: {error}", path.display()))
}

fn fits(checkpoint: &Checkpoint, log: &dyn EventLog, journal: &Journal, reactor: &ReactorDefinition) -> bool {
    let outbox = checkpoint.outbox.as_ref().map(|mark| mark.id.as_str());
    let fits = checkpoint.format == STORE_FORMAT
        && checkpoint.epoch == log.epoch()
        && checkpoint.position <= log.head()
        && checkpoint.fingerprint == reactor.fingerprint()
        && outbox == Some(&journal.state().id);
    if !fits {
        tracing::warn!(
            reactor = reactor.name(),
            "its state does not fit its outbox or code and is folded anew"
        );
    }
    fits
}

/// The commands of a reactor that wait for a person, read from its outbox. An outbox that cannot be read has none to show:
/// what is wrong with it is said by [`peek`].
pub(crate) fn parked_commands(settings: &ProjectionSettings, name: &str) -> Vec<DeadLetter> {
    let directory = ReactorsDir::at(&settings.reactors_dir);
    let Ok(outbox) = Journal::peek(&directory.outbox(name)) else {
        return Vec::new();
    };
    let mut pending = Pending::default();
    pending.add(outbox.pending);
    pending.park(&outbox.parked);
    pending.letters(name)
}

/// How far a reactor is, read from its files without touching the outbox; `None` if it was never begun.
pub(crate) fn peek(
    settings: &ProjectionSettings,
    directory: &ReactorsDir,
    name: &str,
) -> Result<Option<(Epoch, Position, OutboxStatus)>, String> {
    let outbox = match Journal::peek(&directory.outbox(name)) {
        Ok(outbox) => outbox,
        Err(JournalError::Missing) if !directory.knows(name).unwrap_or(true) => return Ok(None),
        Err(error) => return Err(refusal(name, &format!("its outbox: {error}"))),
    };
    let state = directory.state(name);
    let checkpoint = if state.is_dir() {
        let opened = Stores::new(settings).open(&state);
        match opened {
            Ok(store) => store.checkpoint().ok().flatten(),
            Err(error @ StoreError::InUse(_)) => return Err(error.to_string()),
            // It is folded anew at the next start.
            Err(_) => None,
        }
    } else {
        None
    };
    let ahead = checkpoint.filter(|checkpoint| {
        checkpoint.epoch == outbox.epoch && checkpoint.outbox.as_ref().is_some_and(|mark| mark.id == outbox.id)
    });
    let position = ahead.map_or(outbox.position, |checkpoint| checkpoint.position.max(outbox.position));
    let status = OutboxStatus {
        pending: outbox.pending.len() as u64,
        dispatched: outbox.dispatched,
        rejected: outbox.rejected,
        next_timer_at: None,
        retrying: None,
    };
    Ok(Some((outbox.epoch, position, status)))
}

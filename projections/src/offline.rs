//! What can be read of views and reactors, or said to them, while no server runs.

use crate::reactors::{ReactorsDir, peek, resume};
use crate::store::{Scan, Stores};
use crate::views::ViewsDir;
use crate::{
    ProjectionKind, ProjectionSettings, ProjectionState, ProjectionStatus, ReactorDefinition, RebuildError,
    ResumeError, ViewDefinition,
};
use annals_core::{Epoch, EventLog, Position, Record};
use chrono::Utc;
use std::sync::Arc;

/// How far views and reactors are, read from their stores. Blocks. While a server runs their stores are in use, and
/// `error` says so.
pub fn statuses_offline(
    log: &dyn EventLog,
    views: &[ViewDefinition],
    reactors: &[ReactorDefinition],
    settings: &ProjectionSettings,
) -> Vec<ProjectionStatus> {
    let views = views.iter().map(|view| {
        let read = view_checkpoint(settings, view);
        let (position, error) = judged(log, read);
        status(log, view.name(), Some(view.version()), position, error)
    });
    let reactors = reactors.iter().map(|reactor| {
        let directory = ReactorsDir::at(&settings.reactors_dir);
        let (read, outbox) = match peek(settings, &directory, reactor.name()) {
            Ok(Some((epoch, position, outbox))) => (Ok(Some((epoch, position))), outbox),
            Ok(None) => (Ok(None), Default::default()),
            Err(error) => (Err(error), Default::default()),
        };
        let (position, error) = judged(log, read);
        let mut status = status(log, reactor.name(), None, position, error);
        status.outbox = Some(outbox);
        status
    });
    views.chain(reactors).collect()
}

/// The furthest that any of the views has read in this epoch, by their stores, which nobody may have open. Blocks.
pub fn furthest_read(views: &[ViewDefinition], settings: &ProjectionSettings, epoch: Epoch) -> Position {
    let read = views
        .iter()
        .filter_map(|view| view_checkpoint(settings, view).ok().flatten());
    let in_epoch = read.filter(|(of, _)| *of == epoch).map(|(_, position)| position);
    in_epoch.max().unwrap_or_default()
}

/// All rows of a view as they are stored, MessagePack by key, in the order of the keys: for comparing byte by byte.
pub fn dump_rows(settings: &ProjectionSettings, view: &ViewDefinition) -> Result<Vec<(String, Vec<u8>)>, RebuildError> {
    let failed = |detail: String| RebuildError::Store {
        view: view.name().to_owned(),
        detail,
    };
    let directory = ViewsDir::open(&settings.views_dir, Arc::new(Stores::new(settings)))
        .map_err(|error| failed(error.to_string()))?;
    let serving = directory
        .serving(view.name())
        .ok_or_else(|| RebuildError::NotBuilt(view.name().to_owned()))?;
    let store = directory
        .open_serving(&serving)
        .map_err(|error| failed(error.to_string()))?;
    let mut rows = Vec::new();
    let read = store.rows().reader().each_row(&mut |key, row| {
        rows.push((key.to_owned(), row.row));
        Ok(Scan::Go)
    });
    read.map_err(|error| failed(error.to_string()))?;
    Ok(rows)
}

/// Tells a reactor whose outbox is lost from where to go on: the event at `from` is the first that it reacts to. Only
/// its state is folded from what lies before. A new outbox is begun; an old one is kept beside it. Blocks.
pub fn resume_reactor(
    log: &dyn EventLog,
    reactors: &[ReactorDefinition],
    settings: &ProjectionSettings,
    name: &str,
    from: Position,
) -> Result<(), ResumeError> {
    if !reactors.iter().any(|reactor| reactor.name() == name) {
        return Err(ResumeError::UnknownReactor {
            name: name.to_owned(),
            known: reactors.iter().map(|reactor| reactor.name().to_owned()).collect(),
        });
    }
    resume(log, settings, name, from)
}

type Read = Result<Option<(Epoch, Position)>, String>;

fn view_checkpoint(settings: &ProjectionSettings, view: &ViewDefinition) -> Read {
    if !settings.views_dir.is_dir() {
        return Ok(None);
    }
    let stores = Arc::new(Stores::new(settings));
    let directory = ViewsDir::open(&settings.views_dir, stores).map_err(|error| error.to_string())?;
    let Some(serving) = directory
        .serving(view.name())
        .filter(|serving| serving.version == view.version())
    else {
        return Ok(None);
    };
    let store = directory.open_serving(&serving).map_err(|error| error.to_string())?;
    let checkpoint = store.rows().checkpoint().map_err(|error| error.to_string())?;
    Ok(checkpoint.map(|checkpoint| (checkpoint.epoch, checkpoint.position)))
}

/// What a stored checkpoint is worth on this log.
fn judged(log: &dyn EventLog, read: Read) -> (Position, Option<String>) {
    match read {
        Ok(None) => (Position::ZERO, None),
        Ok(Some((epoch, position))) if epoch == log.epoch() && position <= log.head() => (position, None),
        Ok(Some((epoch, position))) => {
            let error = format!(
                "it is at {position} of epoch {epoch}, the log ends at {} of epoch {}",
                log.head(),
                log.epoch()
            );
            (Position::ZERO, Some(error))
        }
        Err(error) => (Position::ZERO, Some(error)),
    }
}

fn status(
    log: &dyn EventLog,
    name: &str,
    version: Option<u32>,
    position: Position,
    error: Option<String>,
) -> ProjectionStatus {
    let unread = log.read_one(position.next()).ok().flatten();
    ProjectionStatus {
        name: name.to_owned(),
        kind: if version.is_some() {
            ProjectionKind::View
        } else {
            ProjectionKind::Reactor
        },
        version,
        state: ProjectionState::Offline,
        position,
        head: log.head(),
        lag_events: log.head().since(position),
        lag_seconds: unread.map_or(0.0, |record| age_seconds(&record)),
        rate: 0.0,
        error,
        dead_letters: 0,
        rebuild: None,
        outbox: None,
    }
}

fn age_seconds(record: &Record) -> f64 {
    let recorded = record.view().map_or_else(|_| Utc::now(), |record| record.recorded_at());
    (Utc::now() - recorded).num_milliseconds().max(0) as f64 / 1e3
}

//! What can be read of dead letters while no server runs.

use super::board::{DeadLetter, DeadLetterState, dead_letter};
use crate::reactors::parked_commands;
use crate::store::{Letter, StoreError, Stores};
use crate::views::{ViewStore, ViewsDir};
use crate::{ProjectionSettings, ReactorDefinition, RebuildError, ViewDefinition};
use std::sync::Arc;

/// The dead letters of views, read from their stores, and those commands of reactors that are parked, from their outboxes.
/// Blocks. The event at which a reactor has stopped is known only while it runs.
pub fn dead_letters_offline(
    views: &[ViewDefinition],
    reactors: &[ReactorDefinition],
    settings: &ProjectionSettings,
) -> Result<Vec<DeadLetter>, RebuildError> {
    let mut found = Vec::new();
    for view in views {
        let Some(store) = serving(settings, view)? else {
            continue;
        };
        let (parked, stopped) = store.rows().letters().map_err(|error| failed(view, &error))?;
        let letter = |letter: &Letter, state| dead_letter(view.name(), view.version(), letter, state);
        found.extend(stopped.iter().map(|stopped| letter(stopped, DeadLetterState::Stopped)));
        found.extend(parked.iter().map(|parked| {
            let again = parked.attempts < settings.attempts_max;
            letter(
                parked,
                if again {
                    DeadLetterState::Retrying
                } else {
                    DeadLetterState::Parked
                },
            )
        }));
    }
    for reactor in reactors {
        found.extend(parked_commands(settings, reactor.name()));
    }
    Ok(found)
}

/// One row of a view as it is stored, MessagePack. Blocks.
pub fn stored_row(
    settings: &ProjectionSettings,
    view: &ViewDefinition,
    key: &str,
) -> Result<Option<Vec<u8>>, RebuildError> {
    let Some(store) = serving(settings, view)? else {
        return Ok(None);
    };
    let row = store.rows().row(key).map_err(|error| failed(view, &error))?;
    Ok(row.map(|stored| stored.row))
}

/// The store of this version of a view, if it was built.
fn serving(settings: &ProjectionSettings, view: &ViewDefinition) -> Result<Option<ViewStore>, RebuildError> {
    if !settings.views_dir.is_dir() {
        return Ok(None);
    }
    let directory = ViewsDir::open(&settings.views_dir, Arc::new(Stores::new(settings)))
        .map_err(|error| failed(view, &StoreError::Failed(error.to_string())))?;
    let serving = directory.serving(view.name());
    serving
        .filter(|serving| serving.version == view.version())
        .map(|serving| directory.open_serving(&serving))
        .transpose()
        .map_err(|error| failed(view, &error))
}

fn failed(view: &ViewDefinition, error: &StoreError) -> RebuildError {
    RebuildError::Store {
        view: view.name().to_owned(),
        detail: error.to_string(),
    }
}

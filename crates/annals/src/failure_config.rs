//! The sections `[projections]` and `[views.NAME]` of `annals.toml`: what becomes of events and commands that fail.

use crate::backend::Backend;
use annals_core::FailurePolicy;
use annals_projections::{ProjectionSettings, ViewDefinition};
use anyhow::{Result, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The section `[projections]`.
#[derive(Debug, Default, Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProjectionConfig {
    attempts_max: Option<u32>,
    retry_pause_seconds_max: Option<u64>,
    dead_letters_max: Option<usize>,
    parked_events_max: Option<u64>,
}

/// A section `[views.NAME]`.
#[derive(Debug, Default, Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct ViewConfig {
    on_failure: Option<FailurePolicy>,
}

/// What a configuration says about views and reactors.
#[derive(Debug, Default, Clone)]
pub(crate) struct FailureLimits {
    projections: ProjectionConfig,
    views: BTreeMap<String, ViewConfig>,
}

impl FailureLimits {
    /// What is said for the views of this backend; an error for one that it does not have.
    pub(crate) fn of(
        projections: ProjectionConfig,
        views: &BTreeMap<String, ViewConfig>,
        backend: &Backend,
    ) -> Result<Self> {
        let known: Vec<_> = backend.views().iter().map(ViewDefinition::name).collect();
        for name in views.keys() {
            ensure!(
                known.contains(&name.as_str()),
                "[views.{name}]: there is no view {name:?}; there are: {}",
                known.join(", ")
            );
        }
        ensure!(
            projections.attempts_max != Some(0),
            "[projections] attempts_max = 0 would try nothing: set it to 1 or more, or leave it out"
        );
        Ok(Self {
            projections,
            views: views.clone(),
        })
    }

    /// Changes what is said; the rest stays as it is.
    pub(crate) fn apply(&self, settings: &mut ProjectionSettings) {
        let said = self.projections;
        settings.attempts_max = said.attempts_max.unwrap_or(settings.attempts_max);
        settings.retry_pause_max = said
            .retry_pause_seconds_max
            .map_or(settings.retry_pause_max, Duration::from_secs);
        settings.dead_letters_max = said.dead_letters_max.unwrap_or(settings.dead_letters_max);
        settings.parked_events_max = said.parked_events_max.unwrap_or(settings.parked_events_max);
        for (name, view) in &self.views {
            if let Some(policy) = view.on_failure {
                settings.on_failure.insert(name.clone(), policy);
            }
        }
    }
}

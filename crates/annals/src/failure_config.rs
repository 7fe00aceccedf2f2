//! The sections `[projections]` and `[views.NAME]` of `annals.toml`: what views and reactors keep in memory, and what
//! becomes of events and commands that fail.

use crate::backend::Backend;
use crate::bounded::Section;
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
    rebuild_share_percent: Option<u32>,
    fold_bytes_max: Option<usize>,
    spill_bytes_max: Option<u64>,
    spill_bytes_all_max: Option<u64>,
    spill_seconds_max: Option<u64>,
    cache_bytes_max: Option<u64>,
    open_files_max: Option<usize>,
}

/// Least and most bytes that may be said for a part of memory: below, nothing is gathered; above, it is a slip of the pen.
const MEMORY_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 40;

impl ProjectionConfig {
    /// An error for what is out of bounds.
    pub(crate) fn check(self) -> Result<()> {
        self.apply(&mut ProjectionSettings::new("", ""))
    }

    /// Changes what is said; the rest stays as it is.
    fn apply(self, settings: &mut ProjectionSettings) -> Result<()> {
        let section = Section("projections");
        section.set("attempts_max", self.attempts_max, 1..=1_000, &mut settings.attempts_max)?;
        let (said, mut seconds) = (self.retry_pause_seconds_max, settings.retry_pause_max.as_secs());
        section.set("retry_pause_seconds_max", said, 1..=86_400, &mut seconds)?;
        settings.retry_pause_max = Duration::from_secs(seconds);
        let letters = 1..=1_000_000;
        section.set(
            "dead_letters_max",
            self.dead_letters_max,
            letters,
            &mut settings.dead_letters_max,
        )?;
        let events = 1..=100_000_000;
        section.set(
            "parked_events_max",
            self.parked_events_max,
            events,
            &mut settings.parked_events_max,
        )?;
        let (said, percent) = (self.rebuild_share_percent, 1..=100);
        section.set(
            "rebuild_share_percent",
            said,
            percent,
            &mut settings.rebuild_share_percent,
        )?;
        let bytes = *MEMORY_BYTES.start() as usize..=*MEMORY_BYTES.end() as usize;
        section.set(
            "fold_bytes_max",
            self.fold_bytes_max,
            bytes,
            &mut settings.table_bytes_max,
        )?;
        section.set(
            "spill_bytes_max",
            self.spill_bytes_max,
            MEMORY_BYTES,
            &mut settings.spill_bytes,
        )?;
        let (said, all) = (self.spill_bytes_all_max, &mut settings.spill_bytes_all);
        section.set("spill_bytes_all_max", said, MEMORY_BYTES, all)?;
        ensure!(
            settings.spill_bytes_all >= settings.spill_bytes,
            "[projections] spill_bytes_max = {} is more than spill_bytes_all_max = {}, which is for all stores together: \
             lower the one or raise the other",
            settings.spill_bytes,
            settings.spill_bytes_all
        );
        let (said, mut seconds) = (self.spill_seconds_max, settings.spill_every.as_secs());
        section.set("spill_seconds_max", said, 1..=86_400, &mut seconds)?;
        settings.spill_every = Duration::from_secs(seconds);
        section.set(
            "cache_bytes_max",
            self.cache_bytes_max,
            MEMORY_BYTES,
            &mut settings.cache_bytes,
        )?;
        let files = 16..=1_000_000;
        section.set(
            "open_files_max",
            self.open_files_max,
            files,
            &mut settings.open_files_max,
        )
    }
}

/// A section `[views.NAME]`.
#[derive(Debug, Default, Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct ViewConfig {
    on_failure: Option<FailurePolicy>,
}

/// What a configuration says about views and reactors, within its bounds.
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
        projections.check()?;
        Ok(Self {
            projections,
            views: views.clone(),
        })
    }

    /// Changes what is said; the rest stays as it is.
    pub(crate) fn apply(&self, settings: &mut ProjectionSettings) {
        // What is out of bounds was refused when this was made.
        let _ = self.projections.apply(settings);
        for (name, view) in &self.views {
            if let Some(policy) = view.on_failure {
                settings.on_failure.insert(name.clone(), policy);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_counts_within_its_bounds() {
        let of = |text: &str| toml::from_str::<ProjectionConfig>(text).unwrap();
        let mut settings = ProjectionSettings::new("", "");
        of("rebuild_share_percent = 50\nspill_bytes_max = 1048576\nspill_seconds_max = 1")
            .apply(&mut settings)
            .unwrap();
        assert_eq!(
            (
                settings.rebuild_share_percent,
                settings.spill_bytes,
                settings.spill_every
            ),
            (50, 1 << 20, Duration::from_secs(1))
        );
        assert_eq!(settings.attempts_max, ProjectionSettings::new("", "").attempts_max);
        for key in [
            "attempts_max",
            "retry_pause_seconds_max",
            "dead_letters_max",
            "parked_events_max",
            "rebuild_share_percent",
            "fold_bytes_max",
            "spill_bytes_max",
            "spill_bytes_all_max",
            "spill_seconds_max",
            "cache_bytes_max",
            "open_files_max",
        ] {
            let error = of(&format!("{key} = 0")).check().unwrap_err().to_string();
            assert!(error.contains(key) && error.contains("at least"), "{error}");
        }
        let error = of("spill_bytes_max = 134217728").check().unwrap_err().to_string();
        assert!(error.contains("spill_bytes_all_max"), "{error}");
    }
}

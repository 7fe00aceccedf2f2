//! The sections `[projections]`, `[views]` and `[views.NAME]` of `annals.toml`: what views and reactors keep in memory, what
//! becomes of events and commands that fail, and how long views keep what their rows were.

use crate::backend::Backend;
use crate::bounded::Section;
use annals_core::{FailurePolicy, History};
use annals_projections::{ProjectionSettings, ViewDefinition};
use anyhow::{Result, bail, ensure};
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;
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

/// The section `[views]`, with those of single views in it.
#[derive(Debug, Default, Clone, Deserialize, PartialEq, Eq)]
pub(crate) struct ViewsConfig {
    history_days: Option<HistoryDays>,
    /// No view has a name with an underscore.
    #[serde(flatten)]
    by_name: BTreeMap<String, ViewConfig>,
}

/// A section `[views.NAME]`.
#[derive(Debug, Default, Clone, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct ViewConfig {
    on_failure: Option<FailurePolicy>,
    history_days: Option<HistoryDays>,
}

/// How long what rows were is kept, as it is written: a number of days, "all" or "off".
#[derive(Debug, Clone, PartialEq, Eq)]
enum HistoryDays {
    Days(u32),
    Word(String),
}

impl<'de> Deserialize<'de> for HistoryDays {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Said;

        impl Visitor<'_> for Said {
            type Value = HistoryDays;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number of days, \"all\" or \"off\"")
            }

            fn visit_i64<E: de::Error>(self, days: i64) -> Result<HistoryDays, E> {
                let fits = u32::try_from(days).map(HistoryDays::Days);
                fits.map_err(|_| E::invalid_value(Unexpected::Signed(days), &self))
            }

            fn visit_u64<E: de::Error>(self, days: u64) -> Result<HistoryDays, E> {
                let fits = u32::try_from(days).map(HistoryDays::Days);
                fits.map_err(|_| E::invalid_value(Unexpected::Unsigned(days), &self))
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<HistoryDays, E> {
                Ok(HistoryDays::Word(word.to_owned()))
            }
        }

        deserializer.deserialize_any(Said)
    }
}

/// The same, understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Off,
    /// None: all of it.
    For(Option<Duration>),
}

impl HistoryDays {
    fn kept(&self, section: &str) -> Result<Kept> {
        match self {
            Self::Days(days @ 1..) => Ok(Kept::For(Some(Duration::from_secs(u64::from(*days) * 86_400)))),
            Self::Word(word) if word == "off" => Ok(Kept::Off),
            Self::Word(word) if word == "all" => Ok(Kept::For(None)),
            Self::Days(_) => bail!("[{section}] history_days = 0 keeps nothing: write \"off\", or 1 or more"),
            Self::Word(word) => {
                bail!("[{section}] history_days = {word:?}: write a number of days, \"all\" or \"off\"")
            }
        }
    }
}

/// What a configuration says about views and reactors, within its bounds.
#[derive(Debug, Default, Clone)]
pub(crate) struct FailureLimits {
    projections: ProjectionConfig,
    views: BTreeMap<String, ViewConfig>,
    history: Option<Kept>,
    history_by: BTreeMap<String, Kept>,
}

impl FailureLimits {
    /// What is said for the views of this backend; an error for one that it does not have.
    pub(crate) fn of(projections: ProjectionConfig, views: &ViewsConfig, backend: &Backend) -> Result<Self> {
        let known: Vec<_> = backend.views().iter().map(ViewDefinition::name).collect();
        for name in views.by_name.keys() {
            ensure!(
                known.contains(&name.as_str()),
                "[views.{name}]: there is no view {name:?}; there are: {}",
                known.join(", ")
            );
        }
        projections.check()?;
        let mut history_by = BTreeMap::new();
        for (name, view) in &views.by_name {
            if let Some(days) = &view.history_days {
                history_by.insert(name.clone(), days.kept(&format!("views.{name}"))?);
            }
        }
        let history = views.history_days.as_ref().map(|days| days.kept("views"));
        Ok(Self {
            projections,
            views: views.by_name.clone(),
            history: history.transpose()?,
            history_by,
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
        if let Some(Kept::For(kept)) = self.history {
            settings.history_kept = kept;
        }
        for (name, kept) in &self.history_by {
            if let Kept::For(kept) = kept {
                settings.history_kept_by.insert(name.clone(), *kept);
            }
        }
    }

    /// The views, those without history whose history is off here. One that keeps none by its code keeps none.
    pub(crate) fn views(&self, views: &[ViewDefinition]) -> Vec<ViewDefinition> {
        let kept = |view: &ViewDefinition| self.history_by.get(view.name()).copied().or(self.history);
        let said = |view: &ViewDefinition| match kept(view) {
            Some(Kept::Off) => view.clone().with_history(History::Off),
            _ => view.clone(),
        };
        views.iter().map(said).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use annals_commerce::{Orders, Payments, Products};

    fn limits(text: &str) -> Result<FailureLimits> {
        let backend = Backend::new("shop").view(Orders).view(Payments).view(Products);
        FailureLimits::of(ProjectionConfig::default(), &toml::from_str(text)?, &backend)
    }

    #[test]
    fn history_is_kept_as_long_as_is_written_for_all_views_or_for_one() {
        let text = "history_days = 30\n[orders]\nhistory_days = \"off\"\n[payments]\nhistory_days = \"all\"";
        let limits = limits(text).unwrap();
        let mut settings = ProjectionSettings::new("views", "reactors");
        limits.apply(&mut settings);
        let days = |days: u64| Some(Duration::from_secs(days * 86_400));
        assert_eq!(settings.history_kept, days(30));
        assert_eq!(settings.history_kept_by.get("payments"), Some(&None));
        let views = [ViewDefinition::of(Orders), ViewDefinition::of(Products)];
        let kept: Vec<bool> = limits.views(&views).iter().map(ViewDefinition::keeps_history).collect();
        assert_eq!(kept, [false, true]);
    }

    #[test]
    fn what_is_no_time_is_refused_with_what_to_write() {
        for (text, named) in [
            ("history_days = 0", "[views] history_days = 0"),
            (
                "[orders]\nhistory_days = \"never\"",
                "[views.orders] history_days = \"never\"",
            ),
            ("history_days = -3", "a whole number of days"),
            ("history_days = 2.5", "a whole number of days"),
            ("[orderz]\nhistory_days = 3", "there is no view \"orderz\""),
        ] {
            let error = limits(text).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

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

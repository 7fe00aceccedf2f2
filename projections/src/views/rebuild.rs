//! Rebuilds: a view is built anew beside the one that serves, compared with it, and put in its place in one step.

use super::build::{Build, BuildWatch};
use super::directory::ViewsDir;
use crate::space::{NoSpace, Space};
use crate::store::{Letter, RowStore, Scan, StoreError, Stores};
use crate::{ProjectionSettings, RebuildError, ViewDefinition};
use annals_core::{Catalog, EventLog, Position};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Differences that a comparison names.
const DIFFERENCES_SHOWN: usize = 10;

/// What a rebuild does once the new rows are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RebuildOptions {
    /// Whether the new rows take the place of the old ones; they are thrown away otherwise.
    pub swap: bool,
    /// Whether they are compared with the old ones first.
    pub compare: bool,
}

/// How far a rebuild is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RebuildProgress {
    /// Up to where the log was read.
    pub position: Position,
    /// Where it ends.
    pub total: Position,
    /// Since the beginning.
    pub events_per_second: f64,
    /// Seconds until it is done, at that rate.
    pub eta_seconds: Option<f64>,
}

/// What a rebuild did.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct RebuildReport {
    /// The view.
    pub view: String,
    /// Its version.
    pub version: u32,
    /// Up to where the log was read.
    pub position: Position,
    /// Rows that the view has now.
    pub rows: u64,
    /// How long it took.
    pub seconds: f64,
    /// Whether the new rows took the place of the old ones.
    pub swapped: bool,
    /// The comparison, if one was asked for.
    pub comparison: Option<Comparison>,
}

/// Old rows and new rows.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Comparison {
    /// Why there was nothing to compare with: the old store is missing or cannot be read.
    pub unreadable: Option<String>,
    /// Rows that are the same in both.
    pub same: u64,
    /// Rows that only the old store has.
    pub only_old: u64,
    /// Rows that only the new store has.
    pub only_new: u64,
    /// Rows that both have, with different bytes.
    pub differing: u64,
    /// The first ten that are not the same, in the order of their keys.
    pub first: Vec<Difference>,
}

impl Comparison {
    /// Whether old and new are the same.
    pub fn is_same(&self) -> bool {
        self.unreadable.is_none() && self.only_old + self.only_new + self.differing == 0
    }
}

/// A row that is not the same in the old and the new store.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// The row's key.
    pub key: String,
    /// What differs.
    pub kind: DifferenceKind,
}

/// How a row differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DifferenceKind {
    /// Only the old store has it.
    OnlyOld,
    /// Only the new store has it.
    OnlyNew,
    /// Both have it, with different bytes, or the old one is damaged.
    Differs,
}

/// Builds a view anew while no server runs. Blocks. `progress` is called about ten times a second.
pub fn rebuild_offline(
    log: &dyn EventLog,
    catalog: &Catalog,
    view: &ViewDefinition,
    settings: &ProjectionSettings,
    options: RebuildOptions,
    progress: &mut dyn FnMut(RebuildProgress),
) -> Result<RebuildReport, RebuildError> {
    let begun = Instant::now();
    let failed = |detail: String| RebuildError::Store {
        view: view.name().to_owned(),
        detail,
    };
    let directory = ViewsDir::open(&settings.views_dir, Arc::new(Stores::new(settings)))
        .map_err(|error| failed(error.to_string()))?;
    directory.remove_leftovers();
    let build = Build {
        log,
        catalog,
        view,
        settings,
        directory: &directory,
        space: &Space::new(&settings.views_dir, settings.reserve_bytes),
    };
    let mut shadow = build.shadow()?;
    shadow.catch_up(None, &mut Told(progress))?;
    let serving = directory.serving(view.name());
    let old = serving.as_ref().map(|serving| directory.open_serving(serving));
    let comparison = match (options.compare, &old, shadow.finish()?) {
        (true, Some(Ok(old)), Some(new)) => {
            Some(compare(old.rows(), new.rows()).map_err(|error| failed(error.to_string()))?)
        }
        (true, Some(Err(error)), _) => Some(unreadable(error.to_string())),
        (true, None, _) => Some(unreadable("the view was not built before".into())),
        _ => None,
    };
    let report = RebuildReport {
        view: view.name().to_owned(),
        version: view.version(),
        position: shadow.position(),
        rows: shadow.rows(),
        seconds: begun.elapsed().as_secs_f64(),
        swapped: options.swap,
        comparison,
    };
    if options.swap {
        shadow.keep()?;
        drop(old);
        // What served before is a leftover now.
        directory.remove_leftovers();
    }
    Ok(report)
}

struct Told<'a>(&'a mut dyn FnMut(RebuildProgress));

impl BuildWatch for Told<'_> {
    fn cancelled(&self) -> bool {
        false
    }

    fn progress(&mut self, progress: RebuildProgress) {
        (self.0)(progress);
    }

    fn no_space(&mut self, _: NoSpace) -> bool {
        false
    }

    fn failed(&mut self, _: Letter) {}
}

fn unreadable(why: String) -> Comparison {
    Comparison {
        unreadable: Some(why),
        ..Comparison::default()
    }
}

/// Goes through the new rows and looks each up among the old, then the other way round for those only the old has.
fn compare(old: &RowStore, new: &RowStore) -> Result<Comparison, StoreError> {
    let mut comparison = Comparison::default();
    let mut different = BTreeMap::new();
    let mut note = |key: &str, kind: DifferenceKind| {
        different.insert(key.to_owned(), kind);
        if different.len() > DIFFERENCES_SHOWN {
            different.pop_last();
        }
    };
    new.reader().each_row(&mut |key, row| {
        match old.row(key) {
            Ok(Some(before)) if before == row => comparison.same += 1,
            Ok(None) => {
                comparison.only_new += 1;
                note(key, DifferenceKind::OnlyNew);
            }
            Ok(Some(_)) | Err(_) => {
                comparison.differing += 1;
                note(key, DifferenceKind::Differs);
            }
        }
        Ok(Scan::Go)
    })?;
    old.reader().each_row(&mut |key, _| {
        if new.row(key)?.is_none() {
            comparison.only_old += 1;
            note(key, DifferenceKind::OnlyOld);
        }
        Ok(Scan::Go)
    })?;
    comparison.first = different
        .into_iter()
        .map(|(key, kind)| Difference { key, kind })
        .collect();
    Ok(comparison)
}

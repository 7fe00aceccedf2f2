//! Rebuilds: a view is built anew beside the one that serves, compared with it, and put in its place in one step.

use super::build::{Build, BuildWatch, Shadow};
use super::compare::{Comparison, compare, unreadable};
use super::directory::ViewsDir;
use crate::definition::panic_text;
use crate::pass::{Member, Pass};
use crate::space::{NoSpace, Space};
use crate::store::{Letter, Stores};
use crate::{ProjectionSettings, RebuildError, ViewDefinition};
use annals_core::{Catalog, EventLog, Position};
use std::sync::Arc;
use std::time::Instant;

/// What each of several views may keep in memory at least.
const TABLE_BYTES_MIN: usize = 2 * 1024 * 1024;

/// What a rebuild begins with, and what it does once the new rows are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RebuildOptions {
    /// Which rows it begins with.
    pub from: RebuildFrom,
    /// Whether the new rows take the place of the old ones. If not, they are kept until they are swapped in or dropped.
    pub swap: bool,
    /// Whether they are compared with the old ones first.
    pub compare: bool,
}

impl Default for RebuildOptions {
    fn default() -> Self {
        Self {
            from: RebuildFrom::Log,
            swap: true,
            compare: false,
        }
    }
}

/// Which rows a rebuild begins with. What the log has beyond them is folded in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebuildFrom {
    /// None: the log is folded from its beginning; a rebuild that a kill interrupted is continued.
    Log,
    /// Those of a rebuild that was not swapped in yet.
    Ready,
    /// Those that served before the last swap: a rollback.
    Previous,
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

/// Builds a view anew while no server runs. Blocks. `progress` is called about ten times a second.
pub fn rebuild_offline(
    log: &dyn EventLog,
    catalog: &Catalog,
    view: &ViewDefinition,
    settings: &ProjectionSettings,
    options: RebuildOptions,
    progress: &mut dyn FnMut(RebuildProgress),
) -> Result<RebuildReport, RebuildError> {
    let directory = opened(settings, view)?;
    rebuild_in(&directory, None, log, catalog, view, settings, options, progress)
}

/// Builds several views anew while no server runs, each in its own thread, in one pass over the log. Blocks. `progress` is
/// told the number of the view. The reports come in the order of the views.
pub fn rebuild_together_offline<'a>(
    log: &dyn EventLog,
    catalog: &Catalog,
    views: &[&'a ViewDefinition],
    settings: &ProjectionSettings,
    options: RebuildOptions,
    progress: &(dyn Fn(usize, RebuildProgress) + Sync),
) -> Vec<Result<RebuildReport, RebuildError>> {
    let Some(first) = views.first() else {
        return Vec::new();
    };
    let directory = match opened(settings, first) {
        Ok(directory) => directory,
        Err(error) => return vec![Err(error)],
    };
    let mut settings = settings.clone();
    // What one may keep in memory is for all of them together.
    settings.table_bytes_max = (settings.table_bytes_max / views.len()).max(TABLE_BYTES_MIN);
    let (pass, directory, settings) = (Arc::new(Pass::default()), &directory, &settings);
    let members: Vec<Member> = views.iter().map(|_| pass.join()).collect();
    std::thread::scope(|scope| {
        let rebuild = |(number, (view, member)): (usize, (&'a ViewDefinition, Member))| {
            let thread = scope.spawn(move || {
                let told = &mut |at| progress(number, at);
                rebuild_in(directory, Some(member), log, catalog, view, settings, options, told)
            });
            (view, thread)
        };
        let threads: Vec<_> = views.iter().copied().zip(members).enumerate().map(rebuild).collect();
        let ended = threads.into_iter().map(|(view, thread)| match thread.join() {
            Ok(report) => report,
            Err(panic) => Err(RebuildError::Store {
                view: view.name().to_owned(),
                detail: panic_text(panic.as_ref()),
            }),
        });
        ended.collect()
    })
}

fn opened(settings: &ProjectionSettings, view: &ViewDefinition) -> Result<ViewsDir, RebuildError> {
    let stores = Arc::new(Stores::new(settings));
    let directory = ViewsDir::open(&settings.views_dir, stores).map_err(|error| RebuildError::Store {
        view: view.name().to_owned(),
        detail: error.to_string(),
    })?;
    directory.remove_leftovers();
    Ok(directory)
}

#[expect(clippy::too_many_arguments, reason = "what a rebuild needs, handed on")]
fn rebuild_in(
    directory: &ViewsDir,
    member: Option<Member>,
    log: &dyn EventLog,
    catalog: &Catalog,
    view: &ViewDefinition,
    settings: &ProjectionSettings,
    options: RebuildOptions,
    progress: &mut dyn FnMut(RebuildProgress),
) -> Result<RebuildReport, RebuildError> {
    let begun = Instant::now();
    let build = Build {
        log,
        catalog,
        view,
        settings,
        directory,
        space: &Space::new(&settings.views_dir, settings.reserve_bytes),
    };
    let mut shadow = build.begin(options)?;
    shadow.in_pass(member);
    let comparison = match fill(&build, &mut shadow, options.compare, &mut Told(progress)) {
        Ok(comparison) => comparison,
        Err(error) => {
            shadow.leave_after(&error, false);
            return Err(error);
        }
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
        let kept = shadow.keep(true)?;
        kept.dropped.iter().for_each(|store| directory.discard(store));
    } else {
        shadow.leave_ready(options)?;
    }
    Ok(report)
}

/// Removes what a view keeps besides the rows that serve: rows for a rollback, and rebuilt ones that were not swapped in.
/// While no server runs. Returns whether there were any.
pub fn drop_spare_rows(settings: &ProjectionSettings, view: &ViewDefinition) -> Result<bool, RebuildError> {
    let failed = |error: std::io::Error| RebuildError::Store {
        view: view.name().to_owned(),
        detail: error.to_string(),
    };
    let directory = ViewsDir::open(&settings.views_dir, Arc::new(Stores::new(settings))).map_err(failed)?;
    let previous = directory.drop_previous(view.name()).map_err(failed)?;
    let shadow = directory.drop_shadow(view.name()).map_err(failed)?;
    Ok(previous || shadow)
}

/// Folds to the log's end. For a comparison there is a stop where the rows that serve end, so that both sides are of one
/// position.
fn fill(
    build: &Build<'_>,
    shadow: &mut Shadow<'_>,
    compares: bool,
    watch: &mut dyn BuildWatch,
) -> Result<Option<Comparison>, RebuildError> {
    let comparison = match compares {
        true => Some(compared(build, shadow, watch)?),
        false => None,
    };
    shadow.catch_up(None, watch)?;
    Ok(comparison)
}

fn compared(
    build: &Build<'_>,
    shadow: &mut Shadow<'_>,
    watch: &mut dyn BuildWatch,
) -> Result<Comparison, RebuildError> {
    let name = build.view.name();
    let Some(serving) = build.directory.serving(name) else {
        return Ok(unreadable("the view was not built before".into()));
    };
    let opened = build.directory.open_serving(&serving).and_then(|old| {
        let checkpoint = old.rows().checkpoint()?;
        Ok((old, checkpoint))
    });
    let (old, checkpoint) = match opened {
        Ok((old, Some(checkpoint))) => (old, checkpoint),
        Ok((_, None)) => return Ok(unreadable("the old rows have no checkpoint".into())),
        Err(error) => return Ok(unreadable(error.to_string())),
    };
    if checkpoint.epoch != build.log.epoch() || checkpoint.position > build.log.head() {
        return Ok(unreadable("the old rows are of another history of the log".into()));
    }
    shadow.catch_up(Some(checkpoint.position), watch)?;
    let (old_at, new_at) = (checkpoint.position, shadow.position());
    if old_at != new_at {
        let why =
            format!("the old rows are at {old_at}, the new ones at {new_at} already: compare in a running server");
        return Ok(unreadable(why));
    }
    let failed = |detail: String| RebuildError::Store {
        view: name.to_owned(),
        detail,
    };
    let new = shadow.store().ok_or_else(|| RebuildError::NotBuilt(name.to_owned()))?;
    match compare(&old.rows().reader(), &new.rows().reader(), &mut || !watch.cancelled()) {
        Ok(Some(comparison)) => Ok(comparison),
        Ok(None) => Err(RebuildError::Cancelled(name.to_owned())),
        Err(error) => Err(failed(error.to_string())),
    }
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

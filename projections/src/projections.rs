//! [`Projections`]: the running views and reactors of a server.

use crate::pass::Pass;
use crate::progress::locked;
use crate::query;
use crate::reactors::{ReactorsDir, RunningReactor};
use crate::store::Stores;
use crate::views::{Order, RunningView, Shared, ViewsDir, Wanted, begin_rebuild, direct_rebuild};
use crate::{
    Dispatcher, HistoryPage, HistoryQuery, ListPage, ListQuery, ProjectionError, ProjectionSettings, ProjectionStatus,
    QueryError, ReactorDefinition, RebuildError, RebuildOptions, RebuildStatus, ResumeError, RowAnswer, ViewDefinition,
    ViewWatch,
};
use crate::{reactors, views};
use annals_core::{Catalog, Epoch, EventLog, IndexKind, LogError, Position};
use chrono::{DateTime, Utc};
use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

/// The running views and reactors, a thread for each. Cheap to clone. They stop with [`Projections::shutdown`], without
/// waiting also when the last clone is dropped.
#[derive(Clone)]
pub struct Projections {
    pub(crate) running: Arc<Running>,
}

pub(crate) struct Running {
    shared: Arc<Shared>,
    pub(crate) views: Vec<Arc<RunningView>>,
    pub(crate) reactors: Vec<Arc<RunningReactor>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Projections {
    /// Starts all views and reactors. Returns when each has opened its store or has begun to build it. Blocks.
    pub fn start(
        log: Arc<dyn EventLog>,
        catalog: Arc<Catalog>,
        views: Vec<ViewDefinition>,
        reactors: Vec<ReactorDefinition>,
        dispatcher: Option<Arc<dyn Dispatcher>>,
        settings: ProjectionSettings,
    ) -> Result<Self, ProjectionError> {
        let names = views.iter().map(ViewDefinition::name);
        check_names(names.chain(reactors.iter().map(ReactorDefinition::name)))?;
        let stores = Arc::new(Stores::new(&settings));
        let directory = ViewsDir::open(&settings.views_dir, Arc::clone(&stores))
            .map_err(|error| unusable(&settings.views_dir, error))?;
        directory.remove_leftovers();
        let shared = Arc::new(Shared {
            log,
            catalog,
            settings,
            stores,
            stopping: AtomicBool::new(false),
        });
        let directory = Arc::new(directory);
        let views = views
            .into_iter()
            .map(|view| Arc::new(RunningView::new(Arc::clone(&shared), view, Arc::clone(&directory))))
            .collect();
        let running = Running {
            reactors: prepare(&shared, reactors, dispatcher)?,
            shared,
            views,
            threads: Mutex::new(Vec::new()),
        };
        running.spawn_all()?;
        Ok(Self {
            running: Arc::new(running),
        })
    }

    /// How far each view and reactor is, in the order they were given. Does no I/O.
    pub fn statuses(&self) -> Vec<ProjectionStatus> {
        let views = self.running.views.iter().map(|view| view.status());
        views
            .chain(self.running.reactors.iter().map(|reactor| reactor.status()))
            .collect()
    }

    /// A view to be queried.
    pub fn view(&self, name: &str) -> Option<ViewHandle> {
        let view = self.running.views.iter().find(|view| view.name() == name)?;
        Some(ViewHandle { view: Arc::clone(view) })
    }

    /// All views to be queried, in the order they were given.
    pub fn views(&self) -> Vec<ViewHandle> {
        let handle = |view: &Arc<RunningView>| ViewHandle { view: Arc::clone(view) };
        self.running.views.iter().map(handle).collect()
    }

    /// Begins to rebuild a view, beside the one that serves: from the log's beginning, from rows that were rebuilt before,
    /// or from those that served before (a rollback). Returns at once.
    pub fn rebuild_with(&self, name: &str, options: RebuildOptions) -> Result<(), RebuildError> {
        begin_rebuild(self.rebuildable(name)?, Order::of(options), None)
    }

    /// Begins to rebuild a view from the log's beginning, and to swap it in when it is done. Returns at once.
    pub fn rebuild(&self, name: &str) -> Result<(), RebuildError> {
        self.rebuild_with(name, RebuildOptions::default())
    }

    /// Begins to rebuild several views in one pass over the log, each in its own thread. Returns at once: what became of
    /// each, in their order.
    pub fn rebuild_together(&self, names: &[String], options: RebuildOptions) -> Vec<Result<(), RebuildError>> {
        let pass = Arc::new(Pass::default());
        // All before the first one reads.
        let members: Vec<_> = names.iter().map(|_| pass.join()).collect();
        let begin =
            |(name, member): (&String, _)| begin_rebuild(self.rebuildable(name)?, Order::of(options), Some(member));
        names.iter().zip(members).map(begin).collect()
    }

    /// Lets a rebuild that is going on rest, also after a restart. It does so within its next step.
    pub fn pause_rebuild(&self, name: &str) -> Result<(), RebuildError> {
        direct_rebuild(self.rebuildable(name)?, Wanted::Rest)
    }

    /// Lets a rebuild that rests go on.
    pub fn resume_rebuild(&self, name: &str) -> Result<(), RebuildError> {
        direct_rebuild(self.rebuildable(name)?, Wanted::GoOn)
    }

    /// Ends a rebuild and drops its rows, also such as wait to be swapped in. It does so within its next step.
    pub fn cancel_rebuild(&self, name: &str) -> Result<(), RebuildError> {
        direct_rebuild(self.rebuildable(name)?, Wanted::End)
    }

    /// Drops rows that were kept for a rollback, and rebuilt ones that wait to be swapped in. Whether there were any.
    pub fn drop_spare_rows(&self, name: &str) -> Result<bool, RebuildError> {
        views::drop_spare(self.rebuildable(name)?)
    }

    fn rebuildable(&self, name: &str) -> Result<&Arc<RunningView>, RebuildError> {
        let views = &self.running.views;
        let view = views.iter().find(|view| view.name() == name);
        view.ok_or_else(|| RebuildError::UnknownView {
            name: name.to_owned(),
            known: views.iter().map(|view| view.name().to_owned()).collect(),
        })
    }

    /// How far a view's rebuild is; `None` if there is no such view or it was not rebuilt since the start.
    pub fn rebuild_status(&self, name: &str) -> Option<RebuildStatus> {
        let view = self.running.views.iter().find(|view| view.name() == name)?;
        locked(&view.rebuild).status.clone()
    }

    /// Tells a reactor that has stopped from where to go on, see [`crate::resume_reactor`].
    pub fn resume_reactor(&self, name: &str, from: Position) -> Result<(), ResumeError> {
        match self.running.reactors.iter().find(|reactor| reactor.name() == name) {
            Some(reactor) => reactor.resume(from),
            None => Err(ResumeError::UnknownReactor {
                name: name.to_owned(),
                known: self
                    .running
                    .reactors
                    .iter()
                    .map(|reactor| reactor.name().to_owned())
                    .collect(),
            }),
        }
    }

    /// Stops all views and reactors: what was folded is written and synced, commands in flight are waited for. Blocks.
    pub fn shutdown(&self) {
        self.running.shutdown();
    }
}

impl Running {
    fn spawn_all(&self) -> Result<(), ProjectionError> {
        let no_thread = |name: &str, error| ProjectionError::Thread {
            name: name.to_owned(),
            error,
        };
        let (ready, is_ready) = mpsc::channel();
        for view in &self.views {
            let thread =
                views::spawn(Arc::clone(view), ready.clone()).map_err(|error| no_thread(view.name(), error))?;
            locked(&self.threads).push(thread);
        }
        for reactor in &self.reactors {
            let thread = reactors::spawn(Arc::clone(reactor)).map_err(|error| no_thread(reactor.name(), error))?;
            locked(&self.threads).push(thread);
        }
        drop(ready);
        // Ends when each view has spoken or, should it have failed at once, has gone.
        for () in is_ready {}
        for view in &self.views {
            views::continue_rebuild(view);
        }
        Ok(())
    }

    fn shutdown(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        for view in &self.views {
            let rebuild = locked(&view.rebuild).thread.take();
            if let Some(thread) = rebuild {
                // A panic in there was told by the thread itself.
                let _ = thread.join();
            }
        }
        for thread in locked(&self.threads).drain(..) {
            let _ = thread.join();
        }
        for view in &self.views {
            view.close();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
    }
}

fn prepare(
    shared: &Arc<Shared>,
    reactors: Vec<ReactorDefinition>,
    dispatcher: Option<Arc<dyn Dispatcher>>,
) -> Result<Vec<Arc<RunningReactor>>, ProjectionError> {
    let Some(first) = reactors.first() else {
        return Ok(Vec::new());
    };
    let dispatcher = dispatcher.ok_or_else(|| ProjectionError::NoDispatcher(first.name().to_owned()))?;
    let path = &shared.settings.reactors_dir;
    let directory = Arc::new(ReactorsDir::open(path).map_err(|error| unusable(path, error))?);
    let prepare = |reactor| {
        let (directory, dispatcher) = (Arc::clone(&directory), Arc::clone(&dispatcher));
        Arc::new(RunningReactor::new(Arc::clone(shared), reactor, directory, dispatcher))
    };
    Ok(reactors.into_iter().map(prepare).collect())
}

fn check_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), ProjectionError> {
    let mut seen = HashSet::new();
    for name in names {
        if annals_core::check_category(name).is_err() || name.starts_with('$') {
            return Err(ProjectionError::InvalidName(name.to_owned()));
        }
        if !seen.insert(name) {
            return Err(ProjectionError::NameTwice(name.to_owned()));
        }
    }
    Ok(())
}

fn unusable(path: &Path, error: std::io::Error) -> ProjectionError {
    ProjectionError::Directory {
        path: path.to_owned(),
        error,
    }
}

/// A view to be queried. Cheap to clone.
#[derive(Clone)]
pub struct ViewHandle {
    view: Arc<RunningView>,
}

impl ViewHandle {
    /// What is known of the view.
    pub fn definition(&self) -> &ViewDefinition {
        &self.view.definition
    }

    /// The row of a key. May block on the disk.
    pub fn row(&self, key: &str) -> Result<RowAnswer, QueryError> {
        query::row(&self.view, key, None)
    }

    /// The row of a key as it was after the event at a position. May block on the disk.
    pub fn row_as_of(&self, key: &str, position: Position) -> Result<RowAnswer, QueryError> {
        query::row(&self.view, key, Some(position))
    }

    /// What the row of a key was. May block on the disk.
    pub fn history(&self, key: &str, query: &HistoryQuery) -> Result<HistoryPage, QueryError> {
        query::history(&self.view, key, query)
    }

    /// Position of the last event recorded at a time or before. Blocks on the disk.
    pub fn position_at(&self, time: DateTime<Utc>) -> Result<Position, LogError> {
        self.view.shared.log.position_at(time)
    }

    /// Where the log ends.
    pub fn head(&self) -> Position {
        self.view.shared.log.head()
    }

    /// A page of rows. May block on the disk.
    pub fn list(&self, query: &ListQuery) -> Result<ListPage, QueryError> {
        query::list(&self.view, query)
    }

    /// The kind of an index; an error that names those there are.
    pub fn index_kind(&self, name: &str) -> Result<IndexKind, QueryError> {
        query::index_kind(&self.view.definition, name)
    }

    /// Watches the rows from now on: what is written after this call is seen.
    pub fn watch(&self) -> ViewWatch {
        self.view.changes.watch()
    }

    /// Waits until the view has read the log up to a position, at most for `timeout`; returns how far it is.
    pub async fn wait_for(&self, position: Position, timeout: Duration) -> Position {
        self.view.progress.wait_for(position, timeout).await
    }

    /// Up to where the view has read the log.
    pub fn position(&self) -> Position {
        self.view.progress.position()
    }

    /// The history that the position belongs to.
    pub fn epoch(&self) -> Epoch {
        self.view.progress.epoch()
    }

    /// Events that the view has not read yet.
    pub fn lag_events(&self) -> u64 {
        self.view.progress.lag_events()
    }

    /// How far the view is, and what keeps it from going on. Does no I/O.
    pub fn status(&self) -> ProjectionStatus {
        self.view.status()
    }

    /// Whether it has rows to answer from: not before they were built for the first time. Does no I/O.
    pub fn has_rows(&self) -> bool {
        self.view.serving().is_some()
    }
}

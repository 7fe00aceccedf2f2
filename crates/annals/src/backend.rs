//! [`Backend`]: what a user's backend consists of. Knows nothing of servers, files or the command line.

use annals_commands::{AggregateDefinition, CommandSettings, Commands};
use annals_core::{Aggregate, Appender, Catalog, Reactor, SnapshotStore, View};
use annals_event_store::MemoryLog;
use annals_projections::{ReactorDefinition, ViewDefinition};
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// Makes the generated commands of `demo`: as many lines of the format that `load` reads as come from this many
/// business cases (orders, accounts, …).
pub type Sample = fn(cases: u64) -> Box<dyn Iterator<Item = String> + Send>;

/// The aggregates, views and reactors of one domain. [`crate::run`] makes a whole program of it.
#[derive(Clone)]
pub struct Backend {
    name: &'static str,
    aggregates: Vec<AggregateDefinition>,
    views: Vec<ViewDefinition>,
    reactors: Vec<ReactorDefinition>,
    sample: Option<Sample>,
}

/// Parts of a backend that do not go together. The message says what to write instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The backend's name is empty or too long.
    #[error("backend name {0:?} is not valid: 1 to 64 characters, as in Backend::new(\"bank\")")]
    Name(&'static str),
    /// Two aggregates do not go together.
    #[error(transparent)]
    Aggregates(#[from] annals_commands::SetupError),
    /// A view or reactor has a name that cannot stand in a path.
    #[error("{0:?} is not a valid NAME for a view or reactor: write a-z, 0-9 and -, beginning with a letter")]
    ProjectionName(String),
    /// Two views or reactors have one name.
    #[error("two views or reactors are named {0:?}: give one of them another NAME, or register it only once")]
    ProjectionTwice(String),
}

impl Backend {
    /// A backend without anything in it. The name is that of its domain: a log remembers which domain wrote it.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            aggregates: Vec::new(),
            views: Vec::new(),
            reactors: Vec::new(),
            sample: None,
        }
    }

    /// With the commands and events of `A`.
    #[must_use]
    pub fn aggregate<A: Aggregate>(mut self) -> Self {
        self.aggregates.push(AggregateDefinition::of::<A>());
        self
    }

    /// With this view.
    #[must_use]
    pub fn view<V: View>(mut self, view: V) -> Self {
        self.views.push(ViewDefinition::of(view));
        self
    }

    /// With this reactor.
    #[must_use]
    pub fn reactor<R: Reactor>(mut self, reactor: R) -> Self {
        self.reactors.push(ReactorDefinition::of(reactor));
        self
    }

    /// With generated commands for `demo`.
    #[must_use]
    pub fn sample(mut self, sample: Sample) -> Self {
        self.sample = Some(sample);
        self
    }

    /// Checks that the parts go together.
    pub fn check(&self) -> Result<(), SetupError> {
        self.catalog().map(drop)
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn aggregates(&self) -> &[AggregateDefinition] {
        &self.aggregates
    }

    pub(crate) fn views(&self) -> &[ViewDefinition] {
        &self.views
    }

    pub(crate) fn reactors(&self) -> &[ReactorDefinition] {
        &self.reactors
    }

    pub(crate) fn sample_lines(&self) -> Option<Sample> {
        self.sample
    }

    /// The commands over a log, within the default bounds and without snapshots.
    pub(crate) fn commands(&self, log: Arc<dyn Appender>) -> Result<Commands, SetupError> {
        self.commands_within(log, CommandSettings::default(), None)
    }

    pub(crate) fn commands_within(
        &self,
        log: Arc<dyn Appender>,
        settings: CommandSettings,
        snapshots: Option<Arc<dyn SnapshotStore>>,
    ) -> Result<Commands, SetupError> {
        Ok(Commands::with_snapshots(
            log,
            self.aggregates.clone(),
            settings,
            snapshots,
        )?)
    }

    /// Which category owns which event type, if all parts go together.
    pub(crate) fn catalog(&self) -> Result<Arc<Catalog>, SetupError> {
        if self.name.is_empty() || self.name.len() > 64 {
            return Err(SetupError::Name(self.name));
        }
        let mut names = HashSet::new();
        let views = self.views.iter().map(ViewDefinition::name);
        for name in views.chain(self.reactors.iter().map(ReactorDefinition::name)) {
            if annals_core::check_category(name).is_err() || name.starts_with('$') {
                return Err(SetupError::ProjectionName(name.to_owned()));
            }
            if !names.insert(name) {
                return Err(SetupError::ProjectionTwice(name.to_owned()));
            }
        }
        let nowhere = Arc::new(MemoryLog::new(self.name));
        Ok(Arc::clone(self.commands(nowhere)?.catalog()))
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let views: Vec<_> = self.views.iter().map(ViewDefinition::name).collect();
        let reactors: Vec<_> = self.reactors.iter().map(ReactorDefinition::name).collect();
        f.debug_struct("Backend")
            .field("name", &self.name)
            .field("aggregates", &self.aggregates)
            .field("views", &views)
            .field("reactors", &reactors)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    #[derive(Event)]
    enum NoteEvent {
        Noted { text: String },
    }

    #[derive(Command)]
    enum NoteCommand {
        Note { text: String },
    }

    #[derive(Default, State)]
    struct Note {
        notes: u64,
    }

    impl Aggregate for Note {
        const CATEGORY: &'static str = "notes";
        type Command = NoteCommand;
        type Event = NoteEvent;

        fn decide(&self, command: NoteCommand) -> Decision<NoteEvent> {
            let NoteCommand::Note { text } = command;
            accept([NoteEvent::Noted { text }])
        }

        fn evolve(&mut self, _event: &NoteEvent) {
            self.notes += 1;
        }
    }

    #[derive(Default, State)]
    struct Memo;

    impl Aggregate for Memo {
        const CATEGORY: &'static str = "memos";
        type Command = NoteCommand;
        type Event = NoteEvent;

        fn decide(&self, _command: NoteCommand) -> Decision<NoteEvent> {
            accept_nothing()
        }

        fn evolve(&mut self, _event: &NoteEvent) {}
    }

    struct Notes;

    #[derive(Default, Row)]
    struct Count {
        notes: u64,
    }

    impl View for Notes {
        const NAME: &'static str = "notes";
        const VERSION: u32 = 1;
        type Event = NoteEvent;
        type Row = Count;

        fn route(&self, event: &Recorded<'_, NoteEvent>) -> Keys {
            Keys::one(event.stream_id())
        }

        fn fold(&self, _: &Key, row: Option<Count>, event: &Recorded<'_, NoteEvent>) -> Option<Count> {
            let NoteEvent::Noted { text } = event.data();
            let notes = row.unwrap_or_default().notes + u64::from(!text.is_empty());
            Some(Count { notes })
        }
    }

    fn refused(backend: &Backend) -> String {
        backend.check().unwrap_err().to_string()
    }

    #[test]
    fn parts_that_go_together_are_a_backend() {
        Backend::new("notebook")
            .aggregate::<Note>()
            .view(Notes)
            .check()
            .unwrap();
    }

    #[test]
    fn what_does_not_go_together_is_said_with_what_to_write_instead() {
        let notebook = || Backend::new("notebook").aggregate::<Note>();
        let twice = refused(&notebook().aggregate::<Note>());
        assert!(
            twice.contains("\"notes\"") && twice.contains("another CATEGORY"),
            "{twice}"
        );
        let type_twice = refused(&notebook().aggregate::<Memo>());
        assert!(
            type_twice.contains("\"Noted\"") && type_twice.contains("#[event(name"),
            "{type_twice}"
        );
        let view_twice = refused(&notebook().view(Notes).view(Notes));
        assert!(
            view_twice.contains("\"notes\"") && view_twice.contains("another NAME"),
            "{view_twice}"
        );
        assert!(refused(&Backend::new("")).contains("Backend::new"), "an empty name");
    }
}

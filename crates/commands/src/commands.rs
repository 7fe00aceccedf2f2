//! [`Commands`]: all aggregates of a backend over one log.

use crate::cache::States;
use crate::handler::{Call, Handler, Shared};
use crate::request::{CommandOutcome, CommandRequest, command_key};
use crate::{AggregateDefinition, CommandError};
use annals_core::{Appender, Catalog, InvalidId, SnapshotStore, StreamId, check_category};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tracing::Instrument;

/// Bounds of [`Commands`].
#[derive(Debug, Clone, Copy)]
pub struct CommandSettings {
    /// About how many states are kept in memory, of all aggregates together.
    pub cached_states_max: usize,
    /// About how many bytes of states are kept in memory, of all aggregates together.
    pub cached_state_bytes_max: u64,
    /// After how many events of a stream a snapshot of its state is taken; zero for never.
    pub snapshot_every: u64,
    /// How often a command is decided anew when others change its stream meanwhile.
    pub attempts_max: u32,
}

impl Default for CommandSettings {
    fn default() -> Self {
        Self {
            cached_states_max: 131_072,
            cached_state_bytes_max: 64 << 20,
            snapshot_every: 250,
            attempts_max: 10,
        }
    }
}

/// Aggregates that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// A category is not a valid name.
    #[error("an aggregate's CATEGORY cannot be used: {0}")]
    Category(#[from] InvalidId),
    /// A category begins with `$`.
    #[error("category {0:?} is reserved, because it begins with $: choose another CATEGORY for the aggregate")]
    ReservedCategory(&'static str),
    /// Two aggregates have one category.
    #[error("two aggregates have the category {0:?}: give one of them another CATEGORY, or register it only once")]
    CategoryTwice(&'static str),
    /// Two aggregates have an event type of one name.
    #[error(
        "event type {event_type:?} belongs to two aggregates, one of them {category:?}: name it differently there, with \
         #[event(name = \"…\")]"
    )]
    EventTypeTwice {
        /// The type's name.
        event_type: &'static str,
        /// The second category that has it.
        category: &'static str,
    },
}

/// Decides commands. Cheap to clone.
#[derive(Clone)]
pub struct Commands(Arc<Inner>);

struct Inner {
    log: Arc<dyn Appender>,
    catalog: Arc<Catalog>,
    aggregates: Vec<AggregateDefinition>,
    handlers: HashMap<&'static str, Arc<dyn Handler>>,
}

impl Commands {
    /// The commands of these aggregates over this log. Two aggregates with one category or one event type are an error.
    pub fn new(
        log: Arc<dyn Appender>,
        aggregates: Vec<AggregateDefinition>,
        settings: CommandSettings,
    ) -> Result<Self, SetupError> {
        Self::with_snapshots(log, aggregates, settings, None)
    }

    /// The same with snapshots. None of them is used before [`Commands::check_snapshots`] has looked at them.
    pub fn with_snapshots(
        log: Arc<dyn Appender>,
        aggregates: Vec<AggregateDefinition>,
        settings: CommandSettings,
        snapshots: Option<Arc<dyn SnapshotStore>>,
    ) -> Result<Self, SetupError> {
        let shared = Shared {
            states: Arc::new(States::new(settings.cached_states_max, settings.cached_state_bytes_max)),
            settings,
            snapshots,
        };
        let mut catalog = Catalog::default();
        let mut handlers = HashMap::with_capacity(aggregates.len());
        for aggregate in &aggregates {
            let category = aggregate.category();
            check_category(category)?;
            if category.starts_with('$') {
                return Err(SetupError::ReservedCategory(category));
            }
            if handlers.insert(category, aggregate.handler(&shared)).is_some() {
                return Err(SetupError::CategoryTwice(category));
            }
            aggregate
                .own(&mut catalog)
                .map_err(|event_type| SetupError::EventTypeTwice { event_type, category })?;
        }
        Ok(Self(Arc::new(Inner {
            log,
            catalog: Arc::new(catalog),
            aggregates,
            handlers,
        })))
    }

    /// The log that the commands append to.
    pub fn log(&self) -> &Arc<dyn Appender> {
        &self.0.log
    }

    /// Which category owns which event type.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.0.catalog
    }

    /// The aggregates, in the order they were given.
    pub fn aggregates(&self) -> &[AggregateDefinition] {
        &self.0.aggregates
    }

    /// Whether an aggregate owns the category.
    pub fn owns_category(&self, category: &str) -> bool {
        self.0.handlers.contains_key(category)
    }

    /// Folds a sample of the snapshots anew and discards those of an aggregate whose `evolve` was changed; those of the
    /// others are used from then on. Blocks for some seconds at most; ends early once `stop` is set.
    pub fn check_snapshots(&self, stop: &AtomicBool) {
        for handler in self.0.handlers.values() {
            handler.check_snapshots(&self.0.log, stop);
        }
    }

    /// Decides one command and appends what follows. When this returns `Ok`, the events are synced.
    ///
    /// A known idempotency key is answered first, as it was answered the first time. Dropping the future does not take
    /// back what was appended.
    pub async fn execute(&self, request: CommandRequest) -> Result<CommandOutcome, CommandError> {
        let handler = self
            .0
            .handlers
            .get(request.category.as_str())
            .ok_or_else(|| self.unknown(&request))?;
        let stream = StreamId::new(&request.category, &request.id)?;
        let key = request.key.as_deref().map(command_key).transpose()?.map(str::to_owned);
        let span = tracing::debug_span!(
            "command",
            %stream,
            command = request.command,
            correlation = request.metadata.correlation_id,
            causation = request.metadata.causation_id,
            position = tracing::field::Empty,
        );
        let call = Call {
            stream,
            command: request.command,
            body: request.body,
            key,
            expected: request.expected,
            occurred_at: request.occurred_at,
            metadata: request.metadata,
        };
        let outcome = handler
            .execute(&self.0.log, &self.0.catalog, call)
            .instrument(span.clone())
            .await?;
        span.record("position", outcome.position.get());
        Ok(outcome)
    }

    fn unknown(&self, request: &CommandRequest) -> CommandError {
        CommandError::UnknownAggregate {
            category: request.category.chars().take(80).collect(),
            known: self.0.aggregates.iter().map(AggregateDefinition::category).collect(),
        }
    }
}

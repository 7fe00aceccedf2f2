//! How one command of one aggregate is decided, with the aggregate's Rust type at hand: who may decide, how often.

use crate::deciding::{Deciding, Pending, Step};
use crate::state::Loaded;
use crate::{CommandBody, CommandError, CommandOutcome, CommandSettings};
use annals_core::{
    Aggregate, Appender, BoxFuture, Command, CommandKey, Expected, InvalidCommand, Metadata, StreamId, without_personal,
};
use chrono::{DateTime, Utc};
use quick_cache::sync::Cache;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// A checked request.
pub(crate) struct Call {
    pub(crate) stream: StreamId,
    pub(crate) command: String,
    pub(crate) body: CommandBody,
    pub(crate) key: Option<String>,
    pub(crate) expected: Expected,
    pub(crate) occurred_at: Option<DateTime<Utc>>,
    pub(crate) metadata: Metadata,
}

/// Decides commands of one aggregate.
pub(crate) trait Handler: Send + Sync {
    /// Decides one command and appends what follows.
    fn execute<'a>(
        &'a self,
        log: &'a Arc<dyn Appender>,
        call: Call,
    ) -> BoxFuture<'a, Result<CommandOutcome, CommandError>>;
}

/// The place of one stream's state in memory. Whoever holds the lock is the only one on this node to decide a command
/// of the stream. Empty when the state is not known, also while an append is under way: so a request that is given up
/// in the middle leaves no stale state behind.
type Slot<A> = Arc<Mutex<Option<Loaded<A>>>>;

pub(crate) struct TypedHandler<A> {
    /// A slot that is evicted while it is in use may have a second one beside it. That costs a conflict in the log and
    /// another attempt, never a wrong decision: every decision is checked against the log before it counts.
    slots: Cache<StreamId, Slot<A>>,
    attempts_max: u32,
}

impl<A: Aggregate> Handler for TypedHandler<A> {
    fn execute<'a>(
        &'a self,
        log: &'a Arc<dyn Appender>,
        call: Call,
    ) -> BoxFuture<'a, Result<CommandOutcome, CommandError>> {
        Box::pin(self.run(log, call))
    }
}

impl<A: Aggregate> TypedHandler<A> {
    pub(crate) fn new(settings: &CommandSettings) -> Self {
        Self {
            slots: Cache::new(settings.cached_states_max.max(1)),
            attempts_max: settings.attempts_max.max(1),
        }
    }

    fn slot(&self, stream: &StreamId) -> Slot<A> {
        if let Some(slot) = self.slots.get(stream) {
            return slot;
        }
        self.slots
            .get_or_insert_with(stream, || Ok::<_, std::convert::Infallible>(Slot::default()))
            .unwrap_or_else(|never| match never {})
    }

    async fn run(&self, log: &Arc<dyn Appender>, call: Call) -> Result<CommandOutcome, CommandError> {
        let command = read::<A>(&call.command, &call.body)?;
        let key = command_key(log.as_ref(), &call, &command)?;
        let slot = self.slot(&call.stream);
        let mut decision = Deciding {
            log,
            call: &call,
            key,
            command: Pending::New(command),
            slot: slot.lock().await,
        };
        for attempt in 0..self.attempts_max {
            back_off(attempt).await;
            if let Step::Done(outcome) = decision.attempt().await? {
                return Ok(outcome);
            }
        }
        Err(CommandError::Contended {
            stream: call.stream.clone(),
            attempts: self.attempts_max,
        })
    }
}

fn read<A: Aggregate>(name: &str, body: &CommandBody) -> Result<A::Command, InvalidCommand> {
    match body {
        CommandBody::Json(bytes) => A::Command::from_json(name, bytes),
        CommandBody::MsgPack(bytes) => A::Command::from_msgpack(name, bytes),
    }
}

/// The key with the fingerprint of what the command says, personal values left out.
fn command_key<C: Command>(log: &dyn Appender, call: &Call, command: &C) -> Result<Option<CommandKey>, InvalidCommand> {
    let Some(key) = &call.key else {
        return Ok(None);
    };
    let mut said = format!("{}/{}\n", call.stream.category(), command.name()).into_bytes();
    said.extend_from_slice(&without_personal(&command.to_msgpack()?));
    Ok(Some(CommandKey {
        key: key.clone(),
        fingerprint: log.fingerprint(&said),
    }))
}

/// Lets the others of the stream finish: not at all before the first attempt, then 1 to 8 ms.
async fn back_off(attempt: u32) {
    match attempt {
        0 => {}
        1 => tokio::task::yield_now().await,
        _ => tokio::time::sleep(Duration::from_millis(u64::from(attempt.min(8)))).await,
    }
}

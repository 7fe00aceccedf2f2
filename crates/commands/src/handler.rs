//! How one command of one aggregate is decided, with the aggregate's Rust type at hand: who may decide, how often.

use crate::cache::{Slot, States};
use crate::deciding::{Deciding, Pending, Step};
use crate::snapshots::Snapshots;
use crate::state::Loaded;
use crate::{CommandBody, CommandError, CommandOutcome, CommandSettings};
use annals_core::{
    Aggregate, Appender, BoxFuture, Catalog, Command, CommandKey, Expected, InvalidCommand, Metadata, SnapshotStore,
    StreamId, without_personal,
};
use chrono::{DateTime, Utc};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

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
        catalog: &'a Arc<Catalog>,
        call: Call,
    ) -> BoxFuture<'a, Result<CommandOutcome, CommandError>>;

    /// Checks a sample of the aggregate's snapshots, after which they are used. Blocks; ends early when told to.
    fn check_snapshots(&self, log: &Arc<dyn Appender>, stop: &AtomicBool);
}

/// What the aggregates of one backend share.
pub(crate) struct Shared {
    pub(crate) settings: CommandSettings,
    pub(crate) states: Arc<States>,
    pub(crate) snapshots: Option<Arc<dyn SnapshotStore>>,
}

pub(crate) struct TypedHandler<A> {
    states: Arc<States>,
    snapshots: Option<Snapshots<A>>,
    attempts_max: u32,
}

impl<A: Aggregate> Handler for TypedHandler<A> {
    fn execute<'a>(
        &'a self,
        log: &'a Arc<dyn Appender>,
        catalog: &'a Arc<Catalog>,
        call: Call,
    ) -> BoxFuture<'a, Result<CommandOutcome, CommandError>> {
        Box::pin(self.run(log, catalog, call))
    }

    fn check_snapshots(&self, log: &Arc<dyn Appender>, stop: &AtomicBool) {
        if let Some(snapshots) = &self.snapshots {
            snapshots.check(log.as_ref(), stop);
        }
    }
}

impl<A: Aggregate> TypedHandler<A> {
    pub(crate) fn new(shared: &Shared) -> Self {
        let every = shared.settings.snapshot_every;
        let store = shared.snapshots.clone().filter(|_| every > 0);
        Self {
            states: Arc::clone(&shared.states),
            snapshots: store.map(|store| Snapshots::new(store, every)),
            attempts_max: shared.settings.attempts_max.max(1),
        }
    }

    async fn run(
        &self,
        log: &Arc<dyn Appender>,
        catalog: &Arc<Catalog>,
        call: Call,
    ) -> Result<CommandOutcome, CommandError> {
        let command = read::<A>(&call.command, &call.body)?;
        let key = command_key(log.as_ref(), &call, &command)?;
        let slot = self.states.slot::<A>(&call.stream);
        let mut decision = Deciding {
            log,
            catalog,
            call: &call,
            key,
            command: Pending::New(command),
            slot: slot.lock().await,
            snapshots: self.snapshots.as_ref(),
        };
        for attempt in 0..self.attempts_max {
            back_off(attempt).await;
            if let Step::Done(outcome) = decision.attempt().await? {
                self.settle(&call.stream, &slot, &mut decision.slot);
                return Ok(outcome);
            }
        }
        Err(CommandError::Contended {
            stream: call.stream.clone(),
            attempts: self.attempts_max,
        })
    }

    /// After a command: counts the state's size, and takes a snapshot if it is time for one.
    fn settle(&self, stream: &StreamId, slot: &Slot<A>, state: &mut Option<Loaded<A>>) {
        if let (Some(loaded), Some(snapshots)) = (state.as_mut(), &self.snapshots) {
            snapshots.take(stream, loaded);
        }
        self.states.count(stream, slot, state);
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

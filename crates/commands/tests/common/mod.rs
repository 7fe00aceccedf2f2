//! A small bank to decide commands for, and a log that can be watched and slowed down.

#![allow(dead_code, reason = "each suite uses its part")]

use annals_commands::{AggregateDefinition, CommandBody, CommandError, CommandOutcome, CommandRequest, Commands};
use annals_core::*;
use annals_event_store::MemoryLog;
use chrono::{DateTime, Utc};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[derive(Debug, PartialEq, Event)]
pub(crate) enum AccountEvent {
    #[event(tags(owner))]
    Opened {
        owner: String,
        holder_name: Personal<String>,
    },
    Deposited {
        amount: u64,
    },
    Withdrawn {
        amount: u64,
    },
}

#[derive(Debug, Command)]
pub(crate) enum AccountCommand {
    Open {
        owner: String,
        holder_name: Personal<String>,
    },
    Deposit {
        amount: u64,
    },
    Withdraw {
        amount: u64,
    },
    DepositOften {
        times: u64,
    },
    Explode,
    Poison,
}

#[derive(Debug, Default, State)]
pub(crate) struct Account {
    open: bool,
    balance: u64,
}

impl Aggregate for Account {
    const CATEGORY: &'static str = "accounts";
    type Command = AccountCommand;
    type Event = AccountEvent;

    async fn prepare(command: AccountCommand) -> Result<AccountCommand, Rejection> {
        match command {
            AccountCommand::Open { owner, .. } if owner == "nobody" => Err(Rejection {
                code: "no-owner".into(),
                message: "name the owner".into(),
            }),
            other => Ok(other),
        }
    }

    fn check_id(id: &str, command: &AccountCommand) -> Result<(), Rejection> {
        match command {
            AccountCommand::Open { owner, .. } if owner == "only-mine" && id != "mine" => Err(Rejection {
                code: "wrong-account".into(),
                message: "open the account mine".into(),
            }),
            _ => Ok(()),
        }
    }

    fn decide(&self, command: AccountCommand) -> Decision<AccountEvent> {
        use AccountCommand::*;
        match command {
            Open { .. } if self.open => accept_nothing(),
            Open { owner, holder_name } => accept([AccountEvent::Opened { owner, holder_name }]),
            Explode => panic!("the fuse was lit"),
            Poison => accept([AccountEvent::Deposited { amount: 666 }]),
            _ if !self.open => reject("account-not-open", "open the account first"),
            Deposit { amount } => accept([AccountEvent::Deposited { amount }]),
            DepositOften { times } => accept((0..times).map(|_| AccountEvent::Deposited { amount: 1 })),
            Withdraw { amount } if amount > self.balance => {
                reject("insufficient-funds", format!("the balance is {}", self.balance))
            }
            Withdraw { amount } => accept([AccountEvent::Withdrawn { amount }]),
        }
    }

    fn evolve(&mut self, event: &AccountEvent) {
        match event {
            AccountEvent::Opened { .. } => self.open = true,
            AccountEvent::Deposited { amount: 666 } => panic!("cannot count that far"),
            AccountEvent::Deposited { amount } => self.balance += amount,
            AccountEvent::Withdrawn { amount } => self.balance -= amount,
        }
    }
}

pub(crate) fn bank_on(log: Arc<dyn Appender>) -> Commands {
    Commands::new(log, vec![AggregateDefinition::of::<Account>()], Default::default()).unwrap()
}

pub(crate) fn bank() -> Commands {
    bank_on(Arc::new(MemoryLog::new("bank")))
}

pub(crate) fn request(id: &str, command: &str, body: &str) -> CommandRequest {
    CommandRequest {
        category: "accounts".into(),
        id: id.into(),
        command: command.into(),
        body: CommandBody::Json(body.to_owned().into()),
        key: None,
        expected: Expected::Any,
        occurred_at: None,
        metadata: Metadata::default(),
    }
}

pub(crate) fn keyed(key: &str, mut request: CommandRequest) -> CommandRequest {
    request.key = Some(key.into());
    request
}

pub(crate) fn expecting(expected: Expected, mut request: CommandRequest) -> CommandRequest {
    request.expected = expected;
    request
}

pub(crate) async fn open(commands: &Commands, id: &str) -> CommandOutcome {
    let body = r#"{"owner":"ann","holder_name":"Ann"}"#;
    commands.execute(request(id, "open", body)).await.unwrap()
}

pub(crate) async fn deposit(commands: &Commands, id: &str, amount: u64) -> Result<CommandOutcome, CommandError> {
    commands
        .execute(request(id, "deposit", &format!("{{\"amount\":{amount}}}")))
        .await
}

/// The balance as the log alone tells it.
pub(crate) fn balance(commands: &Commands, id: &str) -> u64 {
    let mut fold = commands.aggregates()[0].fold();
    let stream = StreamId::new("accounts", id).unwrap();
    let records = commands
        .log()
        .read_stream(&stream, Version::ZERO, Direction::Forward, 10_000)
        .unwrap();
    for record in &records {
        assert!(fold.apply(&record.view().unwrap()).unwrap());
    }
    fold.state_json().unwrap()["balance"].as_u64().unwrap()
}

/// A log that counts what is asked of it and takes its time to acknowledge.
pub(crate) struct WatchedLog {
    pub(crate) log: MemoryLog,
    pub(crate) acknowledge_after: Duration,
    pub(crate) heads: AtomicU64,
    pub(crate) stream_reads: AtomicU64,
    pub(crate) stream_records: AtomicU64,
    pub(crate) key_lookups: AtomicU64,
}

impl WatchedLog {
    pub(crate) fn new(acknowledge_after: Duration) -> Arc<Self> {
        Arc::new(Self {
            log: MemoryLog::new("bank"),
            acknowledge_after,
            heads: AtomicU64::new(0),
            stream_reads: AtomicU64::new(0),
            stream_records: AtomicU64::new(0),
            key_lookups: AtomicU64::new(0),
        })
    }
}

impl EventLog for WatchedLog {
    fn name(&self) -> &str {
        self.log.name()
    }

    fn engine(&self) -> &'static str {
        self.log.engine()
    }

    fn epoch(&self) -> Epoch {
        self.log.epoch()
    }

    fn head(&self) -> Position {
        self.log.head()
    }

    fn wait_beyond(&self, position: Position, timeout: Duration) -> Position {
        self.log.wait_beyond(position, timeout)
    }

    fn read(&self, after: Position, bytes_max: usize) -> Result<Vec<Block>, LogError> {
        self.log.read(after, bytes_max)
    }

    fn read_stream(
        &self,
        stream: &StreamId,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Record>, LogError> {
        self.stream_reads.fetch_add(1, Ordering::Relaxed);
        let records = self.log.read_stream(stream, from, direction, limit)?;
        self.stream_records.fetch_add(records.len() as u64, Ordering::Relaxed);
        Ok(records)
    }

    fn stream_head(&self, stream: &StreamId) -> Result<Option<StreamHead>, LogError> {
        self.heads.fetch_add(1, Ordering::Relaxed);
        self.log.stream_head(stream)
    }

    fn find_command(&self, stream: &StreamId, key: &str) -> Result<Option<Position>, LogError> {
        self.key_lookups.fetch_add(1, Ordering::Relaxed);
        self.log.find_command(stream, key)
    }

    fn find_event(&self, id: &EventId) -> Result<Option<Position>, LogError> {
        self.log.find_event(id)
    }

    fn position_at(&self, time: DateTime<Utc>) -> Result<Position, LogError> {
        self.log.position_at(time)
    }
}

impl Appender for WatchedLog {
    fn append(&self, append: Append) -> BoxFuture<'static, Result<Appended, AppendError>> {
        let appended = self.log.append(append);
        let wait = self.acknowledge_after;
        Box::pin(async move {
            tokio::time::sleep(wait).await;
            appended.await
        })
    }

    fn fingerprint(&self, command: &[u8]) -> Fingerprint {
        self.log.fingerprint(command)
    }
}

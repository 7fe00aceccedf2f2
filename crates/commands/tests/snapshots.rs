//! Snapshots of states: a long stream is decided after reading little of it, and no snapshot ever changes an answer.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod common;

use annals_commands::{AggregateDefinition, CommandSettings, Commands};
use annals_core::*;
use common::*;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Snapshots in memory, kept at once.
#[derive(Default)]
struct Drawer(Mutex<HashMap<String, Snapshot>>);

impl SnapshotStore for Drawer {
    fn find(&self, stream: &StreamId) -> Option<Snapshot> {
        self.0.lock().unwrap().get(stream.as_str()).cloned()
    }

    fn keep(&self, snapshot: Snapshot) {
        self.0.lock().unwrap().insert(snapshot.stream.to_string(), snapshot);
    }

    fn sample(&self, category: &str, limit: usize) -> Vec<Snapshot> {
        let kept = self.0.lock().unwrap();
        let of_category = kept.values().filter(|snapshot| snapshot.stream.category() == category);
        of_category.take(limit).cloned().collect()
    }

    fn discard(&self, category: &str) {
        self.0
            .lock()
            .unwrap()
            .retain(|_, snapshot| snapshot.stream.category() != category);
    }
}

impl Drawer {
    fn change(&self, id: &str, change: impl FnOnce(&mut Snapshot)) {
        change(self.0.lock().unwrap().get_mut(&format!("accounts/{id}")).unwrap());
    }

    fn version(&self, id: &str) -> Option<u64> {
        let stream = StreamId::new("accounts", id).unwrap();
        self.find(&stream).map(|snapshot| snapshot.version.get())
    }
}

fn settings() -> CommandSettings {
    CommandSettings {
        snapshot_every: 100,
        ..CommandSettings::default()
    }
}

/// Commands that remember no state, as after a restart.
fn restarted<A: Aggregate>(log: &Arc<WatchedLog>, drawer: &Arc<Drawer>) -> Commands {
    let (log, drawer) = (
        Arc::clone(log) as Arc<dyn Appender>,
        Arc::clone(drawer) as Arc<dyn SnapshotStore>,
    );
    let aggregates = vec![AggregateDefinition::of::<A>()];
    let commands = Commands::with_snapshots(log, aggregates, settings(), Some(drawer)).unwrap();
    commands.check_snapshots(&AtomicBool::new(false));
    commands
}

/// An account with this many deposits of 1.
async fn account(commands: &Commands, id: &str, deposits: u64) {
    open(commands, id).await;
    let mut left = deposits;
    while left > 0 {
        let times = left.min(90);
        let body = format!("{{\"times\":{times}}}");
        commands.execute(request(id, "deposit-often", &body)).await.unwrap();
        left -= times;
    }
}

async fn withdraw(commands: &Commands, id: &str, amount: u64) -> bool {
    let body = format!("{{\"amount\":{amount}}}");
    commands.execute(request(id, "withdraw", &body)).await.is_ok()
}

/// How many records are read while `work` runs.
async fn records_read<T>(log: &WatchedLog, work: impl Future<Output = T>) -> (T, u64) {
    let before = log.stream_records.load(Ordering::Relaxed);
    let done = work.await;
    (done, log.stream_records.load(Ordering::Relaxed) - before)
}

#[tokio::test]
async fn a_long_stream_is_decided_after_reading_only_what_follows_its_snapshot() {
    let (log, drawer) = (WatchedLog::new(Duration::ZERO), Arc::new(Drawer::default()));
    account(&restarted::<Account>(&log, &drawer), "long", 2_000).await;
    let kept = drawer.version("long").unwrap();
    assert!((1_900..=2_001).contains(&kept), "{kept}");
    let commands = restarted::<Account>(&log, &drawer);
    let (accepted, read) = records_read(&log, withdraw(&commands, "long", 2_000)).await;
    assert!(accepted, "all deposits count");
    assert!(read <= 100, "{read} records were read");
    assert!(!withdraw(&commands, "long", 1).await, "nothing is left");
    assert_eq!(balance(&commands, "long"), 0, "a replay reads the log");
}

#[tokio::test]
async fn a_stream_that_was_read_in_full_gets_a_snapshot_with_its_next_command() {
    let (log, drawer) = (WatchedLog::new(Duration::ZERO), Arc::new(Drawer::default()));
    let without = bank_on(Arc::clone(&log) as Arc<dyn Appender>);
    account(&without, "old", 500).await;
    assert_eq!(drawer.version("old"), None);
    let commands = restarted::<Account>(&log, &drawer);
    let (_, read) = records_read(&log, withdraw(&commands, "old", 1)).await;
    assert_eq!(read, 501);
    assert_eq!(drawer.version("old"), Some(502));
}

#[tokio::test]
async fn a_short_stream_gets_none() {
    let (log, drawer) = (WatchedLog::new(Duration::ZERO), Arc::new(Drawer::default()));
    account(&restarted::<Account>(&log, &drawer), "short", 98).await;
    assert_eq!(drawer.version("short"), None);
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_trusted_is_as_if_it_was_not_there() {
    type Change = fn(&mut Snapshot);
    let changes: [(&str, Change); 7] = [
        ("of another schema", |snapshot| snapshot.schema ^= 1),
        ("cut short", |snapshot| snapshot.state.truncate(3)),
        ("ahead in version", |snapshot| snapshot.version = Version::new(9_999)),
        ("ahead in position", |snapshot| snapshot.position = Position::new(9_999)),
        ("of another event", |snapshot| {
            snapshot.position = snapshot.position.previous()
        }),
        ("of another version", |snapshot| {
            snapshot.version = snapshot.version.previous()
        }),
        ("of no version", |snapshot| snapshot.version = Version::ZERO),
    ];
    for (what, change) in changes {
        let (log, drawer) = (WatchedLog::new(Duration::ZERO), Arc::new(Drawer::default()));
        account(&restarted::<Account>(&log, &drawer), "acc", 400).await;
        let commands = restarted::<Account>(&log, &drawer);
        drawer.change("acc", change);
        let (accepted, read) = records_read(&log, withdraw(&commands, "acc", 400)).await;
        assert!(accepted && read >= 401, "{what}: {read} records were read");
        assert!(!withdraw(&commands, "acc", 1).await, "{what}");
    }
}

#[tokio::test]
async fn a_snapshot_of_another_stream_is_noticed() {
    let (log, drawer) = (WatchedLog::new(Duration::ZERO), Arc::new(Drawer::default()));
    let before = restarted::<Account>(&log, &drawer);
    account(&before, "poor", 150).await;
    account(&before, "rich", 600).await;
    let commands = restarted::<Account>(&log, &drawer);
    let rich = drawer.find(&StreamId::new("accounts", "rich").unwrap()).unwrap();
    drawer.change("poor", |snapshot| {
        (snapshot.position, snapshot.state) = (rich.position, rich.state);
    });
    assert!(
        !withdraw(&commands, "poor", 151).await,
        "the balance of another account"
    );
    assert!(withdraw(&commands, "poor", 150).await);
}

/// The account again, of the same category and schema; but now deposits count twice.
#[derive(Debug, Default, State)]
struct GenerousAccount {
    open: bool,
    balance: u64,
}

impl Aggregate for GenerousAccount {
    const CATEGORY: &'static str = "accounts";
    type Command = AccountCommand;
    type Event = AccountEvent;

    fn decide(&self, command: AccountCommand) -> Decision<AccountEvent> {
        match command {
            AccountCommand::Withdraw { amount } if self.open && amount <= self.balance => {
                accept([AccountEvent::Withdrawn { amount }])
            }
            _ => reject("no", "no"),
        }
    }

    fn evolve(&mut self, event: &AccountEvent) {
        match event {
            AccountEvent::Opened { .. } => self.open = true,
            AccountEvent::Deposited { amount } => self.balance += 2 * amount,
            AccountEvent::Withdrawn { amount } => self.balance -= amount,
        }
    }
}

#[tokio::test]
async fn changed_evolve_code_with_the_same_fields_is_noticed_at_the_start() {
    let (log, drawer) = (WatchedLog::new(Duration::ZERO), Arc::new(Drawer::default()));
    assert_eq!(
        snapshot_schema::<Account>(),
        snapshot_schema::<GenerousAccount>(),
        "as the schema tells"
    );
    account(&restarted::<Account>(&log, &drawer), "acc", 300).await;
    let changed = restarted::<GenerousAccount>(&log, &drawer);
    assert_eq!(drawer.version("acc"), None, "all of the aggregate are discarded");
    assert!(
        withdraw(&changed, "acc", 600).await,
        "the new evolve holds for old events, too"
    );
}

#[tokio::test]
async fn no_snapshot_is_used_before_the_check() {
    let (log, drawer) = (WatchedLog::new(Duration::ZERO), Arc::new(Drawer::default()));
    account(&restarted::<Account>(&log, &drawer), "acc", 300).await;
    let aggregates = vec![AggregateDefinition::of::<GenerousAccount>()];
    let store = Some(Arc::clone(&drawer) as Arc<dyn SnapshotStore>);
    let unchecked = Commands::with_snapshots(log, aggregates, settings(), store).unwrap();
    assert!(withdraw(&unchecked, "acc", 600).await);
}

#[tokio::test]
async fn a_check_that_is_told_to_stop_leaves_the_snapshots_unused() {
    let (log, drawer) = (WatchedLog::new(Duration::ZERO), Arc::new(Drawer::default()));
    account(&restarted::<Account>(&log, &drawer), "acc", 300).await;
    let aggregates = vec![AggregateDefinition::of::<Account>()];
    let store = Some(Arc::clone(&drawer) as Arc<dyn SnapshotStore>);
    let log_too: Arc<dyn Appender> = Arc::clone(&log) as Arc<dyn Appender>;
    let commands = Commands::with_snapshots(log_too, aggregates, settings(), store).unwrap();
    commands.check_snapshots(&AtomicBool::new(true));
    let (accepted, read) = records_read(&log, withdraw(&commands, "acc", 300)).await;
    assert!(accepted && read == 301, "{read} records were read");
}

#[tokio::test]
async fn personal_values_stay_marked_in_a_snapshot() {
    #[derive(Default, State)]
    struct Named {
        name: Option<Personal<String>>,
    }
    let named = |name: &str| Named {
        name: Some(name.to_owned().into()),
    };
    let (ann, bob) = (
        encode_state(&named("Ann")).unwrap(),
        encode_state(&named("Bob")).unwrap(),
    );
    assert_ne!(ann, bob);
    assert_eq!(
        without_personal(&ann),
        without_personal(&bob),
        "they can be found without the Rust type"
    );
}

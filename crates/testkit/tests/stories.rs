//! The harness as a user meets it, on the account of the tutorial.

use AccountEvent::{Deposited, Opened, Withdrawn};
use annals_core::*;
use annals_testkit::{given, on, reactor, to, view};

#[derive(Debug, Clone, PartialEq, Event)]
enum AccountEvent {
    #[event(tags(owner))]
    Opened {
        owner: String,
    },
    Deposited {
        amount: u64,
    },
    Withdrawn {
        amount: u64,
    },
}

#[derive(Debug, PartialEq, Command)]
enum AccountCommand {
    Open { owner: String },
    Withdraw { amount: u64 },
    Close,
}

#[derive(Debug, Default, State)]
struct Account {
    open: bool,
    balance: u64,
}

impl Aggregate for Account {
    const CATEGORY: &'static str = "accounts";
    type Command = AccountCommand;
    type Event = AccountEvent;

    fn decide(&self, command: AccountCommand) -> Decision<AccountEvent> {
        use AccountCommand::*;
        match command {
            Open { .. } if self.open => accept_nothing(),
            Open { owner } => accept([Opened { owner }]),
            Withdraw { amount } if amount > self.balance => {
                reject("insufficient-funds", format!("balance is {}", self.balance))
            }
            Withdraw { amount } => accept([Withdrawn { amount }]),
            Close => reject("not-yet", "accounts cannot be closed yet"),
        }
    }

    fn evolve(&mut self, event: &AccountEvent) {
        match event {
            Opened { .. } => self.open = true,
            Deposited { amount } => self.balance += amount,
            Withdrawn { amount } => self.balance -= amount,
        }
    }
}

struct Balances;

#[derive(Debug, Default, PartialEq, Row)]
struct Balance {
    #[index]
    balance: u64,
    entries: u32,
}

impl View for Balances {
    const NAME: &'static str = "balances";
    const VERSION: u32 = 1;
    type Event = AccountEvent;
    type Row = Balance;

    fn route(&self, event: &Recorded<'_, AccountEvent>) -> Keys {
        Keys::one(event.stream_id())
    }

    fn fold(&self, _key: &Key, row: Option<Balance>, event: &Recorded<'_, AccountEvent>) -> Option<Balance> {
        let mut row = row.unwrap_or_default();
        match event.data() {
            Opened { .. } => {}
            Deposited { amount } => row.balance += amount,
            Withdrawn { amount } => row.balance -= amount,
        }
        row.entries += 1;
        Some(row)
    }
}

/// Closes an account with its second withdrawal.
struct Closing;

#[derive(Debug, Default, State)]
struct Withdrawals {
    count: u32,
}

impl Reactor for Closing {
    const NAME: &'static str = "closing";
    type Event = AccountEvent;
    type State = Withdrawals;

    fn route(&self, event: &Recorded<'_, AccountEvent>) -> Keys {
        Keys::one(event.stream_id())
    }

    fn evolve(&self, state: &mut Withdrawals, event: &Recorded<'_, AccountEvent>) {
        state.count += u32::from(matches!(event.data(), Withdrawn { .. }));
    }

    fn react(
        &self,
        state: &Withdrawals,
        event: &Recorded<'_, AccountEvent>,
    ) -> Result<Vec<CommandCall>, InvalidCommand> {
        if state.count < 2 {
            return Ok(Vec::new());
        }
        Ok(vec![CommandCall::to::<Account>(
            event.stream_id(),
            &AccountCommand::Close,
        )?])
    }
}

fn opened() -> AccountEvent {
    Opened { owner: "ann".into() }
}

#[test]
fn a_command_is_accepted_accepted_without_an_event_or_rejected() {
    given::<Account>([opened(), Deposited { amount: 50 }])
        .when(AccountCommand::Withdraw { amount: 20 })
        .then([Withdrawn { amount: 20 }])
        .when(AccountCommand::Open { owner: "ann".into() })
        .then_nothing()
        .when(AccountCommand::Withdraw { amount: 31 })
        .then_rejected("insufficient-funds");
}

#[test]
#[should_panic(expected = "expected the rejection")]
fn a_story_that_does_not_hold_fails() {
    given::<Account>([])
        .when(AccountCommand::Open { owner: "ann".into() })
        .then_rejected("insufficient-funds");
}

#[test]
fn rows_come_of_events() {
    let one = |balance| Balance { balance, entries: 1 };
    view(Balances)
        .given([Deposited { amount: 50 }])
        .row("acc-1")
        .is(one(50))
        .given([on("acc-2", Deposited { amount: 7 })])
        .row("acc-2")
        .is(one(7))
        .row("acc-3")
        .is_missing();
}

#[test]
fn a_reactor_answers_with_commands() {
    reactor(Closing)
        .given([Withdrawn { amount: 1 }])
        .when(on("acc-2", Withdrawn { amount: 1 }).at("2017-10-02T10:56:33Z"))
        .then_nothing()
        .when(Withdrawn { amount: 1 })
        .then([to::<Account>("acc-1", &AccountCommand::Close)]);
}

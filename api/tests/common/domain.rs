//! A bank: accounts, and a view of their balances.

use annals_core::*;

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

    fn decide(&self, command: AccountCommand) -> Decision<AccountEvent> {
        use AccountCommand::*;
        match command {
            Open { .. } if self.open => accept_nothing(),
            Open { owner, holder_name } => accept([AccountEvent::Opened { owner, holder_name }]),
            Explode => panic!("secret of the inside"),
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
            AccountEvent::Deposited { amount } => self.balance += amount,
            AccountEvent::Withdrawn { amount } => self.balance -= amount,
        }
    }
}

#[derive(Debug, Default, PartialEq, Row)]
pub(crate) struct Balance {
    #[index]
    balance: u64,
    #[index]
    owner: Option<String>,
    entries: u32,
}

/// The balance of each account; a deposit of 666 is more than it can take.
pub(crate) struct Balances;

impl View for Balances {
    const NAME: &'static str = "balances";
    const VERSION: u32 = 1;
    type Event = AccountEvent;
    type Row = Balance;

    fn route(&self, event: &Recorded<'_, AccountEvent>) -> Keys {
        Keys::one(event.stream_id())
    }

    fn fold(&self, _: &Key, row: Option<Balance>, event: &Recorded<'_, AccountEvent>) -> Option<Balance> {
        let mut row = row.unwrap_or_default();
        row.entries += 1;
        match event.data() {
            AccountEvent::Opened { owner, .. } => row.owner = Some(owner.clone()),
            AccountEvent::Deposited { amount: 666 } => panic!("cannot count that far"),
            AccountEvent::Deposited { amount } => row.balance += amount,
            AccountEvent::Withdrawn { amount } => row.balance -= amount,
        }
        Some(row)
    }
}

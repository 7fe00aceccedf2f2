//! Tests of domain code that tell a story in one line: given what happened, when this is asked, then that comes of it.
//!
//! ```text
//! given::<Account>([Opened { .. }, Deposited { amount: 50 }]).when(Withdraw { amount: 80 }).then_rejected("insufficient-funds");
//! view(Balances).given([Deposited { amount: 50 }]).row("acc-1").is(Balance { balance: 50, entries: 1 });
//! reactor(Fulfilment).given([on("payments/pay-1", captured())]).when(on("orders/ord-1", cancelled())).then([refund()]);
//! ```
//!
//! Everything passes through its stored form on the way (events, commands, states and rows as MessagePack), so such a
//! test also shows that what is written can be read back. A story that does not hold panics, as assertions do. For
//! tests only: must not know any engine, server or domain.
#![expect(clippy::panic, reason = "a story that does not hold fails the test that tells it")]

mod aggregate;
mod happened;
mod reactor;
mod stored;
mod view;

pub use aggregate::{Given, Outcome, STORY_ID, given};
pub use happened::{DEFAULT_STREAM, Happened, on};
pub use reactor::{ReactorOutcome, ReactorStory, reactor, to};
pub use view::{RowOf, ViewStory, view};

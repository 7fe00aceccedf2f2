//! Payments: authorised, then captured or failed, then perhaps refunded in one or several parts.
//!
//! Amounts of zero and methods such as `not_defined` are valid: real payments have them.

use super::check::{TEXT_LEN_MAX, check_length, check_reference, rejection};
use crate::money::{Money, check_not_negative};
use annals_core::{Aggregate, Command, Decision, Event, Rejection, State, accept, accept_nothing, reject};
use serde::{Deserialize, Serialize};

/// Longest method in characters.
const METHOD_LEN_MAX: usize = 64;

/// Commands of `payments/{id}`.
#[derive(Debug, Clone, PartialEq, Command)]
pub enum PaymentCommand {
    /// Says that the payer's money is reserved. The same again is accepted without an event.
    Authorize {
        /// The order that is paid.
        order_id: String,
        /// How, such as `credit_card`: 1 to 64 characters `a-z`, `0-9`, `_`, `-`.
        method: String,
        /// How much; 0 or more.
        amount: Money,
        /// In how many instalments.
        installments: Option<u32>,
    },
    /// Takes all of the authorised amount.
    Capture,
    /// Says that the payment came to nothing.
    Fail {
        /// Why.
        reason: String,
    },
    /// Gives back what was captured, or part of it.
    Refund {
        /// How much; without it, all that is not refunded yet (and no event if that is nothing).
        amount: Option<Money>,
        /// Why.
        reason: String,
    },
}

/// Events of a payment. Each carries order and method, so that who reads one needs no other.
#[derive(Debug, Clone, PartialEq, Event)]
pub enum PaymentEvent {
    /// The payer's money was reserved.
    #[event(tags(order = order_id))]
    PaymentAuthorized {
        /// The order that is paid.
        order_id: String,
        /// How.
        method: String,
        /// How much.
        amount: Money,
        /// In how many instalments.
        installments: Option<u32>,
    },
    /// The authorised amount was taken.
    #[event(tags(order = order_id))]
    PaymentCaptured {
        /// The order that is paid.
        order_id: String,
        /// How.
        method: String,
        /// How much.
        amount: Money,
    },
    /// The payment came to nothing.
    #[event(tags(order = order_id))]
    PaymentFailed {
        /// The order that was to be paid.
        order_id: String,
        /// How.
        method: String,
        /// What was authorised and will not be captured.
        amount: Money,
        /// Why.
        reason: String,
    },
    /// Captured money was given back.
    #[event(tags(order = order_id))]
    PaymentRefunded {
        /// The order that was paid.
        order_id: String,
        /// How.
        method: String,
        /// How much this time.
        amount: Money,
        /// Why.
        reason: String,
    },
}

/// What is so of a payment.
#[derive(Debug, Clone, Default, PartialEq, State)]
pub struct Payment {
    authorized: Option<Authorization>,
    captured: Option<Money>,
    refunded: i64,
    failed: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Authorization {
    order_id: String,
    method: String,
    amount: Money,
    installments: Option<u32>,
}

impl Aggregate for Payment {
    const CATEGORY: &'static str = "payments";
    type Command = PaymentCommand;
    type Event = PaymentEvent;

    fn decide(&self, command: PaymentCommand) -> Decision<PaymentEvent> {
        match (command, &self.authorized) {
            (
                PaymentCommand::Authorize {
                    order_id,
                    method,
                    amount,
                    installments,
                },
                _,
            ) => self.authorize(Authorization {
                order_id,
                method,
                amount,
                installments,
            }),
            (_, None) => reject("payment-not-authorized", "there is no such payment: authorize it first"),
            (PaymentCommand::Capture, Some(known)) => self.capture(known),
            (PaymentCommand::Fail { reason }, Some(known)) => self.fail(known, reason),
            (PaymentCommand::Refund { amount, reason }, Some(known)) => self.refund(known, amount, reason),
        }
    }

    fn evolve(&mut self, event: &PaymentEvent) {
        match event {
            PaymentEvent::PaymentAuthorized {
                order_id,
                method,
                amount,
                installments,
            } => {
                self.authorized = Some(Authorization {
                    order_id: order_id.clone(),
                    method: method.clone(),
                    amount: *amount,
                    installments: *installments,
                });
            }
            PaymentEvent::PaymentCaptured { amount, .. } => self.captured = Some(*amount),
            PaymentEvent::PaymentFailed { .. } => self.failed = true,
            PaymentEvent::PaymentRefunded { amount, .. } => {
                self.refunded = self.refunded.saturating_add(amount.amount);
            }
        }
    }
}

impl Payment {
    fn authorize(&self, asked: Authorization) -> Decision<PaymentEvent> {
        match &self.authorized {
            Some(_) if self.failed => {
                return reject(
                    "payment-failed",
                    "the payment failed: authorize another one under a new id",
                );
            }
            Some(known) if *known == asked => return accept_nothing(),
            Some(_) => {
                return reject(
                    "payment-already-authorized",
                    "a payment of this id is authorized with other data: authorize another one under a new id",
                );
            }
            None => {}
        }
        check_reference("order_id", &asked.order_id)?;
        check_method(&asked.method)?;
        check_not_negative("amount", asked.amount)?;
        accept([PaymentEvent::PaymentAuthorized {
            order_id: asked.order_id,
            method: asked.method,
            amount: asked.amount,
            installments: asked.installments,
        }])
    }

    fn capture(&self, known: &Authorization) -> Decision<PaymentEvent> {
        if self.captured.is_some() {
            return accept_nothing();
        }
        if self.failed {
            return reject(
                "payment-failed",
                "the payment failed: authorize another one under a new id",
            );
        }
        accept([PaymentEvent::PaymentCaptured {
            order_id: known.order_id.clone(),
            method: known.method.clone(),
            amount: known.amount,
        }])
    }

    fn fail(&self, known: &Authorization, reason: String) -> Decision<PaymentEvent> {
        if self.failed {
            return accept_nothing();
        }
        if self.captured.is_some() {
            return reject(
                "payment-captured",
                "the payment was captured and cannot fail: refund it",
            );
        }
        check_length("reason", &reason, TEXT_LEN_MAX)?;
        accept([PaymentEvent::PaymentFailed {
            order_id: known.order_id.clone(),
            method: known.method.clone(),
            amount: known.amount,
            reason,
        }])
    }

    fn refund(&self, known: &Authorization, asked: Option<Money>, reason: String) -> Decision<PaymentEvent> {
        let Some(captured) = self.captured else {
            let message = "nothing was captured that could be refunded: capture the payment first";
            return reject("payment-not-captured", message);
        };
        let rest = Money::new(captured.amount.saturating_sub(self.refunded), captured.currency);
        let amount = match asked {
            None if rest.amount <= 0 => return accept_nothing(),
            None => rest,
            Some(amount) => check_refund(amount, rest)?,
        };
        check_length("reason", &reason, TEXT_LEN_MAX)?;
        accept([PaymentEvent::PaymentRefunded {
            order_id: known.order_id.clone(),
            method: known.method.clone(),
            amount,
            reason,
        }])
    }
}

/// An explicit amount asks for something new each time, so it is never "already so": beyond the rest it is rejected.
fn check_refund(amount: Money, rest: Money) -> Result<Money, Rejection> {
    if amount.currency != rest.currency {
        let message = format!(
            "the payment is in {}, not in {}: refund that",
            rest.currency, amount.currency
        );
        return Err(rejection("currency-mismatch", message));
    }
    if amount.amount <= 0 {
        let message = format!("a refund of {amount}: refund more than 0, or leave the amount out to refund the rest");
        return Err(rejection("amount-not-positive", message));
    }
    if amount.amount > rest.amount {
        let message = format!("{rest} of the payment are not refunded yet, {amount} are too much: refund at most that");
        return Err(rejection("refund-exceeds-captured", message));
    }
    Ok(amount)
}

/// A method is a key of rows and a word of indexes, not a text.
fn check_method(method: &str) -> Result<(), Rejection> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
    if (1..=METHOD_LEN_MAX).contains(&method.len()) && method.bytes().all(allowed) {
        return Ok(());
    }
    let message = "the method is not valid: write 1 to 64 characters a-z, 0-9, _ and -, such as credit_card";
    Err(rejection("method-invalid", message))
}

//! `payments-by-method`: how customers pay. Key: the method, such as `credit_card`.

use crate::domain::PaymentEvent;
use crate::money::{Money, PerCurrency};
use annals_core::{Key, Keys, Recorded, Row, View};
use serde::{Deserialize, Serialize};

/// How many, and how much.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// Their amounts.
    pub sum: PerCurrency,
}

impl Tally {
    fn add(&mut self, amount: Money) {
        self.count = self.count.saturating_add(1);
        self.sum.add(amount);
    }
}

/// The payments of one method.
#[derive(Debug, Clone, PartialEq, Eq, Default, Row)]
pub struct MethodRow {
    /// Authorised.
    pub authorized: Tally,
    /// Captured, refunds not subtracted.
    pub captured: Tally,
    /// Refunds: a payment that was refunded in parts counts once for each.
    pub refunded: Tally,
}

/// The view `payments-by-method`.
#[derive(Debug, Clone, Copy, Default)]
pub struct PaymentsByMethod;

impl View for PaymentsByMethod {
    const NAME: &'static str = "payments-by-method";
    const VERSION: u32 = 1;
    type Event = PaymentEvent;
    type Row = MethodRow;

    fn route(&self, event: &Recorded<'_, PaymentEvent>) -> Keys {
        match event.data() {
            PaymentEvent::PaymentAuthorized { method, .. }
            | PaymentEvent::PaymentCaptured { method, .. }
            | PaymentEvent::PaymentRefunded { method, .. } => Keys::one(method.as_str()),
            PaymentEvent::PaymentFailed { .. } => Keys::none(),
        }
    }

    fn fold(&self, _key: &Key, row: Option<MethodRow>, event: &Recorded<'_, PaymentEvent>) -> Option<MethodRow> {
        let mut row = row.unwrap_or_default();
        match event.data() {
            PaymentEvent::PaymentAuthorized { amount, .. } => row.authorized.add(*amount),
            PaymentEvent::PaymentCaptured { amount, .. } => row.captured.add(*amount),
            PaymentEvent::PaymentRefunded { amount, .. } => row.refunded.add(*amount),
            PaymentEvent::PaymentFailed { .. } => {}
        }
        Some(row)
    }
}

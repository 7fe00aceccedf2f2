//! `payments`: what became of each payment. Key: the payment's id.

use crate::domain::PaymentEvent;
use crate::money::Money;
use annals_core::{IndexKind, IndexValue, Indexed, Key, Keys, Recorded, Row, View};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What became of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PaymentStatus {
    /// The payer's money is reserved.
    #[default]
    Authorized,
    /// It was taken, and not all of it was given back.
    Captured,
    /// It came to nothing.
    Failed,
    /// All that was taken was given back.
    Refunded,
}

impl Indexed for PaymentStatus {
    const KIND: IndexKind = IndexKind::Text;

    fn index_value(&self) -> Option<IndexValue> {
        let name = match self {
            Self::Authorized => "authorized",
            Self::Captured => "captured",
            Self::Failed => "failed",
            Self::Refunded => "refunded",
        };
        Some(IndexValue::Text(name.into()))
    }
}

/// A payment. All its amounts are in its one currency.
#[derive(Debug, Clone, PartialEq, Eq, Default, Row)]
pub struct PaymentRow {
    /// The order that is paid.
    #[index]
    pub order: String,
    /// How.
    #[index]
    pub method: String,
    /// What became of it.
    #[index]
    pub status: PaymentStatus,
    /// In how many instalments.
    pub installments: Option<u32>,
    /// What was authorised; may be 0.
    pub authorized: Option<Money>,
    /// What was captured; absent until then.
    pub captured: Option<Money>,
    /// What was refunded in all; absent until then.
    pub refunded: Option<Money>,
    /// When it was authorised.
    pub authorized_at: Option<DateTime<Utc>>,
    /// When it was captured.
    pub captured_at: Option<DateTime<Utc>>,
    /// When it was refunded last.
    pub refunded_at: Option<DateTime<Utc>>,
    /// When it failed.
    pub failed_at: Option<DateTime<Utc>>,
}

impl PaymentRow {
    fn fold(&mut self, event: &PaymentEvent, time: DateTime<Utc>) {
        match event {
            PaymentEvent::PaymentAuthorized {
                order_id,
                method,
                amount,
                installments,
            } => {
                self.belongs(order_id, method);
                self.installments = *installments;
                self.authorized = Some(*amount);
                self.authorized_at = Some(time);
            }
            PaymentEvent::PaymentCaptured {
                order_id,
                method,
                amount,
            } => {
                self.belongs(order_id, method);
                self.captured = Some(*amount);
                self.captured_at = Some(time);
            }
            PaymentEvent::PaymentFailed { order_id, method, .. } => {
                self.belongs(order_id, method);
                self.failed_at = Some(time);
            }
            PaymentEvent::PaymentRefunded {
                order_id,
                method,
                amount,
                ..
            } => {
                self.belongs(order_id, method);
                let refunded = self.refunded.get_or_insert(Money::zero(amount.currency));
                refunded.amount = refunded.amount.saturating_add(amount.amount);
                self.refunded_at = Some(time);
            }
        }
        self.status = self.status();
    }

    fn belongs(&mut self, order_id: &str, method: &str) {
        order_id.clone_into(&mut self.order);
        method.clone_into(&mut self.method);
    }

    fn status(&self) -> PaymentStatus {
        match (self.captured, self.refunded) {
            (Some(captured), Some(refunded)) if refunded.amount >= captured.amount => PaymentStatus::Refunded,
            (Some(_), _) => PaymentStatus::Captured,
            (None, _) if self.failed_at.is_some() => PaymentStatus::Failed,
            (None, _) => PaymentStatus::Authorized,
        }
    }
}

/// The view `payments`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Payments;

impl View for Payments {
    const NAME: &'static str = "payments";
    const VERSION: u32 = 1;
    type Event = PaymentEvent;
    type Row = PaymentRow;

    fn route(&self, event: &Recorded<'_, PaymentEvent>) -> Keys {
        Keys::one(event.stream_id())
    }

    fn fold(&self, _key: &Key, row: Option<PaymentRow>, event: &Recorded<'_, PaymentEvent>) -> Option<PaymentRow> {
        let mut row = row.unwrap_or_default();
        row.fold(event.data(), event.occurred_at());
        Some(row)
    }
}

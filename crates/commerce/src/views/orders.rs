//! `orders`: how far each order has come. Key: the order's id.

use super::units;
use crate::domain::{OrderEvent, PaymentEvent, ShipmentEvent};
use crate::events::OrderHistory;
use crate::money::{Currency, Money};
use annals_core::{IndexKind, IndexValue, Indexed, Key, Keys, Recorded, Row, View};
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

/// The furthest that an order has come, in whatever order its events came; cancelled wins over all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderStatus {
    /// It was placed.
    Placed,
    /// Its payments were accepted.
    Approved,
    /// The carrier has it.
    Shipped,
    /// The customer has it.
    Delivered,
    /// It was cancelled, whatever else happened to it.
    Cancelled,
}

impl Indexed for OrderStatus {
    const KIND: IndexKind = IndexKind::Text;

    fn index_value(&self) -> Option<IndexValue> {
        let name = match self {
            Self::Placed => "placed",
            Self::Approved => "approved",
            Self::Shipped => "shipped",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
        };
        Some(IndexValue::Text(name.into()))
    }
}

/// An order. It may begin with any of its events, so what its placing tells is absent until then.
#[derive(Debug, Clone, PartialEq, Eq, Default, Row)]
pub struct OrderRow {
    /// How far it has come; absent while only captures, refunds or reviews are known.
    #[index]
    pub status: Option<OrderStatus>,
    /// The user who ordered.
    #[index]
    pub customer: Option<String>,
    /// Prices and freight of all items.
    pub total: Option<Money>,
    /// What was captured, refunds not subtracted. In the currency of the order's first payment that moved money; a
    /// payment in another currency is not in it, the view `payments` has that.
    pub paid: Option<Money>,
    /// What was refunded, in the same currency.
    pub refunded: Option<Money>,
    /// Units ordered.
    pub items: u64,
    /// Reviews submitted.
    pub reviews: u64,
    /// Day of placing by business time, UTC.
    #[index]
    pub placed_on: Option<NaiveDate>,
    /// When it was placed.
    pub placed_at: Option<DateTime<Utc>>,
    /// When it was approved.
    pub approved_at: Option<DateTime<Utc>>,
    /// When the carrier got it.
    pub dispatched_at: Option<DateTime<Utc>>,
    /// When the customer got it.
    pub delivered_at: Option<DateTime<Utc>>,
    /// When it was cancelled.
    pub cancelled_at: Option<DateTime<Utc>>,
}

impl OrderRow {
    fn reach(&mut self, status: OrderStatus) {
        self.status = self.status.max(Some(status));
    }

    fn fold_order(&mut self, event: &OrderEvent, time: DateTime<Utc>) {
        match event {
            OrderEvent::OrderPlaced {
                customer_id,
                total,
                items,
            } => {
                self.reach(OrderStatus::Placed);
                self.customer = Some(customer_id.clone());
                self.total = Some(*total);
                self.paid.get_or_insert(Money::zero(total.currency));
                self.refunded.get_or_insert(Money::zero(total.currency));
                self.items = units(items);
                self.placed_on = Some(time.date_naive());
                self.placed_at = Some(time);
            }
            OrderEvent::OrderApproved => {
                self.reach(OrderStatus::Approved);
                self.approved_at = Some(time);
            }
            OrderEvent::OrderCancelled { .. } => {
                self.reach(OrderStatus::Cancelled);
                self.cancelled_at = Some(time);
            }
            OrderEvent::ReviewSubmitted { .. } => self.reviews = self.reviews.saturating_add(1),
        }
    }

    fn fold_shipment(&mut self, event: &ShipmentEvent, time: DateTime<Utc>) {
        match event {
            ShipmentEvent::ShipmentDispatched { .. } => {
                self.reach(OrderStatus::Shipped);
                self.dispatched_at = Some(time);
            }
            ShipmentEvent::ShipmentDelivered { .. } => {
                self.reach(OrderStatus::Delivered);
                self.delivered_at = Some(time);
            }
            ShipmentEvent::ShipmentFailed { .. } => {}
        }
    }

    fn fold_payment(&mut self, event: &PaymentEvent) {
        match event {
            PaymentEvent::PaymentCaptured { amount, .. } => self.pay(amount.currency, amount.amount, 0),
            PaymentEvent::PaymentRefunded { amount, .. } => self.pay(amount.currency, 0, amount.amount),
            PaymentEvent::PaymentAuthorized { .. } | PaymentEvent::PaymentFailed { .. } => {}
        }
    }

    /// Adds to both sums, which are in one currency: that of the first money that moved.
    fn pay(&mut self, currency: Currency, captured: i64, given_back: i64) {
        let zero = Money::zero(currency);
        let (mut paid, mut refunded) = (self.paid.unwrap_or(zero), self.refunded.unwrap_or(zero));
        if paid.currency != currency {
            if paid.amount != 0 || refunded.amount != 0 {
                return;
            }
            (paid, refunded) = (zero, zero);
        }
        paid.amount = paid.amount.saturating_add(captured);
        refunded.amount = refunded.amount.saturating_add(given_back);
        (self.paid, self.refunded) = (Some(paid), Some(refunded));
    }
}

/// The view `orders`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Orders;

impl View for Orders {
    const NAME: &'static str = "orders";
    const VERSION: u32 = 1;
    type Event = OrderHistory;
    type Row = OrderRow;

    fn route(&self, event: &Recorded<'_, OrderHistory>) -> Keys {
        match event.data() {
            // They change nothing in the row.
            OrderHistory::Payment(PaymentEvent::PaymentAuthorized { .. } | PaymentEvent::PaymentFailed { .. })
            | OrderHistory::Shipment(ShipmentEvent::ShipmentFailed { .. }) => Keys::none(),
            _ => Keys::one(OrderHistory::order_id(event)),
        }
    }

    fn fold(&self, _key: &Key, row: Option<OrderRow>, event: &Recorded<'_, OrderHistory>) -> Option<OrderRow> {
        let mut row = row.unwrap_or_default();
        match event.data() {
            OrderHistory::Order(order) => row.fold_order(order, event.occurred_at()),
            OrderHistory::Payment(payment) => row.fold_payment(payment),
            OrderHistory::Shipment(shipment) => row.fold_shipment(shipment, event.occurred_at()),
        }
        Some(row)
    }
}

//! The sets of events that views and the process read.

use crate::domain::{OrderEvent, PaymentEvent, ShipmentEvent, UserEvent};
use annals_core::{EventSet, Recorded};

/// Every event of the domain.
#[derive(Debug, Clone, PartialEq, EventSet)]
pub enum CommerceEvent {
    /// Of a user.
    User(UserEvent),
    /// Of an order.
    Order(OrderEvent),
    /// Of a payment.
    Payment(PaymentEvent),
    /// Of a shipment.
    Shipment(ShipmentEvent),
}

/// All that happens to an order: its own events, those of its payments and of its shipment.
#[derive(Debug, Clone, PartialEq, EventSet)]
pub enum OrderHistory {
    /// Of the order itself.
    Order(OrderEvent),
    /// Of one of its payments.
    Payment(PaymentEvent),
    /// Of its shipment.
    Shipment(ShipmentEvent),
}

impl OrderHistory {
    /// The order that a recorded event belongs to.
    pub(crate) fn order_id<'a>(event: &'a Recorded<'_, Self>) -> &'a str {
        match event.data() {
            Self::Order(_) => event.stream_id(),
            Self::Payment(
                PaymentEvent::PaymentAuthorized { order_id, .. }
                | PaymentEvent::PaymentCaptured { order_id, .. }
                | PaymentEvent::PaymentFailed { order_id, .. }
                | PaymentEvent::PaymentRefunded { order_id, .. },
            )
            | Self::Shipment(
                ShipmentEvent::ShipmentDispatched { order_id, .. }
                | ShipmentEvent::ShipmentDelivered { order_id }
                | ShipmentEvent::ShipmentFailed { order_id, .. },
            ) => order_id,
        }
    }
}

/// All that happens to a customer: what they do as users, and what they order.
#[derive(Debug, Clone, PartialEq, EventSet)]
pub enum CustomerHistory {
    /// As a user.
    User(UserEvent),
    /// What they order.
    Order(OrderEvent),
}

//! The fulfilment process: approves what is paid, cancels what cannot be delivered or is not paid within a week, gives
//! back what was paid for it.
//!
//! Its commands are such that saying them twice does no harm (what is already so is accepted without an event, and a
//! refund without an amount is of the rest), so it need not remember which it has sent. It reads events in the order
//! of the log and assumes no other: a capture may come before the placing or after the cancellation.

use crate::domain::{
    Order, OrderCommand, OrderEvent, Payment, PaymentCommand, PaymentEvent, ShipmentEvent, TEXT_LEN_MAX,
};
use crate::events::OrderHistory;
use crate::money::Money;
use annals_core::{CommandCall, InvalidCommand, Keys, Reactor, Recorded, State, Timer, after, cancel_timers};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long an order may stay unpaid.
const PAID_WITHIN: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The process `fulfilment`. Its state is kept per order.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fulfilment;

/// What the process knows of one order.
#[derive(Debug, Clone, PartialEq, Default, State)]
pub struct OrderProgress {
    total: Option<Money>,
    approved: bool,
    cancelled: bool,
    /// Why its shipment failed, if it did.
    shipment_failed: Option<String>,
    payments: BTreeMap<String, PaymentProgress>,
}

/// What it knows of one of the order's payments.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct PaymentProgress {
    captured: Option<Money>,
    refunded: i64,
    failed: bool,
}

impl PaymentProgress {
    /// What was captured and is not refunded yet.
    fn rest(&self) -> i64 {
        let captured = self.captured.map_or(0, |money| money.amount);
        captured.saturating_sub(self.refunded)
    }
}

impl OrderProgress {
    /// Every payment of the order that has not failed is captured, there is one at least, and together they cover the
    /// total. Money of another currency covers nothing, nor does what was refunded.
    fn is_paid(&self) -> bool {
        let Some(total) = self.total else { return false };
        let mut counted = self.payments.values().filter(|payment| !payment.failed).peekable();
        if counted.peek().is_none() {
            return false;
        }
        let mut paid = 0_i64;
        for payment in counted {
            match payment.captured {
                None => return false,
                Some(money) if money.currency == total.currency => paid = paid.saturating_add(payment.rest()),
                Some(_) => {}
            }
        }
        paid >= total.amount
    }

    fn evolve_order(&mut self, event: &OrderEvent) {
        match event {
            OrderEvent::OrderPlaced { total, .. } => self.total = Some(*total),
            OrderEvent::OrderApproved => self.approved = true,
            OrderEvent::OrderCancelled { .. } => self.cancelled = true,
            OrderEvent::ReviewSubmitted { .. } => {}
        }
    }

    fn evolve_payment(&mut self, id: &str, event: &PaymentEvent) {
        let payment = self.payments.entry(id.to_owned()).or_default();
        match event {
            PaymentEvent::PaymentAuthorized { .. } => {}
            PaymentEvent::PaymentCaptured { amount, .. } => payment.captured = Some(*amount),
            PaymentEvent::PaymentFailed { .. } => payment.failed = true,
            PaymentEvent::PaymentRefunded { amount, .. } => {
                payment.refunded = payment.refunded.saturating_add(amount.amount);
            }
        }
    }
}

impl Reactor for Fulfilment {
    const NAME: &'static str = "fulfilment";
    type Event = OrderHistory;
    type State = OrderProgress;

    fn route(&self, event: &Recorded<'_, OrderHistory>) -> Keys {
        match event.data() {
            OrderHistory::Order(OrderEvent::ReviewSubmitted { .. })
            | OrderHistory::Shipment(
                ShipmentEvent::ShipmentDispatched { .. } | ShipmentEvent::ShipmentDelivered { .. },
            ) => Keys::none(),
            _ => Keys::one(OrderHistory::order_id(event)),
        }
    }

    fn evolve(&self, state: &mut OrderProgress, event: &Recorded<'_, OrderHistory>) {
        match event.data() {
            OrderHistory::Order(order) => state.evolve_order(order),
            OrderHistory::Payment(payment) => state.evolve_payment(event.stream_id(), payment),
            OrderHistory::Shipment(ShipmentEvent::ShipmentFailed { reason, .. }) => {
                state.shipment_failed = Some(reason.clone());
            }
            OrderHistory::Shipment(_) => {}
        }
    }

    fn react(
        &self,
        state: &OrderProgress,
        event: &Recorded<'_, OrderHistory>,
    ) -> Result<Vec<CommandCall>, InvalidCommand> {
        let order_id = OrderHistory::order_id(event);
        match event.data() {
            OrderHistory::Order(OrderEvent::OrderCancelled { .. }) => state
                .payments
                .iter()
                .filter(|(_, payment)| payment.rest() > 0)
                .map(|(id, _)| refund(id))
                .collect(),
            OrderHistory::Payment(PaymentEvent::PaymentCaptured { .. }) if state.cancelled => {
                let id = event.stream_id();
                let due = state.payments.get(id).is_some_and(|payment| payment.rest() > 0);
                due.then(|| refund(id)).into_iter().collect()
            }
            OrderHistory::Order(OrderEvent::OrderPlaced { .. })
            | OrderHistory::Payment(PaymentEvent::PaymentCaptured { .. } | PaymentEvent::PaymentFailed { .. })
            | OrderHistory::Shipment(ShipmentEvent::ShipmentFailed { .. }) => settle(state, order_id),
            _ => Ok(Vec::new()),
        }
    }

    /// An order that nobody has paid a week after it was placed is cancelled. It may have been paid before it was placed.
    fn timers(&self, state: &OrderProgress, event: &Recorded<'_, OrderHistory>) -> Result<Vec<Timer>, InvalidCommand> {
        let settled = state.approved || state.cancelled || state.is_paid();
        match event.data() {
            OrderHistory::Order(OrderEvent::OrderPlaced { .. }) if !settled => {
                let reason = "not paid within 7 days".to_owned();
                let cancel = CommandCall::to::<Order>(OrderHistory::order_id(event), &OrderCommand::Cancel { reason })?;
                Ok(vec![after(PAID_WITHIN, cancel)])
            }
            OrderHistory::Order(_) | OrderHistory::Payment(_) if settled => Ok(vec![cancel_timers()]),
            _ => Ok(Vec::new()),
        }
    }
}

/// What a placed order calls for that is neither cancelled nor approved, or whose shipment failed.
fn settle(state: &OrderProgress, order_id: &str) -> Result<Vec<CommandCall>, InvalidCommand> {
    if state.total.is_none() || state.cancelled {
        return Ok(Vec::new());
    }
    if let Some(reason) = &state.shipment_failed {
        return Ok(vec![cancel(order_id, reason)?]);
    }
    if state.approved || !state.is_paid() {
        return Ok(Vec::new());
    }
    Ok(vec![CommandCall::to::<Order>(order_id, &OrderCommand::Approve)?])
}

fn cancel(order_id: &str, why: &str) -> Result<CommandCall, InvalidCommand> {
    // The shipment's reason may be as long as the order's, which begins with these words: it must not be rejected.
    let reason = format!("shipment failed: {why}").chars().take(TEXT_LEN_MAX).collect();
    CommandCall::to::<Order>(order_id, &OrderCommand::Cancel { reason })
}

fn refund(payment_id: &str) -> Result<CommandCall, InvalidCommand> {
    let command = PaymentCommand::Refund {
        amount: None,
        reason: "order cancelled".into(),
    };
    CommandCall::to::<Payment>(payment_id, &command)
}

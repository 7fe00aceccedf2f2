//! What must be so in the end: a fold of the events that shares no code with the server, beside what was acknowledged.

use std::collections::{BTreeMap, HashMap, HashSet};

use annals_tests::events::Event;
use annals_tests::olist::{OrderRow, Status};
use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::clients::Acknowledged;

/// Every acknowledged event is at its position, once; and whatever stands under a client's key in the stream of that
/// command was acknowledged for it.
pub(crate) fn acknowledged_once(acknowledged: &[Acknowledged], events: &[Event]) -> Result<()> {
    let mut ids = HashSet::new();
    for event in events {
        ensure!(ids.insert(&event.id), "event {} is there twice", event.id);
    }
    for one in acknowledged {
        for (id, position) in &one.events {
            let event = position
                .checked_sub(1)
                .and_then(|at| events.get(usize::try_from(at).ok()?));
            let event = event.with_context(|| format!("lost: {one:?}"))?;
            ensure!(
                event.id == *id && event.stream == one.stream,
                "acknowledged {one:?}, stored {event:?}"
            );
        }
        if let Some((_, last)) = one.events.last() {
            let version = events[usize::try_from(last - 1)?].version;
            ensure!(
                one.position == *last && one.version == version,
                "{one:?} has version {version}"
            );
        }
    }
    let by_key: HashMap<&str, &Acknowledged> = acknowledged.iter().map(|one| (one.key.as_str(), one)).collect();
    ensure!(by_key.len() == acknowledged.len(), "a client used a key twice");
    for event in events {
        let one = cause(&by_key, event)?;
        let known = one.events.iter().any(|(id, _)| *id == event.id);
        ensure!(
            !by_client(event) || known,
            "done more often than acknowledged: {event:?}, {one:?}"
        );
    }
    Ok(())
}

/// The command that an event comes from, directly or through the process.
fn cause<'a>(by_key: &HashMap<&str, &'a Acknowledged>, event: &Event) -> Result<&'a Acknowledged> {
    let key = event.correlation.as_deref();
    key.and_then(|key| by_key.get(key).copied())
        .with_context(|| format!("nobody asked for {event:?}"))
}

/// Whether a client did it, not the process.
fn by_client(event: &Event) -> bool {
    event.actor.as_deref().is_some_and(|actor| actor.starts_with("client-"))
}

#[derive(Debug, Default)]
struct Payment {
    authorized: bool,
    failed: bool,
    captured: Option<i64>,
    /// What the client gave back by itself.
    given_back: i64,
    /// What the process gave back, refund by refund.
    refunds: Vec<i64>,
}

#[derive(Debug, Default)]
struct Order {
    row: OrderRow,
    approvals: u32,
    shipment_failed: bool,
    payments: BTreeMap<String, Payment>,
}

/// Every cancelled order's captured money is given back exactly once and no other, whatever has to be approved is, and
/// whatever was lost on its way is cancelled. Returns the rows that the view of orders should have.
pub(crate) fn made_good(acknowledged: &[Acknowledged], events: &[Event]) -> Result<BTreeMap<String, OrderRow>> {
    let by_key: HashMap<&str, &Acknowledged> = acknowledged.iter().map(|one| (one.key.as_str(), one)).collect();
    let mut orders: BTreeMap<String, Order> = BTreeMap::new();
    for event in events {
        cause(&by_key, event)?;
        match event.stream.split_once('/').context("a stream has a category")? {
            ("users" | "notes", _) => {}
            ("orders" | "shipments", id) => orders.entry(id.to_owned()).or_default().fold(event),
            (_, id) => orders
                .entry(event.text("order_id").to_owned())
                .or_default()
                .pay(id, event),
        }
    }
    let mut refunds = 0;
    for (id, order) in &orders {
        order.check().with_context(|| format!("order {id}: {order:?}"))?;
        refunds += order
            .payments
            .values()
            .map(|payment| payment.refunds.len())
            .sum::<usize>();
    }
    let cancelled = orders.values().filter(|order| order.row.cancelled.is_some()).count();
    println!(
        "{} orders, {cancelled} of them cancelled, {refunds} refunds by the process",
        orders.len()
    );
    let rows = orders.into_iter().map(|(id, order)| (id, order.row));
    Ok(rows.filter(|(_, row)| *row != OrderRow::default()).collect())
}

impl Order {
    fn reach(&mut self, status: Status) {
        self.row.status = self.row.status.max(Some(status));
    }

    fn fold(&mut self, event: &Event) {
        let at = Some(event.time);
        match event.event_type.as_str() {
            "OrderPlaced" => {
                self.reach(Status::Placed);
                self.row.placed = at;
                self.row.customer = Some(event.text("customer_id").to_owned());
                self.row.total = event.amount("total");
                let quantities = event.data["items"].as_array().into_iter().flatten();
                self.row.items = quantities.filter_map(|item| item["quantity"].as_u64()).sum();
            }
            "OrderApproved" => {
                self.reach(Status::Approved);
                self.row.approved = at;
                self.approvals += 1;
            }
            "OrderCancelled" => {
                self.reach(Status::Cancelled);
                self.row.cancelled = at;
            }
            "ReviewSubmitted" => self.row.reviews += 1,
            "ShipmentDispatched" => {
                self.reach(Status::Shipped);
                self.row.dispatched = at;
            }
            "ShipmentDelivered" => {
                self.reach(Status::Delivered);
                self.row.delivered = at;
            }
            _ => self.shipment_failed = true,
        }
    }

    fn pay(&mut self, id: &str, event: &Event) {
        let payment = self.payments.entry(id.to_owned()).or_default();
        let amount = event.amount("amount");
        match event.event_type.as_str() {
            "PaymentAuthorized" => payment.authorized = true,
            "PaymentCaptured" => {
                payment.captured = Some(amount);
                self.row.paid += amount;
            }
            "PaymentRefunded" => {
                self.row.refunded += amount;
                if by_client(event) {
                    payment.given_back += amount;
                } else {
                    payment.refunds.push(amount);
                }
            }
            _ => payment.failed = true,
        }
    }

    fn check(&self) -> Result<()> {
        ensure!(self.approvals <= 1, "approved more than once");
        if self.shipment_failed {
            ensure!(
                self.row.cancelled.is_some(),
                "its shipment failed, and it is not cancelled"
            );
        }
        for (id, payment) in &self.payments {
            ensure!(payment.authorized, "payment {id} begins without an authorization");
            let due = match (self.row.cancelled, payment.captured) {
                (Some(_), Some(captured)) => captured - payment.given_back,
                _ => 0,
            };
            let expected = if due > 0 { vec![due] } else { Vec::new() };
            ensure!(
                payment.refunds == expected,
                "payment {id} should have the refunds {expected:?}"
            );
        }
        let counted = self.payments.values().filter(|payment| !payment.failed);
        let captured: Option<i64> = counted.map(|payment| payment.captured).sum();
        let paid = !self.payments.is_empty() && captured.is_some_and(|captured| captured >= self.row.total);
        if paid && self.row.placed.is_some() && self.row.cancelled.is_none() {
            ensure!(self.approvals == 1, "it is paid, and not approved");
        }
        Ok(())
    }
}

/// The view that counts who is signed in says what the events say.
pub(crate) fn online_users(events: &[Event], rows: &BTreeMap<String, Value>) -> Result<()> {
    let mut online = HashSet::new();
    for event in events {
        match event.event_type.as_str() {
            "UserSignedIn" => drop(online.insert(&event.stream)),
            "UserSignedOut" => drop(online.remove(&event.stream)),
            _ => {}
        }
    }
    ensure!(
        rows.values().all(|row| row["online"] == online.len()),
        "{} are online, the view says {rows:?}",
        online.len()
    );
    Ok(())
}

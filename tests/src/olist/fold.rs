//! From the joined tables to what is so at a cut-off. An event is included if and only if it occurred at or before it.
//!
//! The fulfilment process is part of it: every captured payment of a cancelled order is refunded, at the time of
//! whichever of the two came last. (It approves at the capture of an order's payments, when the tables do.)

use chrono::{DateTime, Utc};

use super::world::{CustomerRow, OrderRow, PaymentRow, Status, Tally, Totals, World};
use super::{History, Item, Olist, Payment, UNKNOWN_PRODUCT};

type Moment = DateTime<Utc>;

impl Olist {
    /// What is so at a business time; at the end of the tables for `None`.
    #[must_use]
    pub fn at(&self, cutoff: Option<Moment>) -> World {
        let mut world = World::default();
        for history in &self.orders {
            world.include(history, Cutoff(cutoff));
        }
        world
    }
}

#[derive(Clone, Copy)]
struct Cutoff(Option<Moment>);

impl Cutoff {
    fn includes(self, moment: Moment) -> bool {
        self.0.is_none_or(|cutoff| moment <= cutoff)
    }

    fn of(self, moment: Option<Moment>) -> Option<Moment> {
        moment.filter(|moment| self.includes(*moment))
    }
}

impl World {
    fn include(&mut self, history: &History, cutoff: Cutoff) {
        let mut row = OrderRow {
            placed: cutoff.of(Some(history.purchased)),
            approved: cutoff.of(history.approved),
            dispatched: cutoff.of(history.dispatched),
            delivered: cutoff.of(history.delivered),
            cancelled: cutoff.of(history.cancelled_at()),
            reviews: history
                .reviews
                .iter()
                .map(|moment| u64::from(cutoff.includes(*moment)))
                .sum(),
            ..OrderRow::default()
        };
        row.status = status(&row);
        for payment in &history.payments {
            self.include_payment(history, payment, cutoff, &mut row);
        }
        if row.placed.is_some() {
            self.include_placing(history, &mut row);
        }
        if row != OrderRow::default() {
            self.orders.insert(history.id.clone(), row);
        }
    }

    fn include_placing(&mut self, history: &History, row: &mut OrderRow) {
        let substitute = [substitute(history)];
        let items = if history.items.is_empty() {
            &substitute[..]
        } else {
            &history.items[..]
        };
        for item in items {
            let amount = item.price + item.freight;
            let product = self.products.entry(item.product.clone()).or_default();
            product.units += 1;
            product.revenue += amount;
            product.freight += item.freight;
            row.items += 1;
            row.total += amount;
        }
        row.customer = Some(history.user.clone());

        let day = self.days.entry(history.purchased.date_naive()).or_default();
        day.orders += 1;
        day.items += row.items;
        day.revenue += row.total;

        let unknown = CustomerRow {
            registered: history.purchased,
            orders: 0,
            ordered: 0,
        };
        let customer = self.customers.entry(history.user.clone()).or_insert(unknown);
        customer.registered = customer.registered.min(history.purchased);
        customer.orders += 1;
        customer.ordered += row.total;
    }

    fn include_payment(&mut self, history: &History, payment: &Payment, cutoff: Cutoff, order: &mut OrderRow) {
        let captured = history.approved;
        // Of nothing, nothing can be given back.
        let cancelled = history.cancelled_at().filter(|_| payment.amount > 0);
        let refunded = captured
            .zip(cancelled)
            .map(|(captured, cancelled)| captured.max(cancelled));
        let row = PaymentRow {
            order: history.id.clone(),
            method: payment.method.clone(),
            installments: payment.installments,
            amount: payment.amount,
            authorized: history.purchased,
            captured: cutoff.of(captured),
            refunded: cutoff.of(refunded),
        };
        if !cutoff.includes(row.authorized) {
            return;
        }
        let method = self.methods.entry(row.method.clone()).or_default();
        method.authorized.add(row.amount);
        if row.captured.is_some() {
            method.captured.add(row.amount);
            order.paid += row.amount;
        }
        if row.refunded.is_some() {
            method.refunded.add(row.amount);
            order.refunded += row.amount;
        }
        self.payments
            .insert(format!("{}-{}", history.id, payment.sequence), row);
    }

    /// Counts the events that are included.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals {
            users_registered: count(self.customers.values()),
            ..Totals::default()
        };
        for order in self.orders.values() {
            totals.orders_placed += count(order.placed);
            totals.orders_approved += count(order.approved);
            totals.orders_cancelled += count(order.cancelled);
            totals.shipments_dispatched += count(order.dispatched);
            totals.shipments_delivered += count(order.delivered);
            totals.reviews_submitted += order.reviews;
        }
        for method in self.methods.values() {
            totals.payments_authorized = together(totals.payments_authorized, method.authorized);
            totals.payments_captured = together(totals.payments_captured, method.captured);
            totals.payments_refunded = together(totals.payments_refunded, method.refunded);
        }
        totals
    }
}

fn status(row: &OrderRow) -> Option<Status> {
    let reached = [
        row.placed.map(|_| Status::Placed),
        row.approved.map(|_| Status::Approved),
        row.dispatched.map(|_| Status::Shipped),
        row.delivered.map(|_| Status::Delivered),
        row.cancelled.map(|_| Status::Cancelled),
    ];
    reached.into_iter().max().flatten()
}

/// The tables have orders with payments and no items; they are placed as one item worth what was paid.
fn substitute(history: &History) -> Item {
    let price = history.payments.iter().map(|payment| payment.amount).sum();
    Item {
        product: UNKNOWN_PRODUCT.to_owned(),
        price,
        freight: 0,
    }
}

fn together(left: Tally, right: Tally) -> Tally {
    Tally {
        count: left.count + right.count,
        sum: left.sum + right.sum,
    }
}

fn count(of: impl IntoIterator) -> u64 {
    of.into_iter().map(|_| 1).sum()
}

//! Which commands the tables mean, and in which order. Knows neither files nor output.
//!
//! Commands come by business time, then by [`Kind`], then in the order of the orders file. One exception: what a
//! stream's own record puts before its beginning (a review before the placing, a delivery before the dispatch) is said
//! right after the beginning, with its own time; an aggregate cannot accept it sooner.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::command::{CURRENCY, Command, Kind, money};
use crate::model::{Order, Payment, Review};

/// All commands, in the order in which they are to be run.
pub(crate) fn commands(orders: &[Order]) -> Vec<Command> {
    let mut plan = Plan::default();
    for order in first_orders(orders) {
        plan.stream(vec![register(order)]);
    }
    for order in orders {
        plan.stream(order_stream(order));
        for payment in &order.payments {
            plan.stream(payment_stream(order, payment));
        }
        plan.stream(shipment_stream(order));
    }
    plan.in_order()
}

/// Where a command stands on the time line: time, kind, and the place of its stream in the files.
type Place = (DateTime<Utc>, Kind, usize);

#[derive(Default)]
struct Plan {
    /// A command's own place, or that of its stream's beginning followed by its own when it precedes that.
    planned: Vec<((Place, Option<Place>), Command)>,
}

impl Plan {
    /// Adds the commands of one stream, its beginning first.
    fn stream(&mut self, commands: Vec<Command>) {
        let mut beginning = None;
        for command in commands {
            let own = (command.occurred_at, command.kind, self.planned.len());
            let beginning = *beginning.get_or_insert(own);
            let place = if own.0 < beginning.0 {
                (beginning, Some(own))
            } else {
                (own, None)
            };
            self.planned.push((place, command));
        }
    }

    fn in_order(mut self) -> Vec<Command> {
        self.planned.sort_by_key(|(place, _)| *place);
        self.planned.into_iter().map(|(_, command)| command).collect()
    }
}

/// The earliest order of each person, in the order of the orders file.
fn first_orders(orders: &[Order]) -> Vec<&Order> {
    let mut first: HashMap<&str, &Order> = HashMap::new();
    for order in orders {
        let known = first.entry(&order.customer.unique_id).or_insert(order);
        if order.purchased < known.purchased {
            *known = order;
        }
    }
    orders
        .iter()
        .filter(|order| {
            first
                .get(order.customer.unique_id.as_str())
                .is_some_and(|it| it.id == order.id)
        })
        .collect()
}

/// The tables know people by a hash only; name and address are made from it, so that they are the same in every run.
fn register(order: &Order) -> Command {
    let customer = &order.customer;
    let id = &customer.unique_id;
    let short: String = id.chars().take(8).collect();
    let mut data = json!({ "email": format!("{id}@customers.example"), "name": format!("Customer {short}") });
    for (field, text) in [("city", &customer.city), ("state", &customer.state)] {
        if !text.is_empty() {
            data[field] = json!(text);
        }
    }
    command(Kind::Register, id, order.purchased, data)
}

fn order_stream(order: &Order) -> Vec<Command> {
    let mut commands = vec![command(Kind::Place, &order.id, order.purchased, placing(order))];
    commands.extend(
        order
            .approved
            .map(|time| command(Kind::Approve, &order.id, time, json!({}))),
    );
    if order.cancelled {
        // The tables do not say when; it cannot have been before the last thing they do say.
        let times = [Some(order.purchased), order.approved, order.dispatched, order.delivered];
        let time = times.into_iter().flatten().max().unwrap_or(order.purchased);
        commands.push(command(
            Kind::Cancel,
            &order.id,
            time,
            json!({ "reason": "canceled in the marketplace" }),
        ));
    }
    commands.extend(order.reviews.iter().map(|review| Command {
        part: Some(review.id.clone()),
        ..command(Kind::Review, &order.id, review.answered, reviewing(review))
    }));
    commands
}

fn placing(order: &Order) -> Value {
    let item = |item: &crate::model::Item| {
        json!({
            "product_id": item.product,
            "seller_id": item.seller,
            "quantity": 1,
            "unit_price": money(item.price),
            "freight": money(item.freight),
        })
    };
    let mut items: Vec<Value> = order.items.iter().map(item).collect();
    if items.is_empty() {
        let paid = order.payments.iter().map(|payment| payment.amount).sum();
        items.push(json!({ "product_id": "unknown", "quantity": 1, "unit_price": money(paid) }));
    }
    json!({ "customer_id": order.customer.unique_id, "currency": CURRENCY, "items": items })
}

fn reviewing(review: &Review) -> Value {
    let mut data = json!({ "review_id": review.id, "score": review.score });
    let comment: Vec<&str> = [review.title.as_str(), &review.message]
        .into_iter()
        .filter(|text| !text.is_empty())
        .collect();
    if !comment.is_empty() {
        data["comment"] = json!(comment.join("\n"));
    }
    data
}

fn payment_stream(order: &Order, payment: &Payment) -> Vec<Command> {
    let id = format!("{}-{}", order.id, payment.sequence);
    let data = json!({
        "order_id": order.id,
        "method": payment.method,
        "amount": money(payment.amount),
        "installments": payment.installments,
    });
    let mut commands = vec![command(Kind::Authorize, &id, order.purchased, data)];
    commands.extend(order.approved.map(|time| command(Kind::Capture, &id, time, json!({}))));
    commands
}

fn shipment_stream(order: &Order) -> Vec<Command> {
    let dispatch = order
        .dispatched
        .map(|time| command(Kind::Dispatch, &order.id, time, json!({ "order_id": order.id })));
    let deliver = order
        .delivered
        .map(|time| command(Kind::Deliver, &order.id, time, json!({})));
    dispatch.into_iter().chain(deliver).collect()
}

fn command(kind: Kind, id: &str, occurred_at: DateTime<Utc>, data: Value) -> Command {
    Command {
        kind,
        id: id.to_owned(),
        occurred_at,
        part: None,
        data,
    }
}

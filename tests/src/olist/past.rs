//! What orders were as of any position, told by the events up to there; and which event set each field of a row. Shares no
//! code with the domain or its views.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::world::Status;
use crate::events::Event;
use crate::http::Client;
use crate::rows;

/// The fields of a row, with their values and the position that last set each.
pub type Blamed = BTreeMap<String, (Value, u64)>;

/// What an order's events up to a position come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PastOrder {
    /// Its status; none if only payments or reviews are known.
    pub status: Option<Status>,
    /// Captured, in minor units.
    pub paid: i64,
    /// Refunded, in minor units.
    pub refunded: i64,
}

/// Orders, told event by event.
#[derive(Debug, Default)]
pub struct PastOrders<'a>(BTreeMap<&'a str, PastOrder>);

impl<'a> PastOrders<'a> {
    /// With one more event.
    pub fn add(&mut self, event: &'a Event) {
        let (id, status) = match event.event_type.as_str() {
            "OrderPlaced" => (event.stream_id(), Some(Status::Placed)),
            "OrderApproved" => (event.stream_id(), Some(Status::Approved)),
            "OrderCancelled" => (event.stream_id(), Some(Status::Cancelled)),
            "ReviewSubmitted" => (event.stream_id(), None),
            "ShipmentDispatched" => (event.stream_id(), Some(Status::Shipped)),
            "ShipmentDelivered" => (event.stream_id(), Some(Status::Delivered)),
            "PaymentCaptured" | "PaymentRefunded" => (event.text("order_id"), None),
            _ => return,
        };
        let order = self.0.entry(id).or_default();
        order.status = order.status.max(status);
        match event.event_type.as_str() {
            "PaymentCaptured" => order.paid += event.amount("amount"),
            "PaymentRefunded" => order.refunded += event.amount("amount"),
            _ => {}
        }
    }

    /// An order, if any event told of it.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&PastOrder> {
        self.0.get(id)
    }
}

/// The orders as of a position, by id: the fold of the events up to it.
#[must_use]
pub fn orders_as_of(events: &[Event], position: u64) -> BTreeMap<&str, PastOrder> {
    let mut orders = PastOrders::default();
    events
        .iter()
        .take_while(|event| event.position <= position)
        .for_each(|event| orders.add(event));
    orders.0
}

/// Compares the view `orders` as of positions with the fold: a few rows, and the whole list of one status, for each.
///
/// # Errors
///
/// When one of them is not what the events say.
pub fn view_is_as_folded(
    query: &Client,
    events: &[Event],
    dice: &mut dyn FnMut(usize) -> usize,
    rounds: usize,
) -> Result<()> {
    let statuses = [
        ("placed", Status::Placed),
        ("approved", Status::Approved),
        ("shipped", Status::Shipped),
        ("delivered", Status::Delivered),
        ("cancelled", Status::Cancelled),
    ];
    for round in 0..rounds {
        let position = dice(events.len()) as u64 + 1;
        let orders = orders_as_of(events, position);
        let (name, status) = statuses[round % statuses.len()];
        let listed = rows::raw(query, "orders", &format!("status={name}&as_of={position}"))?;
        let listed: BTreeSet<&str> = listed.keys().map(String::as_str).collect();
        let expected: BTreeSet<&str> = orders
            .iter()
            .filter(|(_, order)| order.status == Some(status))
            .map(|(id, _)| *id)
            .collect();
        ensure!(
            listed == expected,
            "{} orders are {name} as of {position}, not {}",
            listed.len(),
            expected.len()
        );
        let ids: Vec<&str> = orders.keys().copied().collect();
        for _ in 0..3.min(ids.len()) {
            let id = ids[dice(ids.len())];
            let row = rows::order_row(&query.json(&format!("/v1/views/orders/{id}?as_of={position}"))?)?;
            let found = PastOrder {
                status: row.status,
                paid: row.paid,
                refunded: row.refunded,
            };
            ensure!(
                found == orders[id],
                "order {id} as of {position}: {found:?}, not {:?}",
                orders[id]
            );
        }
    }
    Ok(())
}

/// Which position last set each field, by looking at the row as of every event that may have touched it.
///
/// # Errors
///
/// When a row cannot be read.
pub fn blamed_by_hand(query: &Client, events: &[Event], id: &str) -> Result<Blamed> {
    let mut blame: Blamed = BTreeMap::new();
    let touches = |event: &&Event| event.stream_id() == id || event.text("order_id") == id;
    for event in events.iter().filter(touches) {
        let answer = query.get(&format!("/v1/views/orders/{id}?as_of={}", event.position))?;
        if answer.status == 404 {
            blame.clear();
            continue;
        }
        let mut fields = BTreeMap::new();
        flatten("", &answer.expect(200)?.json()?, &mut fields);
        blame = fields
            .into_iter()
            .map(|(field, value)| {
                let kept = blame
                    .get(&field)
                    .filter(|(before, _)| *before == value)
                    .map(|(_, position)| *position);
                (field, (value, kept.unwrap_or(event.position)))
            })
            .collect();
    }
    Ok(blame)
}

fn flatten(place: &str, value: &Value, fields: &mut BTreeMap<String, Value>) {
    let below = |name: &str| {
        if place.is_empty() {
            name.to_owned()
        } else {
            format!("{place}.{name}")
        }
    };
    match value {
        Value::Object(object) if !object.is_empty() => {
            object
                .iter()
                .for_each(|(name, value)| flatten(&below(name), value, fields));
        }
        Value::Array(items) if !items.is_empty() => {
            let items = items.iter().enumerate();
            items.for_each(|(index, value)| flatten(&format!("{place}[{index}]"), value, fields));
        }
        _ => {
            fields.insert(place.to_owned(), value.clone());
        }
    }
}

/// What `replay view orders --blame --format json` printed, by key and field.
///
/// # Errors
///
/// When a line is not of its form.
pub fn blamed_by_replay(lines: &[Value]) -> Result<BTreeMap<String, Blamed>> {
    let mut rows: BTreeMap<String, Blamed> = BTreeMap::new();
    for line in lines {
        let text = |name: &str| line[name].as_str().with_context(|| format!("no {name}: {line}"));
        ensure!(
            !text("event")?.is_empty() && !text("recordedtime")?.is_empty(),
            "{line}"
        );
        let blamed = (line["value"].clone(), text("position")?.parse()?);
        rows.entry(text("key")?.to_owned())
            .or_default()
            .insert(text("field")?.to_owned(), blamed);
    }
    Ok(rows)
}

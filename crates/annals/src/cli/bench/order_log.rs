//! A log of orders of the reference domain, appended as events without deciding them, so that it is there quickly.
//!
//! Orders come in groups. While one group is placed, the one before is paid, and those before that are shipped and
//! delivered: as in a real log, the events of an order stand far apart, and a part of all orders is open at any time.

use super::domain::orders_backend;
use crate::cli::{note, progress};
use crate::node::Store;
use annals_commerce::{Currency, Item, Money, OrderEvent, PaymentEvent, ShipmentEvent};
use annals_core::{Append, Appender, Event, EventLog, NewEvent, Position, StreamId, Tag};
use annals_projections::{ProjectionSettings, RebuildOptions, ViewDefinition, rebuild_offline};
use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The directory of this log in that of the benchmark.
const DIRECTORY: &str = "orders";
/// The file that says how many groups there are.
const GROUPS: &str = "groups";
/// Rows of the first group, for views that are to be far behind.
const BEHIND: &str = "views-behind";
/// Orders of a group.
const GROUP: u64 = 8_192;
/// Appends that are under way together.
const TOGETHER: usize = 1_024;
/// Groups between an order's placing and its last event.
const LIFE: u64 = 4;

/// An open log of orders.
pub(super) struct OrderLog {
    pub(super) store: Store,
    dir: PathBuf,
}

impl OrderLog {
    /// The log beside that of the benchmark in `dir`, with so many events at least. What is missing is appended. Of
    /// `view` there are rows that have read only the beginning, see [`OrderLog::behind`].
    pub(super) async fn open(dir: &Path, view: &ViewDefinition, events: u64) -> Result<Self> {
        let (dir, backend) = (dir.join(DIRECTORY), orders_backend());
        let store = Store::open(&dir, &backend)?;
        let made = Self { store, dir };
        let log = made.appender();
        if log.head().get() < events {
            note(format_args!("making a log of {events} events of orders"));
        }
        let groups = made.dir.join(GROUPS);
        let mut group = std::fs::read_to_string(&groups)
            .ok()
            .map_or(Ok(0), |text| text.trim().parse::<u64>())
            .with_context(|| format!("{} does not say how many groups there are", groups.display()))?;
        let bar = progress::bar(events, "events");
        while log.head().get() < events {
            append_group(&log, group).await?;
            group += 1;
            std::fs::write(&groups, group.to_string())?;
            bar.set_position(log.head().get().min(events));
            if !made.behind().exists() {
                let settings = ProjectionSettings::new(made.behind(), made.dir.join("reactors"));
                let (catalog, options) = (backend.catalog()?, RebuildOptions::default());
                rebuild_offline(log.as_ref(), &catalog, view, &settings, options, &mut |_| {})?;
            }
        }
        bar.finish_and_clear();
        ensure!(
            made.behind().exists(),
            "{} has no rows of its beginning: remove the directory, it is made anew",
            made.dir.display()
        );
        Ok(made)
    }

    pub(super) fn appender(&self) -> Arc<dyn Appender> {
        Arc::clone(self.store.log()) as Arc<dyn Appender>
    }

    pub(super) fn log(&self) -> Arc<dyn EventLog> {
        Arc::clone(self.store.log()) as Arc<dyn EventLog>
    }

    /// Views that have read the first groups only.
    pub(super) fn behind(&self) -> PathBuf {
        self.dir.join(BEHIND)
    }

    /// A directory for views that is empty.
    pub(super) fn views(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{} cannot be emptied", path.display()))
            }
            _ => Ok(path),
        }
    }

    /// Some orders, spread over the log: the id, and the position before its second event.
    pub(super) fn sample(&self, count: u64) -> Result<Vec<(String, Position)>> {
        let log = self.log();
        let step = (log.head().get() / count.max(1)).max(1);
        let mut sampled = Vec::new();
        for number in 1..count {
            let at = Position::new(number * step);
            for block in log.read(at, 1 << 16)? {
                let found = block.iter().find_map(|record| {
                    let record = record.ok()?;
                    let header = &record.header;
                    (header.event_type == "OrderApproved")
                        .then(|| (header.stream_id().to_owned(), record.position.previous()))
                });
                if let Some(found) = found {
                    sampled.push(found);
                    break;
                }
            }
        }
        sampled.dedup();
        ensure!(!sampled.is_empty(), "the log has no approved orders");
        Ok(sampled)
    }

    pub(super) fn close(self) {
        self.store.close();
    }
}

/// Places the orders of a group, and goes on with those of the groups before it.
async fn append_group(log: &Arc<dyn Appender>, group: u64) -> Result<()> {
    let mut appends = Vec::new();
    for age in 0..=LIFE {
        let Some(of) = group.checked_sub(age) else { break };
        for number in of * GROUP..(of + 1) * GROUP {
            appends.extend(Life(number).at(age)?);
        }
        // What follows in an order's life must not come before what went before it.
        while !appends.is_empty() {
            let some: Vec<Append> = appends.drain(..appends.len().min(TOGETHER)).collect();
            try_join_all(some.into_iter().map(|append| log.append(append))).await?;
        }
    }
    Ok(())
}

/// The order of a number, and what becomes of it.
struct Life(u64);

impl Life {
    /// A number below `bound` for this order, another one for each `what`.
    fn draw(&self, what: u64, bound: u64) -> u64 {
        let mut mixed = (self.0 ^ (what << 40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 29)) % bound
    }

    fn order(&self) -> String {
        format!("ord-{:08x}", self.draw(1, 1 << 32))
    }

    /// What is appended in a group that comes so many after its own.
    fn at(&self, age: u64) -> Result<Vec<Append>> {
        let order = self.order();
        let (payment, shipment) = (format!("pay-{order}"), format!("shp-{order}"));
        let cancelled = self.draw(2, 100) < 3;
        Ok(match age {
            0 => vec![
                append("orders", &order, [self.placed()?])?,
                append("payments", &payment, [self.authorized()?])?,
            ],
            1 => vec![
                append("payments", &payment, [self.captured()?])?,
                append("orders", &order, [OrderEvent::OrderApproved])?,
            ],
            2 if cancelled => {
                let reason = "changed their mind".to_owned();
                vec![append("orders", &order, [OrderEvent::OrderCancelled { reason }])?]
            }
            2 => {
                let (order_id, carrier) = (order, Some("carrier-1".to_owned()));
                let dispatched = ShipmentEvent::ShipmentDispatched { order_id, carrier };
                vec![append("shipments", &shipment, [dispatched])?]
            }
            3 if !cancelled => {
                let delivered = ShipmentEvent::ShipmentDelivered { order_id: order };
                vec![append("shipments", &shipment, [delivered])?]
            }
            4 if !cancelled && self.draw(3, 100) < 40 => {
                let reviewed = OrderEvent::ReviewSubmitted {
                    review_id: format!("rev-{order}"),
                    score: 1 + self.draw(4, 5) as i64,
                    comment: None,
                };
                vec![append("orders", &order, [reviewed])?]
            }
            _ => Vec::new(),
        })
    }

    fn total(&self) -> Result<Money> {
        let currency: Currency = "BRL".parse().map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(Money::new(1_000 + self.draw(5, 50_000) as i64, currency))
    }

    fn placed(&self) -> Result<OrderEvent> {
        let total = self.total()?;
        let items = 1 + self.draw(6, 2);
        let item = |number: u64| Item {
            product_id: format!("prod-{}", self.draw(7 + number, 4_000)),
            seller_id: Some(format!("seller-{}", self.draw(17 + number, 300))),
            quantity: 1 + self.draw(27 + number, 3) as i64,
            unit_price: Money::new(total.amount / items as i64, total.currency),
            freight: Some(Money::new(900, total.currency)),
        };
        Ok(OrderEvent::OrderPlaced {
            customer_id: format!("user-{}", self.draw(8, self.0 / 3 + 1)),
            total,
            items: (0..items).map(item).collect(),
        })
    }

    fn authorized(&self) -> Result<PaymentEvent> {
        Ok(PaymentEvent::PaymentAuthorized {
            order_id: self.order(),
            method: "credit_card".to_owned(),
            amount: self.total()?,
            installments: Some(1 + self.draw(9, 10) as u32),
        })
    }

    fn captured(&self) -> Result<PaymentEvent> {
        Ok(PaymentEvent::PaymentCaptured {
            order_id: self.order(),
            method: "credit_card".to_owned(),
            amount: self.total()?,
        })
    }
}

fn append<E: Event>(category: &str, id: &str, events: impl IntoIterator<Item = E>) -> Result<Append> {
    let events = events.into_iter().map(|event| new_event(&event));
    let events = events.collect::<Result<_>>()?;
    Ok(Append::new(StreamId::new(category, id)?, events))
}

fn new_event<E: Event>(event: &E) -> Result<NewEvent> {
    let known = event.event_type();
    let mut new = NewEvent::new(known.name, event.encode()?);
    new.schema_version = known.version;
    for tag in event.tags() {
        // None of these events has a personal field.
        new.tags.push(tag.to_tag(|key, value| Tag::new(key, value))?);
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_order_is_another_one_and_always_the_same() {
        let ids: HashSet<String> = (0..2 * GROUP).map(|number| Life(number).order()).collect();
        assert!(ids.len() as u64 > 2 * GROUP - 4, "{}", ids.len());
        for age in 0..=LIFE {
            assert_eq!(Life(7).at(age).unwrap(), Life(7).at(age).unwrap());
        }
        let events: usize = (0..GROUP)
            .flat_map(|number| (0..=LIFE).map(move |age| Life(number).at(age).unwrap().len()))
            .sum();
        assert!((5 * GROUP..7 * GROUP).contains(&(events as u64)), "{events}");
    }
}

//! The real record through the domain: every command of the Olist sample, decided one after the other in memory, with
//! the fulfilment process beside it. What comes of it are the figures that the contract gives.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a record that does not fit fails the test"
)]

#[path = "../../examples/olist/amount.rs"]
mod amount;
#[path = "../../examples/olist/command.rs"]
#[expect(dead_code, reason = "the example writes idempotency keys, this test needs none")]
mod command;
#[path = "../../examples/olist/model.rs"]
mod model;
#[path = "../../examples/olist/plan.rs"]
mod plan;
#[path = "../../examples/olist/table.rs"]
mod table;

mod world;

use annals_commerce::{
    Currency, Customers, OrderStatus, Orders, Payments, PaymentsByMethod, Products, SalesByDay, Tally,
};
use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use world::{World, rows};

/// The sample, or nothing when it is not there; where tests are run for all, it has to be.
fn sample() -> Option<PathBuf> {
    let root = env::var_os("ANNALS_TEST_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let directory = root.join("olist-sample");
    if directory.is_dir() {
        return Some(directory);
    }
    assert!(
        env::var_os("CI").is_none(),
        "no real data at {}: set ANNALS_TEST_DATA",
        directory.display()
    );
    None
}

/// The sample with the process keeping up with every command.
fn world() -> Option<&'static World> {
    static WORLD: OnceLock<Option<World>> = OnceLock::new();
    WORLD
        .get_or_init(|| sample().map(|directory| World::load(&directory, 1)))
        .as_ref()
}

fn brl() -> Currency {
    "BRL".parse().unwrap()
}

#[test]
fn every_command_is_accepted_and_every_event_is_there() {
    let Some(world) = world() else { return };
    let expected = [
        ("OrderApproved", 7_989),
        ("OrderCancelled", 625),
        ("OrderPlaced", 8_135),
        ("PaymentAuthorized", 8_924),
        ("PaymentCaptured", 8_763),
        ("PaymentRefunded", 508),
        ("ReviewSubmitted", 8_225),
        ("ShipmentDelivered", 5_170),
        ("ShipmentDispatched", 6_353),
        ("UserRegistered", 8_016),
    ];
    assert_eq!(world.counts(), expected.into_iter().collect::<BTreeMap<_, _>>());
}

#[test]
fn a_process_that_lags_far_behind_comes_to_the_same() {
    let Some(directory) = sample() else { return };
    let counts = World::load(&directory, 20_000).counts();
    assert_eq!(counts, world().map(World::counts).unwrap_or_default());
}

#[test]
fn orders_end_as_the_contract_says() {
    let Some(world) = world() else { return };
    let orders = rows(&Orders, world);
    let mut statuses: BTreeMap<OrderStatus, u64> = BTreeMap::new();
    for order in orders.values() {
        *statuses.entry(order.status.unwrap()).or_default() += 1;
    }
    let expected = [
        (OrderStatus::Placed, 5),
        (OrderStatus::Approved, 1_227),
        (OrderStatus::Shipped, 1_114),
        (OrderStatus::Delivered, 5_164),
        (OrderStatus::Cancelled, 625),
    ];
    assert_eq!(statuses, expected.into());
    let sum = |of: fn(&annals_commerce::OrderRow) -> i64| orders.values().map(of).sum::<i64>();
    assert_eq!(sum(|order| order.paid.unwrap().amount), 139_342_764);
    assert_eq!(sum(|order| order.refunded.unwrap().amount), 10_876_853);
    assert_eq!(sum(|order| order.reviews as i64), 8_225);
}

#[test]
fn payments_sum_up_as_the_contract_says() {
    let Some(world) = world() else { return };
    assert_eq!(rows(&Payments, world).len(), 8_924);
    let methods = rows(&PaymentsByMethod, world);
    assert_eq!(methods.len(), 5, "{:?}", methods.keys());
    let all = |of: fn(&annals_commerce::MethodRow) -> &Tally| {
        let tallies = methods.values().map(of);
        tallies.fold((0, 0), |(count, sum), tally| {
            (count + tally.count, sum + tally.sum.of(brl()))
        })
    };
    assert_eq!(all(|row| &row.authorized), (8_924, 142_860_281));
    assert_eq!(all(|row| &row.captured), (8_763, 139_342_764));
    assert_eq!(all(|row| &row.refunded), (508, 10_876_853));
}

#[test]
fn customers_days_and_products_agree_on_what_was_ordered() {
    let Some(world) = world() else { return };
    let customers = rows(&Customers, world);
    assert_eq!(customers.len(), 8_016);
    let ordered: i64 = customers.values().map(|row| row.ordered.of(brl())).sum();
    let days = rows(&SalesByDay, world);
    assert_eq!(days.values().map(|row| row.orders).sum::<u64>(), 8_135);
    assert_eq!(days.values().map(|row| row.revenue.of(brl())).sum::<i64>(), ordered);
    let products = rows(&Products, world);
    let sold: i64 = products
        .values()
        .map(|row| row.revenue.of(brl()) + row.freight.of(brl()))
        .sum();
    assert_eq!(sold, ordered);
    assert_eq!(
        products.values().map(|row| row.units).sum::<u64>(),
        days.values().map(|row| row.items).sum::<u64>()
    );
}

//! The fold against the figures that the contract gives for the sample, and against cases small enough to do by hand.

use chrono::{DateTime, Duration, Utc};

use super::{History, Item, Olist, Payment, Status, UNKNOWN_PRODUCT, World};

fn day(number: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + Duration::days(number)
}

/// Placed on day 10, approved on 11, and nothing else: one unit, one payment.
fn history() -> History {
    History {
        id: "order".to_owned(),
        user: "user".to_owned(),
        cancelled: false,
        purchased: day(10),
        approved: Some(day(11)),
        dispatched: None,
        delivered: None,
        items: vec![Item {
            product: "product".to_owned(),
            price: 900,
            freight: 100,
        }],
        payments: vec![Payment {
            sequence: 1,
            method: "boleto".to_owned(),
            installments: 1,
            amount: 1000,
        }],
        reviews: Vec::new(),
    }
}

fn at(history: History, cutoff: i64) -> World {
    Olist { orders: vec![history] }.at(Some(day(cutoff)))
}

fn final_count(world: &World, status: Status) -> usize {
    world
        .orders
        .values()
        .filter(|order| order.status == Some(status))
        .count()
}

#[test]
fn events_count_as_the_contract_says() {
    let totals = Olist::sample().unwrap().at(None).totals();
    assert_eq!(totals.users_registered, 8_016);
    assert_eq!(totals.orders_placed, 8_135);
    assert_eq!(
        (totals.payments_authorized.count, totals.payments_authorized.sum),
        (8_924, 142_860_281)
    );
    assert_eq!(
        (totals.payments_captured.count, totals.payments_captured.sum),
        (8_763, 139_342_764)
    );
    assert_eq!(
        (totals.payments_refunded.count, totals.payments_refunded.sum),
        (508, 10_876_853)
    );
    assert_eq!(totals.orders_approved, 7_989);
    assert_eq!(
        (totals.shipments_dispatched, totals.shipments_delivered),
        (6_353, 5_170)
    );
    assert_eq!(totals.orders_cancelled, 625);
    assert_eq!(totals.reviews_submitted, 8_225);
    assert_eq!(totals.events(), 62_200 + 508);
}

#[test]
fn orders_end_as_the_contract_says() {
    let world = Olist::sample().unwrap().at(None);
    assert_eq!(world.orders.len(), 8_135);
    assert_eq!(final_count(&world, Status::Delivered), 5_164);
    assert_eq!(final_count(&world, Status::Approved), 1_227);
    assert_eq!(final_count(&world, Status::Shipped), 1_114);
    assert_eq!(final_count(&world, Status::Cancelled), 625);
    assert_eq!(final_count(&world, Status::Placed), 5);
    assert_eq!(world.products[UNKNOWN_PRODUCT].units, 775);
}

#[test]
fn the_dirt_is_there() {
    let orders = Olist::sample().unwrap().orders;
    let count = |is: fn(&History) -> usize| orders.iter().map(is).sum::<usize>();
    assert_eq!(
        count(|it| it.reviews.iter().filter(|moment| **moment < it.purchased).count()),
        58
    );
    assert_eq!(
        count(|it| usize::from(it.delivered.is_some() && it.delivered < it.dispatched)),
        3
    );
    assert_eq!(
        count(|it| usize::from(it.dispatched.is_some_and(|moment| moment < it.purchased))),
        3
    );
    assert_eq!(count(|it| usize::from(it.cancelled && it.delivered.is_some())), 6);
    // What nothing needs to cope with, as long as this holds.
    assert_eq!(
        count(|it| usize::from(it.approved.is_some_and(|moment| moment < it.purchased))),
        0
    );
    assert_eq!(
        count(|it| usize::from(it.delivered.is_some() && it.dispatched.is_none())),
        0
    );
    assert_eq!(count(|it| usize::from(it.payments.is_empty())), 0);
}

#[test]
fn the_tables_of_one_world_agree() {
    let olist = Olist::sample().unwrap();
    let moments: Vec<_> = olist.moments().into_iter().collect();
    for moment in moments.iter().step_by(moments.len() / 10) {
        let world = olist.at(Some(*moment));
        let placed: Vec<_> = world.orders.values().filter(|order| order.placed.is_some()).collect();
        let total: i64 = placed.iter().map(|order| order.total).sum();
        assert_eq!(world.days.values().map(|row| row.revenue).sum::<i64>(), total);
        assert_eq!(world.products.values().map(|row| row.revenue).sum::<i64>(), total);
        assert_eq!(world.customers.values().map(|row| row.ordered).sum::<i64>(), total);
        let units: u64 = placed.iter().map(|order| order.items).sum();
        assert_eq!(world.days.values().map(|row| row.items).sum::<u64>(), units);
        assert_eq!(world.products.values().map(|row| row.units).sum::<u64>(), units);
        let totals = world.totals();
        assert_eq!(
            world.orders.values().map(|order| order.paid).sum::<i64>(),
            totals.payments_captured.sum
        );
        assert_eq!(
            world.orders.values().map(|order| order.refunded).sum::<i64>(),
            totals.payments_refunded.sum
        );
        assert_eq!(world.payments.len() as u64, totals.payments_authorized.count);
    }
}

#[test]
fn a_cut_off_includes_its_own_instant_and_none_includes_all() {
    let olist = Olist::sample().unwrap();
    let moments = olist.moments();
    let (first, last) = (*moments.first().unwrap(), *moments.last().unwrap());
    assert_eq!(olist.at(Some(first - Duration::microseconds(1))), World::default());
    assert_ne!(olist.at(Some(first)), World::default());
    assert_eq!(olist.at(Some(last)), olist.at(None));
    assert_ne!(olist.at(Some(last - Duration::microseconds(1))), olist.at(None));
}

#[test]
fn an_order_is_worth_its_prices_and_freight() {
    let world = at(history(), 10);
    let order = &world.orders["order"];
    assert_eq!(
        (order.status, order.total, order.paid, order.items),
        (Some(Status::Placed), 1000, 0, 1)
    );
    assert_eq!(world.customers["user"].ordered, 1000);
    assert_eq!(
        (world.products["product"].revenue, world.products["product"].freight),
        (1000, 100)
    );
    assert_eq!(at(history(), 11).orders["order"].paid, 1000);
}

#[test]
fn an_order_without_items_is_worth_its_payments() {
    let world = at(
        History {
            items: Vec::new(),
            ..history()
        },
        10,
    );
    assert_eq!((world.orders["order"].total, world.orders["order"].items), (1000, 1));
    assert_eq!(world.products[UNKNOWN_PRODUCT].revenue, 1000);
}

#[test]
fn a_row_may_begin_with_the_dispatch_or_a_review() {
    let world = at(
        History {
            dispatched: Some(day(8)),
            reviews: vec![day(7)],
            ..history()
        },
        8,
    );
    let order = &world.orders["order"];
    assert_eq!((order.status, order.reviews), (Some(Status::Shipped), 1));
    assert_eq!((order.placed, order.total, &order.customer), (None, 0, &None));
    assert!(world.customers.is_empty() && world.payments.is_empty() && world.days.is_empty());

    let world = at(
        History {
            reviews: vec![day(7)],
            ..history()
        },
        8,
    );
    assert_eq!(world.orders["order"].status, None);
}

#[test]
fn a_cancellation_is_dated_by_what_came_last_and_refunds_what_was_captured() {
    let cancelled = || History {
        cancelled: true,
        dispatched: Some(day(12)),
        ..history()
    };
    let before = &at(cancelled(), 11).orders["order"];
    assert_eq!(
        (before.status, before.paid, before.refunded),
        (Some(Status::Approved), 1000, 0)
    );
    let after = at(cancelled(), 12);
    assert_eq!(after.orders["order"].status, Some(Status::Cancelled));
    assert_eq!(
        (after.orders["order"].paid, after.orders["order"].refunded),
        (1000, 1000)
    );
    assert_eq!(after.payments["order-1"].refunded, Some(day(12)));
    assert_eq!(after.methods["boleto"].refunded.count, 1);

    let unpaid = at(
        History {
            approved: None,
            ..cancelled()
        },
        12,
    );
    assert_eq!((unpaid.orders["order"].paid, unpaid.orders["order"].refunded), (0, 0));
}

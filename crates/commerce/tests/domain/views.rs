//! The views.

use crate::samples::*;
use annals_commerce::{
    CustomerRow, Customers, MethodRow, OnlineUsers, OnlineUsersRow, OrderEvent, OrderRow, OrderStatus, Orders,
    PaymentEvent, PaymentRow, PaymentStatus, Payments, PaymentsByMethod, PerCurrency, ProductRow, Products, SalesByDay,
    SalesDayRow, ShipmentEvent, Tally, UserEvent,
};
use annals_core::{IndexValue, Row};
use annals_testkit::{Happened, on, view};
use chrono::{DateTime, Utc};

fn order(event: OrderEvent, time: &str) -> Happened {
    on("orders/ord-1", event).at(time)
}

fn payment(event: PaymentEvent, time: &str) -> Happened {
    on("payments/pay-1", event).at(time)
}

fn shipment(event: ShipmentEvent, time: &str) -> Happened {
    on("shipments/ord-1", event).at(time)
}

fn user(id: &str, event: UserEvent) -> Happened {
    on(&format!("users/{id}"), event).at(NOON)
}

fn at(time: &str) -> Option<DateTime<Utc>> {
    Some(time.parse().unwrap())
}

fn sum(amount: i64) -> PerCurrency {
    [brl(amount)].into_iter().collect()
}

const NOON: &str = "2017-10-02T12:00:00Z";
const LATER: &str = "2017-10-03T12:00:00Z";
const LAST: &str = "2017-10-04T12:00:00Z";

fn placed_row() -> OrderRow {
    OrderRow {
        status: Some(OrderStatus::Placed),
        customer: Some("user-1".into()),
        total: Some(brl(1_000)),
        paid: Some(brl(0)),
        refunded: Some(brl(0)),
        items: 2,
        placed_on: Some("2017-10-02".parse().unwrap()),
        placed_at: at(NOON),
        ..OrderRow::default()
    }
}

#[test]
fn an_order_goes_from_placing_to_delivery() {
    view(Orders)
        .given([order(placed(), NOON)])
        .row("ord-1")
        .is(placed_row())
        .given([
            payment(authorized(brl(1_000)), NOON),
            payment(captured(brl(1_000)), LATER),
            order(OrderEvent::OrderApproved, LATER),
            shipment(dispatched(), LATER),
            shipment(delivered(), LAST),
            order(reviewed("rev-1", 5), LAST),
        ])
        .row("ord-1")
        .is(OrderRow {
            status: Some(OrderStatus::Delivered),
            paid: Some(brl(1_000)),
            reviews: 1,
            approved_at: at(LATER),
            dispatched_at: at(LATER),
            delivered_at: at(LAST),
            ..placed_row()
        });
}

#[test]
fn an_order_is_found_by_status_customer_and_day() {
    let index = |name: &str| OrderRow::INDEXES.iter().position(|(known, _)| *known == name).unwrap();
    let values = placed_row().index_values();
    for (name, value) in [
        ("status", "placed"),
        ("customer", "user-1"),
        ("placed_on", "2017-10-02"),
    ] {
        assert_eq!(values[index(name)], Some(IndexValue::Text(value.into())));
    }
}

#[test]
fn the_status_is_the_furthest_reached_in_whatever_order() {
    view(Orders)
        .given([
            shipment(delivered(), LATER),
            order(OrderEvent::OrderApproved, LAST),
            shipment(dispatched(), LAST),
            order(placed(), NOON),
        ])
        .row("ord-1")
        .is(OrderRow {
            status: Some(OrderStatus::Delivered),
            approved_at: at(LAST),
            dispatched_at: at(LAST),
            delivered_at: at(LATER),
            ..placed_row()
        });
}

#[test]
fn cancelled_wins_over_all() {
    view(Orders)
        .given([
            order(placed(), NOON),
            order(cancelled(), LATER),
            shipment(delivered(), LAST),
        ])
        .row("ord-1")
        .is(OrderRow {
            status: Some(OrderStatus::Cancelled),
            cancelled_at: at(LATER),
            delivered_at: at(LAST),
            ..placed_row()
        });
}

#[test]
fn an_order_may_begin_with_any_of_its_events() {
    view(Orders)
        .given([shipment(dispatched(), NOON)])
        .row("ord-1")
        .is(OrderRow {
            status: Some(OrderStatus::Shipped),
            dispatched_at: at(NOON),
            ..OrderRow::default()
        });
    view(Orders)
        .given([order(reviewed("rev-1", 1), NOON), payment(captured(brl(5)), NOON)])
        .row("ord-1")
        .is(OrderRow {
            paid: Some(brl(5)),
            refunded: Some(brl(0)),
            reviews: 1,
            ..OrderRow::default()
        });
    view(Orders)
        .given([payment(authorized(brl(5)), NOON)])
        .row("ord-1")
        .is_missing();
}

#[test]
fn paid_and_refunded_are_in_the_currency_of_the_first_capture() {
    view(Orders)
        .given([
            order(placed(), NOON),
            payment(captured(usd(300)), NOON),
            payment(captured(brl(5)), NOON),
            payment(refunded(brl(5)), NOON),
            payment(refunded(usd(100)), NOON),
        ])
        .row("ord-1")
        .is(OrderRow {
            paid: Some(usd(300)),
            refunded: Some(usd(100)),
            ..placed_row()
        });
}

#[test]
fn sums_stay_within_the_range() {
    view(Orders)
        .given([
            payment(captured(brl(i64::MAX)), NOON),
            payment(captured(brl(1)), NOON),
            payment(refunded(brl(i64::MAX)), NOON),
            payment(refunded(brl(i64::MAX)), NOON),
        ])
        .row("ord-1")
        .is(OrderRow {
            paid: Some(brl(i64::MAX)),
            refunded: Some(brl(i64::MAX)),
            ..OrderRow::default()
        });
}

#[test]
fn a_payment_shows_what_became_of_it() {
    let row = PaymentRow {
        order: "ord-1".into(),
        method: "credit_card".into(),
        installments: Some(3),
        authorized: Some(brl(1_000)),
        authorized_at: at(NOON),
        ..PaymentRow::default()
    };
    let captured_row = PaymentRow {
        status: PaymentStatus::Captured,
        captured: Some(brl(1_000)),
        captured_at: at(LATER),
        ..row.clone()
    };
    view(Payments)
        .given([payment(authorized(brl(1_000)), NOON)])
        .row("pay-1")
        .is(row.clone())
        .given([payment(captured(brl(1_000)), LATER)])
        .row("pay-1")
        .is(captured_row.clone())
        .given([payment(refunded(brl(400)), LAST)])
        .row("pay-1")
        .is(PaymentRow {
            refunded: Some(brl(400)),
            refunded_at: at(LAST),
            ..captured_row.clone()
        })
        .given([payment(refunded(brl(600)), LAST)])
        .row("pay-1")
        .is(PaymentRow {
            status: PaymentStatus::Refunded,
            refunded: Some(brl(1_000)),
            refunded_at: at(LAST),
            ..captured_row
        });
    view(Payments)
        .given([
            payment(authorized(brl(1_000)), NOON),
            payment(failed(brl(1_000)), LATER),
        ])
        .row("pay-1")
        .is(PaymentRow {
            status: PaymentStatus::Failed,
            failed_at: at(LATER),
            ..row
        });
}

#[test]
fn methods_are_counted_and_summed() {
    let tally = |count, amount| Tally {
        count,
        sum: sum(amount),
    };
    view(PaymentsByMethod)
        .given([
            payment(authorized(brl(1_000)), NOON),
            on("payments/pay-2", authorized(brl(0))),
            payment(captured(brl(1_000)), NOON),
            payment(refunded(brl(1)), NOON),
            payment(refunded(brl(2)), NOON),
            on("payments/pay-2", failed(brl(0))),
        ])
        .row("credit_card")
        .is(MethodRow {
            authorized: tally(2, 1_000),
            captured: tally(1, 1_000),
            refunded: tally(2, 3),
        });
}

#[test]
fn customers_have_a_name_orders_and_what_they_ordered() {
    let online = CustomerRow {
        name: Some("Ann".to_owned().into()),
        online: true,
        registered_at: at(NOON),
        orders: 1,
        ordered: sum(1_000),
        ..CustomerRow::default()
    };
    view(Customers)
        .given([
            order(placed(), NOON),
            user("user-1", registered()),
            user("user-1", UserEvent::UserSignedIn { already_online: false }),
        ])
        .row("user-1")
        .is(online.clone())
        .given([user("user-1", UserEvent::UserDeactivated { was_online: true })])
        .row("user-1")
        .is(CustomerRow {
            online: false,
            deactivated: true,
            ..online
        });
}

#[test]
fn days_are_utc_days_of_placing() {
    let placed_at = |id: &str, time: &str| on(&format!("orders/{id}"), placed()).at(time);
    let row = |orders| SalesDayRow {
        orders,
        items: 2 * orders,
        revenue: sum(1_000 * orders as i64),
    };
    view(SalesByDay)
        .given([
            placed_at("ord-1", "2017-10-02T23:59:59.999999Z"),
            placed_at("ord-2", "2017-10-02T21:00:00-03:00"),
            placed_at("ord-3", "2017-10-03T12:00:00Z"),
        ])
        .row("2017-10-02")
        .is(row(1))
        .row("2017-10-03")
        .is(row(2));
}

#[test]
fn products_count_units_and_keep_freight_apart() {
    let mut basket = items();
    basket.extend([item("prod-1", 1, 50), item("prod-2", 3, 7)]);
    let placed = OrderEvent::OrderPlaced {
        customer_id: "user-1".into(),
        total: brl(1_071),
        items: basket,
    };
    view(Products)
        .given([placed])
        .row("prod-1")
        .is(ProductRow {
            units: 3,
            revenue: sum(950),
            freight: sum(100),
        })
        .row("prod-2")
        .is(ProductRow {
            units: 3,
            revenue: sum(21),
            freight: PerCurrency::default(),
        });
}

#[test]
fn users_who_are_online_are_counted_once_each() {
    let signed_in = |already_online| UserEvent::UserSignedIn { already_online };
    let online = |online| OnlineUsersRow { online };
    view(OnlineUsers)
        .given([user("a", registered()), user("b", registered())])
        .row("all")
        .is(online(0))
        .given([
            user("a", signed_in(false)),
            user("a", signed_in(true)),
            user("b", signed_in(false)),
        ])
        .row("all")
        .is(online(2))
        .given([
            user("a", UserEvent::UserSignedOut),
            user("a", UserEvent::UserDeactivated { was_online: false }),
        ])
        .row("all")
        .is(online(1))
        .given([user("b", UserEvent::UserDeactivated { was_online: true })])
        .row("all")
        .is(online(0));
}

#[test]
fn rows_read_as_the_contract_writes_money() {
    let json = serde_json::to_value(placed_row()).unwrap();
    assert_eq!(json["total"], serde_json::json!({"amount": 1_000, "currency": "BRL"}));
    assert_eq!(json["status"], "placed");
    assert_eq!(json["placed_at"], "2017-10-02T12:00:00Z");
    let tally = Tally { count: 1, sum: sum(5) };
    assert_eq!(
        serde_json::to_value(tally).unwrap(),
        serde_json::json!({"count": 1, "sum": {"BRL": 5}})
    );
}

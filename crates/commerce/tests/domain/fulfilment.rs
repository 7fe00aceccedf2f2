//! The fulfilment process.

use crate::samples::*;
use annals_commerce::{Fulfilment, Order, OrderCommand, OrderEvent, Payment, PaymentCommand};
use annals_core::CommandCall;
use annals_testkit::{Happened, on, reactor, to};
use std::time::Duration;

fn order(event: OrderEvent) -> Happened {
    on("orders/ord-1", event)
}

fn pay_1(event: annals_commerce::PaymentEvent) -> Happened {
    on("payments/pay-1", event)
}

fn pay_2(event: annals_commerce::PaymentEvent) -> Happened {
    on("payments/pay-2", event)
}

fn shipment(event: annals_commerce::ShipmentEvent) -> Happened {
    on("shipments/ord-1", event)
}

fn approve() -> CommandCall {
    to::<Order>("ord-1", &OrderCommand::Approve)
}

fn cancel_lost() -> CommandCall {
    let command = OrderCommand::Cancel {
        reason: "shipment failed: lost".into(),
    };
    to::<Order>("ord-1", &command)
}

fn refund(payment: &str) -> CommandCall {
    let command = PaymentCommand::Refund {
        amount: None,
        reason: "order cancelled".into(),
    };
    to::<Payment>(payment, &command)
}

#[test]
fn an_order_is_approved_when_its_payments_are_captured_and_cover_it() {
    reactor(Fulfilment)
        .given([
            order(placed()),
            pay_1(authorized(brl(600))),
            pay_2(authorized(brl(400))),
        ])
        .when(pay_1(captured(brl(600))))
        .then_nothing()
        .when(pay_2(captured(brl(400))))
        .then([approve()]);
}

#[test]
fn an_order_is_not_approved_while_money_is_missing() {
    reactor(Fulfilment)
        .given([order(placed()), pay_1(authorized(brl(999)))])
        .when(pay_1(captured(brl(999))))
        .then_nothing();
    reactor(Fulfilment)
        .given([order(placed()), pay_1(authorized(usd(1_000)))])
        .when(pay_1(captured(usd(1_000))))
        .then_nothing();
}

#[test]
fn a_payment_that_is_still_open_holds_the_approval_back_until_it_fails() {
    reactor(Fulfilment)
        .given([
            order(placed()),
            pay_1(authorized(brl(1_000))),
            pay_2(authorized(brl(5))),
        ])
        .when(pay_1(captured(brl(1_000))))
        .then_nothing()
        .when(pay_2(failed(brl(5))))
        .then([approve()]);
}

#[test]
fn an_order_whose_only_payment_failed_is_not_approved_whatever_it_costs() {
    let free = OrderEvent::OrderPlaced {
        customer_id: "user-1".into(),
        total: brl(0),
        items: vec![item("gift", 1, 0)],
    };
    reactor(Fulfilment)
        .given([order(free.clone()), pay_1(authorized(brl(0)))])
        .when(pay_1(failed(brl(0))))
        .then_nothing();
    reactor(Fulfilment)
        .given([order(free), pay_1(authorized(brl(0)))])
        .when(pay_1(captured(brl(0))))
        .then([approve()]);
}

#[test]
fn an_order_that_was_paid_before_it_was_placed_is_approved_when_it_is() {
    reactor(Fulfilment)
        .given([pay_1(authorized(brl(1_000))), pay_1(captured(brl(1_000)))])
        .when(order(placed()))
        .then([approve()]);
}

#[test]
fn what_was_refunded_covers_nothing() {
    reactor(Fulfilment)
        .given([
            order(placed()),
            pay_1(authorized(brl(600))),
            pay_2(authorized(brl(400))),
            pay_1(captured(brl(600))),
            pay_1(refunded(brl(600))),
        ])
        .when(pay_2(captured(brl(400))))
        .then_nothing();
}

#[test]
fn an_order_that_is_approved_or_cancelled_is_not_approved() {
    for event in [OrderEvent::OrderApproved, cancelled()] {
        reactor(Fulfilment)
            .given([order(placed()), pay_1(authorized(brl(0))), order(event)])
            .when(pay_1(captured(brl(0))))
            .then_nothing();
    }
}

#[test]
fn an_order_whose_shipment_failed_is_cancelled() {
    reactor(Fulfilment)
        .given([
            order(placed()),
            order(OrderEvent::OrderApproved),
            shipment(dispatched()),
        ])
        .when(shipment(lost()))
        .then([cancel_lost()]);
    reactor(Fulfilment)
        .given([order(placed()), shipment(dispatched()), order(cancelled())])
        .when(shipment(lost()))
        .then_nothing();
}

#[test]
fn a_shipment_that_failed_before_its_order_was_placed_cancels_it_then() {
    reactor(Fulfilment)
        .given([shipment(dispatched())])
        .when(shipment(lost()))
        .then_nothing()
        .when(order(placed()))
        .then([cancel_lost()]);
}

#[test]
fn the_longest_reason_of_a_shipment_still_makes_a_reason_of_an_order() {
    let lost = annals_commerce::ShipmentEvent::ShipmentFailed {
        order_id: "ord-1".into(),
        reason: "é".repeat(5_000),
    };
    let reason = format!("shipment failed: {}", "é".repeat(5_000 - "shipment failed: ".len()));
    reactor(Fulfilment)
        .given([order(placed())])
        .when(shipment(lost))
        .then([to::<Order>("ord-1", &OrderCommand::Cancel { reason })]);
}

#[test]
fn every_captured_payment_of_a_cancelled_order_is_refunded() {
    reactor(Fulfilment)
        .given([
            order(placed()),
            pay_1(authorized(brl(600))),
            pay_2(authorized(brl(300))),
            on("payments/pay-3", authorized(brl(0))),
            on("payments/pay-4", authorized(brl(100))),
            pay_1(captured(brl(600))),
            pay_2(captured(brl(300))),
            on("payments/pay-3", captured(brl(0))),
        ])
        .when(order(cancelled()))
        .then([refund("pay-1"), refund("pay-2")]);
}

#[test]
fn only_what_is_not_refunded_yet_is_refunded() {
    reactor(Fulfilment)
        .given([
            order(placed()),
            pay_1(authorized(brl(600))),
            pay_2(authorized(brl(400))),
            pay_1(captured(brl(600))),
            pay_2(captured(brl(400))),
            pay_1(refunded(brl(600))),
            pay_2(refunded(brl(1))),
        ])
        .when(order(cancelled()))
        .then([refund("pay-2")]);
}

#[test]
fn a_capture_after_the_cancellation_is_refunded() {
    reactor(Fulfilment)
        .given([order(placed()), pay_1(authorized(brl(1_000))), order(cancelled())])
        .when(pay_1(captured(brl(1_000))))
        .then([refund("pay-1")]);
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn cancel_unpaid() -> CommandCall {
    let command = OrderCommand::Cancel {
        reason: "not paid within 7 days".into(),
    };
    to::<Order>("ord-1", &command)
}

#[test]
fn an_order_that_is_not_paid_within_a_week_is_cancelled() {
    reactor(Fulfilment)
        .given([order(placed()), pay_1(authorized(brl(1_000)))])
        .timers("ord-1", [(7 * DAY, cancel_unpaid())])
        .when_time_passes(6 * DAY)
        .then_nothing()
        .when_time_passes(DAY)
        .then([cancel_unpaid()])
        .when_time_passes(30 * DAY)
        .then_nothing();
}

#[test]
fn an_order_that_is_paid_approved_or_cancelled_is_let_be() {
    let ends = [
        pay_1(captured(brl(1_000))),
        order(OrderEvent::OrderApproved),
        order(OrderEvent::OrderCancelled {
            reason: "changed my mind".into(),
        }),
    ];
    for end in ends {
        reactor(Fulfilment)
            .given([order(placed()), pay_1(authorized(brl(1_000))), end])
            .timers("ord-1", [])
            .when_time_passes(30 * DAY)
            .then_nothing();
    }
    reactor(Fulfilment)
        .given([order(placed()), pay_1(captured(brl(10)))])
        .when_time_passes(7 * DAY)
        .then([cancel_unpaid()]);
}

#[test]
fn an_order_of_a_history_that_is_loaded_is_not_waited_for() {
    reactor(Fulfilment)
        .given([order(placed()).at("2017-10-02T10:56:33Z")])
        .timers("ord-1", [])
        .when_time_passes(30 * DAY)
        .then_nothing();
}

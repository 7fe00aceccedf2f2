//! Payments.

use crate::samples::*;
use annals_commerce::{Money, Payment, PaymentCommand, PaymentEvent};
use annals_testkit::given;

fn refund(amount: impl Into<Option<Money>>) -> PaymentCommand {
    PaymentCommand::Refund {
        amount: amount.into(),
        reason: "late".into(),
    }
}

fn fail() -> PaymentCommand {
    PaymentCommand::Fail {
        reason: "declined".into(),
    }
}

#[test]
fn a_payment_is_authorized_captured_and_refunded_in_parts() {
    given::<Payment>([])
        .when(authorize(brl(1_000)))
        .then([authorized(brl(1_000))])
        .when(PaymentCommand::Capture)
        .then([captured(brl(1_000))])
        .when(refund(brl(300)))
        .then([refunded(brl(300))])
        .when(refund(None))
        .then([refunded(brl(700))])
        .when(refund(None))
        .then_nothing();
}

#[test]
fn refunds_never_exceed_what_was_captured() {
    let history = [authorized(brl(1_000)), captured(brl(1_000)), refunded(brl(300))];
    let message = given::<Payment>(history)
        .when(refund(brl(701)))
        .then_rejected("refund-exceeds-captured");
    assert!(message.contains("700 BRL"), "{message}");
    let history = [authorized(brl(1_000)), captured(brl(1_000)), refunded(brl(1_000))];
    given::<Payment>(history)
        .when(refund(brl(1)))
        .then_rejected("refund-exceeds-captured");
}

#[test]
fn a_refund_is_more_than_nothing_and_in_the_currency_of_the_payment() {
    for (amount, code) in [
        (brl(0), "amount-not-positive"),
        (brl(i64::MIN), "amount-not-positive"),
        (usd(5), "currency-mismatch"),
    ] {
        given::<Payment>([authorized(brl(1_000)), captured(brl(1_000))])
            .when(refund(amount))
            .then_rejected(code);
    }
}

#[test]
fn only_what_was_captured_is_refunded() {
    given::<Payment>([authorized(brl(5))])
        .when(refund(None))
        .then_rejected("payment-not-captured");
    given::<Payment>([authorized(brl(5)), failed(brl(5))])
        .when(refund(None))
        .then_rejected("payment-not-captured");
}

#[test]
fn nothing_happens_to_a_payment_that_was_not_authorized() {
    for command in [PaymentCommand::Capture, fail(), refund(None)] {
        given::<Payment>([])
            .when(command)
            .then_rejected("payment-not-authorized");
    }
}

#[test]
fn what_is_already_so_is_accepted_without_an_event() {
    given::<Payment>([authorized(brl(5))])
        .when(authorize(brl(5)))
        .then_nothing();
    given::<Payment>([authorized(brl(5)), captured(brl(5))])
        .when(PaymentCommand::Capture)
        .then_nothing()
        .when(authorize(brl(5)))
        .then_nothing();
    given::<Payment>([authorized(brl(5)), captured(brl(5)), refunded(brl(5))])
        .when(PaymentCommand::Capture)
        .then_nothing();
    given::<Payment>([authorized(brl(5)), failed(brl(5))])
        .when(fail())
        .then_nothing();
}

#[test]
fn a_payment_is_authorized_once() {
    given::<Payment>([authorized(brl(5))])
        .when(authorize(brl(6)))
        .then_rejected("payment-already-authorized");
}

#[test]
fn a_payment_that_failed_is_neither_captured_nor_authorized_again() {
    for command in [PaymentCommand::Capture, authorize(brl(5))] {
        given::<Payment>([authorized(brl(5)), failed(brl(5))])
            .when(command)
            .then_rejected("payment-failed");
    }
}

#[test]
fn a_payment_that_was_captured_cannot_fail() {
    given::<Payment>([authorized(brl(5)), captured(brl(5))])
        .when(fail())
        .then_rejected("payment-captured");
}

#[test]
fn a_payment_of_nothing_by_no_defined_method_is_a_payment() {
    let authorize = PaymentCommand::Authorize {
        order_id: "ord-1".into(),
        method: "not_defined".into(),
        amount: brl(0),
        installments: Some(0),
    };
    let authorized = PaymentEvent::PaymentAuthorized {
        order_id: "ord-1".into(),
        method: "not_defined".into(),
        amount: brl(0),
        installments: Some(0),
    };
    let captured = PaymentEvent::PaymentCaptured {
        order_id: "ord-1".into(),
        method: "not_defined".into(),
        amount: brl(0),
    };
    given::<Payment>([])
        .when(authorize)
        .then([authorized])
        .when(PaymentCommand::Capture)
        .then([captured])
        .when(refund(None))
        .then_nothing();
}

#[test]
fn what_is_authorized_obeys_the_rules_of_ids_methods_and_amounts() {
    for (order, method, amount, code) in [
        ("", "voucher", 5, "reference-invalid"),
        ("ord-1", "", 5, "method-invalid"),
        ("ord-1", "Credit Card", 5, "method-invalid"),
        ("ord-1", "voucher", -1, "amount-negative"),
    ] {
        let command = PaymentCommand::Authorize {
            order_id: order.into(),
            method: method.into(),
            amount: brl(amount),
            installments: None,
        };
        given::<Payment>([]).when(command).then_rejected(code);
    }
}

#[test]
fn the_largest_amount_passes_through() {
    let all = brl(i64::MAX);
    given::<Payment>([authorized(all), captured(all), refunded(all), refunded(all)])
        .when(refund(None))
        .then_nothing();
}

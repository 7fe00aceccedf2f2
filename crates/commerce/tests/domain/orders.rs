//! Orders.

use crate::samples::*;
use OrderEvent::OrderApproved;
use annals_commerce::{ITEMS_MAX, Item, Order, OrderCommand, OrderEvent, REVIEWS_MAX};
use annals_testkit::given;

#[test]
fn an_order_is_placed_approved_and_reviewed() {
    given::<Order>([])
        .when(place())
        .then([placed()])
        .when(OrderCommand::Approve)
        .then([OrderApproved])
        .when(review("rev-1", 5))
        .then([reviewed("rev-1", 5)]);
}

#[test]
fn an_order_is_placed_once() {
    let message = given::<Order>([placed()])
        .when(place())
        .then_rejected("order-already-placed");
    assert!(message.contains("id of its own"), "{message}");
}

#[test]
fn nothing_happens_to_an_order_that_was_not_placed() {
    for command in [OrderCommand::Approve, cancel(), review("rev-1", 5)] {
        given::<Order>([]).when(command).then_rejected("order-not-placed");
    }
}

#[test]
fn what_is_already_so_is_accepted_without_an_event() {
    given::<Order>([placed(), OrderApproved])
        .when(OrderCommand::Approve)
        .then_nothing();
    given::<Order>([placed(), cancelled()])
        .when(OrderCommand::Cancel {
            reason: "another reason".into(),
        })
        .then_nothing();
}

#[test]
fn an_order_that_was_approved_stays_so_when_it_is_cancelled() {
    given::<Order>([placed(), OrderApproved, cancelled()])
        .when(OrderCommand::Approve)
        .then_nothing();
}

#[test]
fn an_order_that_was_cancelled_first_is_not_approved() {
    given::<Order>([placed(), cancelled()])
        .when(OrderCommand::Approve)
        .then_rejected("order-cancelled");
}

#[test]
fn an_order_may_be_cancelled_after_its_approval() {
    given::<Order>([placed(), OrderApproved])
        .when(cancel())
        .then([cancelled()]);
}

#[test]
fn an_order_has_items_with_positive_quantities_and_prices_of_zero_or_more() {
    let freight = Item {
        freight: Some(brl(-1)),
        ..item("prod-1", 1, 100)
    };
    for (items, code) in [
        (vec![], "order-empty"),
        (vec![item("prod-1", 0, 100)], "quantity-not-positive"),
        (
            vec![item("prod-1", 1, 100), item("prod-2", -1, 100)],
            "quantity-not-positive",
        ),
        (vec![item("prod-1", 1, -1)], "amount-negative"),
        (vec![freight], "amount-negative"),
        (vec![item("a,b", 1, 1)], "reference-invalid"),
        (vec![item("prod-1", 1, 1); ITEMS_MAX + 1], "too-many-items"),
    ] {
        given::<Order>([]).when(place_items(items)).then_rejected(code);
    }
    given::<Order>([])
        .when(place_items(vec![item("gift", 1, 0)]))
        .then([OrderEvent::OrderPlaced {
            customer_id: "user-1".into(),
            total: brl(0),
            items: vec![item("gift", 1, 0)],
        }]);
}

#[test]
fn an_order_has_one_currency() {
    let price = Item {
        unit_price: usd(5),
        ..item("prod-1", 1, 0)
    };
    let freight = Item {
        freight: Some(usd(5)),
        ..item("prod-1", 1, 5)
    };
    for other in [price, freight] {
        let message = given::<Order>([])
            .when(place_items(vec![item("prod-1", 1, 1), other]))
            .then_rejected("currency-mixed");
        assert!(message.contains("items[1]") && message.contains("USD"), "{message}");
    }
}

#[test]
fn amounts_beyond_the_range_are_rejected() {
    let freight = Item {
        freight: Some(brl(1)),
        ..item("prod-1", 1, i64::MAX)
    };
    for items in [
        vec![item("prod-1", i64::MAX, 2)],
        vec![item("prod-1", 1, i64::MAX), item("prod-2", 1, 1)],
        vec![freight],
    ] {
        given::<Order>([])
            .when(place_items(items))
            .then_rejected("amount-too-large");
    }
}

#[test]
fn who_orders_is_named_as_streams_are() {
    let command = OrderCommand::Place {
        customer_id: "Ann, Bern".into(),
        currency: currency("BRL"),
        items: items(),
    };
    given::<Order>([]).when(command).then_rejected("reference-invalid");
}

#[test]
fn an_order_has_several_reviews_and_each_is_submitted_once() {
    given::<Order>([placed(), cancelled(), reviewed("rev-1", 4)])
        .when(review("rev-2", 4))
        .then([reviewed("rev-2", 4)])
        .when(review("rev-1", 4))
        .then_nothing()
        .when(review("rev-1", 5))
        .then_rejected("review-already-submitted");
}

#[test]
fn reviews_are_bounded() {
    for score in [0, 6, i64::MIN] {
        given::<Order>([placed()])
            .when(review("rev-1", score))
            .then_rejected("score-out-of-range");
    }
    given::<Order>([placed()])
        .when(review("a/b", 5))
        .then_rejected("reference-invalid");
    let many = (0..REVIEWS_MAX).map(|number| reviewed(&format!("rev-{number}"), 5));
    given::<Order>(std::iter::once(placed()).chain(many))
        .when(review("one-more", 5))
        .then_rejected("too-many-reviews");
}

#[test]
fn texts_are_bounded() {
    let long = "é".repeat(5_001);
    let cancel = OrderCommand::Cancel { reason: long.clone() };
    given::<Order>([placed()]).when(cancel).then_rejected("text-too-long");
    let review = OrderCommand::Review {
        review_id: "rev-1".into(),
        score: 5,
        comment: Some(long),
    };
    given::<Order>([placed()]).when(review).then_rejected("text-too-long");
}

fn review(review: &str, score: i64) -> OrderCommand {
    let OrderEvent::ReviewSubmitted { comment, .. } = reviewed(review, score) else {
        unreachable!("a review is a review");
    };
    OrderCommand::Review {
        review_id: review.into(),
        score,
        comment,
    }
}

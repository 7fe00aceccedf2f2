//! What the stories have in common: one customer, one order of 1,000, one payment, one shipment.

use annals_commerce::{
    Currency, Item, Money, OrderCommand, OrderEvent, PaymentCommand, PaymentEvent, ShipmentEvent, UserEvent,
};

pub(crate) fn currency(code: &str) -> Currency {
    code.parse().unwrap()
}

pub(crate) fn brl(amount: i64) -> Money {
    Money::new(amount, currency("BRL"))
}

pub(crate) fn usd(amount: i64) -> Money {
    Money::new(amount, currency("USD"))
}

/// Units of one product at a price, without freight.
pub(crate) fn item(product: &str, quantity: i64, price: i64) -> Item {
    Item {
        product_id: product.into(),
        seller_id: None,
        quantity,
        unit_price: brl(price),
        freight: None,
    }
}

/// Two units for 450 each and 100 of freight: 1,000.
pub(crate) fn items() -> Vec<Item> {
    vec![Item {
        freight: Some(brl(100)),
        ..item("prod-1", 2, 450)
    }]
}

pub(crate) fn place() -> OrderCommand {
    place_items(items())
}

pub(crate) fn place_items(items: Vec<Item>) -> OrderCommand {
    OrderCommand::Place {
        customer_id: "user-1".into(),
        currency: currency("BRL"),
        items,
    }
}

pub(crate) fn placed() -> OrderEvent {
    OrderEvent::OrderPlaced {
        customer_id: "user-1".into(),
        total: brl(1_000),
        items: items(),
    }
}

pub(crate) fn cancel() -> OrderCommand {
    OrderCommand::Cancel { reason: "late".into() }
}

pub(crate) fn cancelled() -> OrderEvent {
    OrderEvent::OrderCancelled { reason: "late".into() }
}

pub(crate) fn reviewed(review: &str, score: i64) -> OrderEvent {
    OrderEvent::ReviewSubmitted {
        review_id: review.into(),
        score,
        comment: Some("muito bom 👍\nrecomendo".into()),
    }
}

pub(crate) fn authorize(amount: Money) -> PaymentCommand {
    PaymentCommand::Authorize {
        order_id: "ord-1".into(),
        method: "credit_card".into(),
        amount,
        installments: Some(3),
    }
}

pub(crate) fn authorized(amount: Money) -> PaymentEvent {
    PaymentEvent::PaymentAuthorized {
        order_id: "ord-1".into(),
        method: "credit_card".into(),
        amount,
        installments: Some(3),
    }
}

pub(crate) fn captured(amount: Money) -> PaymentEvent {
    PaymentEvent::PaymentCaptured {
        order_id: "ord-1".into(),
        method: "credit_card".into(),
        amount,
    }
}

pub(crate) fn failed(amount: Money) -> PaymentEvent {
    PaymentEvent::PaymentFailed {
        order_id: "ord-1".into(),
        method: "credit_card".into(),
        amount,
        reason: "declined".into(),
    }
}

pub(crate) fn refunded(amount: Money) -> PaymentEvent {
    PaymentEvent::PaymentRefunded {
        order_id: "ord-1".into(),
        method: "credit_card".into(),
        amount,
        reason: "late".into(),
    }
}

pub(crate) fn dispatched() -> ShipmentEvent {
    ShipmentEvent::ShipmentDispatched {
        order_id: "ord-1".into(),
        carrier: Some("Correios".into()),
    }
}

pub(crate) fn delivered() -> ShipmentEvent {
    ShipmentEvent::ShipmentDelivered {
        order_id: "ord-1".into(),
    }
}

pub(crate) fn lost() -> ShipmentEvent {
    ShipmentEvent::ShipmentFailed {
        order_id: "ord-1".into(),
        reason: "lost".into(),
    }
}

pub(crate) fn registered() -> UserEvent {
    UserEvent::UserRegistered {
        email: "ann@example.org".to_owned().into(),
        name: "Ann".to_owned().into(),
        city: Some("Bern".into()),
        state: None,
    }
}

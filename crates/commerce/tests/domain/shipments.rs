//! Shipments.

use crate::samples::*;
use annals_commerce::{Shipment, ShipmentCommand};
use annals_core::Aggregate;
use annals_testkit::given;

fn dispatch(order: &str) -> ShipmentCommand {
    ShipmentCommand::Dispatch {
        order_id: order.into(),
        carrier: Some("Correios".into()),
    }
}

fn fail() -> ShipmentCommand {
    ShipmentCommand::Fail { reason: "lost".into() }
}

#[test]
fn a_shipment_is_dispatched_and_delivered_without_anyone_asking_for_the_order() {
    given::<Shipment>([])
        .when(dispatch("ord-1"))
        .then([dispatched()])
        .when(ShipmentCommand::Deliver)
        .then([delivered()]);
}

#[test]
fn a_shipment_may_fail_on_its_way() {
    given::<Shipment>([dispatched()]).when(fail()).then([lost()]);
}

#[test]
fn what_is_already_so_is_accepted_without_an_event() {
    given::<Shipment>([dispatched()]).when(dispatch("ord-1")).then_nothing();
    given::<Shipment>([dispatched(), delivered()])
        .when(ShipmentCommand::Deliver)
        .then_nothing()
        .when(dispatch("ord-1"))
        .then_nothing();
    given::<Shipment>([dispatched(), lost()]).when(fail()).then_nothing();
}

#[test]
fn nothing_happens_to_a_shipment_that_was_not_dispatched() {
    for command in [ShipmentCommand::Deliver, fail()] {
        given::<Shipment>([])
            .when(command)
            .then_rejected("shipment-not-dispatched");
    }
}

#[test]
fn a_shipment_is_dispatched_once() {
    given::<Shipment>([dispatched()])
        .when(dispatch("ord-2"))
        .then_rejected("shipment-already-dispatched");
}

#[test]
fn a_shipment_that_failed_is_over_and_so_is_one_that_was_delivered() {
    for command in [ShipmentCommand::Deliver, dispatch("ord-1")] {
        given::<Shipment>([dispatched(), lost()])
            .when(command)
            .then_rejected("shipment-failed");
    }
    given::<Shipment>([dispatched(), delivered()])
        .when(fail())
        .then_rejected("shipment-delivered");
}

#[test]
fn a_shipment_has_the_id_of_its_order() {
    assert_eq!(Shipment::check_id("ord-1", &dispatch("ord-1")), Ok(()));
    let rejection = Shipment::check_id("ship-7", &dispatch("ord-1")).unwrap_err();
    assert_eq!(rejection.code, "shipment-id-differs");
    assert!(
        rejection.message.contains("send this one to shipments/ord-1"),
        "{rejection}"
    );
    // What names no order is not about the id: a stream that was begun otherwise can still be finished.
    for command in [ShipmentCommand::Deliver, fail()] {
        assert_eq!(Shipment::check_id("ship-7", &command), Ok(()));
    }
}

#[test]
fn the_order_is_named_as_streams_are() {
    given::<Shipment>([])
        .when(dispatch("ord/1"))
        .then_rejected("reference-invalid");
}

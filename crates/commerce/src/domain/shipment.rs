//! Shipments: dispatched, then delivered or failed. A shipment has the id of its order, and a stream of its own: it
//! may be dispatched before its order was placed, as happened three times in the real record.

use super::check::{NAME_LEN_MAX, TEXT_LEN_MAX, check_length, check_reference};
use annals_core::{Aggregate, Command, Decision, Event, Rejection, State, accept, accept_nothing, reject};

/// Commands of `shipments/{id}`.
#[derive(Debug, Clone, PartialEq, Command)]
pub enum ShipmentCommand {
    /// Hands the goods to the carrier. The same again is accepted without an event.
    Dispatch {
        /// The order that is shipped.
        order_id: String,
        /// Who carries it.
        carrier: Option<String>,
    },
    /// Hands the goods to the customer.
    Deliver,
    /// Says that the goods will not arrive.
    Fail {
        /// Why.
        reason: String,
    },
}

/// Events of a shipment. Each carries the order, so that who reads one needs no other.
#[derive(Debug, Clone, PartialEq, Event)]
pub enum ShipmentEvent {
    /// The carrier has the goods.
    #[event(tags(order = order_id))]
    ShipmentDispatched {
        /// The order that is shipped.
        order_id: String,
        /// Who carries it.
        carrier: Option<String>,
    },
    /// The customer has the goods.
    #[event(tags(order = order_id))]
    ShipmentDelivered {
        /// The order that was shipped.
        order_id: String,
    },
    /// The goods will not arrive.
    #[event(tags(order = order_id))]
    ShipmentFailed {
        /// The order that was shipped.
        order_id: String,
        /// Why.
        reason: String,
    },
}

/// What is so of a shipment.
#[derive(Debug, Clone, Default, PartialEq, State)]
pub struct Shipment {
    order_id: Option<String>,
    carrier: Option<String>,
    delivered: bool,
    failed: bool,
}

impl Aggregate for Shipment {
    const CATEGORY: &'static str = "shipments";
    type Command = ShipmentCommand;
    type Event = ShipmentEvent;

    fn check_id(id: &str, command: &ShipmentCommand) -> Result<(), Rejection> {
        match command {
            ShipmentCommand::Dispatch { order_id, .. } if order_id != id => Err(Rejection {
                code: "shipment-id-differs".into(),
                message: format!(
                    "a shipment has the id of its order: send this one to shipments/{order_id}, or name the order {id}"
                ),
            }),
            _ => Ok(()),
        }
    }

    fn decide(&self, command: ShipmentCommand) -> Decision<ShipmentEvent> {
        match (command, self.order_id.clone()) {
            (ShipmentCommand::Dispatch { order_id, carrier }, _) => self.dispatch(order_id, carrier),
            (_, None) => reject(
                "shipment-not-dispatched",
                "there is no such shipment: dispatch it first",
            ),
            (ShipmentCommand::Deliver, _) if self.delivered => accept_nothing(),
            (ShipmentCommand::Deliver, _) if self.failed => reject("shipment-failed", FAILED),
            (ShipmentCommand::Deliver, Some(order_id)) => accept([ShipmentEvent::ShipmentDelivered { order_id }]),
            (ShipmentCommand::Fail { .. }, _) if self.failed => accept_nothing(),
            (ShipmentCommand::Fail { .. }, _) if self.delivered => reject(
                "shipment-delivered",
                "the shipment was delivered and cannot fail: cancel the order to take it back",
            ),
            (ShipmentCommand::Fail { reason }, Some(order_id)) => {
                check_length("reason", &reason, TEXT_LEN_MAX)?;
                accept([ShipmentEvent::ShipmentFailed { order_id, reason }])
            }
        }
    }

    fn evolve(&mut self, event: &ShipmentEvent) {
        match event {
            ShipmentEvent::ShipmentDispatched { order_id, carrier } => {
                self.order_id = Some(order_id.clone());
                self.carrier.clone_from(carrier);
            }
            ShipmentEvent::ShipmentDelivered { .. } => self.delivered = true,
            ShipmentEvent::ShipmentFailed { .. } => self.failed = true,
        }
    }
}

const FAILED: &str = "the shipment failed, and its order is cancelled for it: place a new order";

impl Shipment {
    fn dispatch(&self, order_id: String, carrier: Option<String>) -> Decision<ShipmentEvent> {
        if self.failed {
            return reject("shipment-failed", FAILED);
        }
        if self.order_id.is_some() {
            return if self.order_id.as_ref() == Some(&order_id) && self.carrier == carrier {
                accept_nothing()
            } else {
                reject(
                    "shipment-already-dispatched",
                    "the shipment was dispatched with another carrier, and it is dispatched once: name the same carrier again",
                )
            };
        }
        check_reference("order_id", &order_id)?;
        check_length("carrier", carrier.as_deref().unwrap_or_default(), NAME_LEN_MAX)?;
        accept([ShipmentEvent::ShipmentDispatched { order_id, carrier }])
    }
}

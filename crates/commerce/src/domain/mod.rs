//! The four aggregates. One rule runs through all of them: what is already so is accepted without an event, so that a
//! history, a caller that tries again and a process can all say it; what contradicts it is rejected.
//!
//! Must not know each other, nor any view or process: what one needs of another stands in its commands.

mod address;
mod check;
mod order;
mod payment;
mod shipment;
mod user;

pub(crate) use check::TEXT_LEN_MAX;
pub use order::{ITEMS_MAX, Item, Order, OrderCommand, OrderEvent, REVIEWS_MAX};
pub use payment::{Payment, PaymentCommand, PaymentEvent};
pub use shipment::{Shipment, ShipmentCommand, ShipmentEvent};
pub use user::{User, UserCommand, UserEvent};

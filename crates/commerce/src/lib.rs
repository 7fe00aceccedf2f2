//! The reference domain of Annals: a marketplace with users, orders, payments and shipments, its read models and the
//! fulfilment process. Pure functions over events; must not know any server, store, clock or source of randomness.

mod domain;
mod events;
mod fulfilment;
mod money;
mod traffic;
mod views;

pub use domain::{
    ITEMS_MAX, Item, Order, OrderCommand, OrderEvent, Payment, PaymentCommand, PaymentEvent, REVIEWS_MAX, Shipment,
    ShipmentCommand, ShipmentEvent, User, UserCommand, UserEvent,
};
pub use events::{CommerceEvent, CustomerHistory, OrderHistory};
pub use fulfilment::{Fulfilment, OrderProgress};
pub use money::{Currency, InvalidCurrency, Money, PerCurrency};
pub use traffic::{Traffic, TrafficCommand};
pub use views::{
    CustomerRow, Customers, MethodRow, OnlineUsers, OnlineUsersRow, OrderRow, OrderStatus, Orders, PaymentRow,
    PaymentStatus, Payments, PaymentsByMethod, ProductRow, Products, SalesByDay, SalesDayRow, Tally,
};

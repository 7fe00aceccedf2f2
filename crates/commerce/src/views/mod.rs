//! The read models. Each row is the fold of the events routed to its key and looks at no other row; sums saturate,
//! because a fold accepts whatever was recorded.

mod customers;
mod online_users;
mod orders;
mod payments;
mod payments_by_method;
mod products;
mod sales_by_day;

pub use customers::{CustomerRow, Customers};
pub use online_users::{OnlineUsers, OnlineUsersRow};
pub use orders::{OrderRow, OrderStatus, Orders};
pub use payments::{PaymentRow, PaymentStatus, Payments};
pub use payments_by_method::{MethodRow, PaymentsByMethod, Tally};
pub use products::{ProductRow, Products};
pub use sales_by_day::{SalesByDay, SalesDayRow};

use crate::domain::Item;

/// Units of these items; what is not positive was never accepted and counts as nothing.
fn units<'a>(items: impl IntoIterator<Item = &'a Item>) -> u64 {
    let quantities = items.into_iter().map(|item| u64::try_from(item.quantity).unwrap_or(0));
    quantities.fold(0, u64::saturating_add)
}

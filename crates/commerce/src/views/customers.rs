//! `customers`: who they are and what they ordered. Key: the user's id.

use crate::domain::{OrderEvent, UserEvent};
use crate::events::CustomerHistory;
use crate::money::PerCurrency;
use annals_core::{Key, Keys, Personal, Recorded, Row, View};
use chrono::{DateTime, Utc};

/// A customer. Who orders without having registered has a row too, without a name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Row)]
pub struct CustomerRow {
    /// Name; absent until they register.
    pub name: Option<Personal<String>>,
    /// Whether they are signed in.
    #[index]
    pub online: bool,
    /// Whether they were deactivated.
    pub deactivated: bool,
    /// When they registered.
    pub registered_at: Option<DateTime<Utc>>,
    /// Orders placed, cancelled ones included.
    pub orders: u64,
    /// Totals of the orders placed.
    pub ordered: PerCurrency,
}

impl CustomerRow {
    fn fold_user(&mut self, event: &UserEvent, time: DateTime<Utc>) {
        match event {
            UserEvent::UserRegistered { name, .. } => {
                self.name = Some(name.clone());
                self.registered_at = Some(time);
            }
            UserEvent::UserSignedIn { .. } => self.online = true,
            UserEvent::UserSignedOut => self.online = false,
            UserEvent::UserEmailChanged { .. } => {}
            UserEvent::UserDeactivated { .. } => {
                self.online = false;
                self.deactivated = true;
            }
        }
    }
}

/// The view `customers`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Customers;

impl View for Customers {
    const NAME: &'static str = "customers";
    const VERSION: u32 = 1;
    type Event = CustomerHistory;
    type Row = CustomerRow;

    fn route(&self, event: &Recorded<'_, CustomerHistory>) -> Keys {
        match event.data() {
            CustomerHistory::User(UserEvent::UserEmailChanged { .. }) => Keys::none(),
            CustomerHistory::User(_) => Keys::one(event.stream_id()),
            CustomerHistory::Order(OrderEvent::OrderPlaced { customer_id, .. }) => Keys::one(customer_id.as_str()),
            CustomerHistory::Order(_) => Keys::none(),
        }
    }

    fn fold(&self, _key: &Key, row: Option<CustomerRow>, event: &Recorded<'_, CustomerHistory>) -> Option<CustomerRow> {
        let mut row = row.unwrap_or_default();
        match event.data() {
            CustomerHistory::User(user) => row.fold_user(user, event.occurred_at()),
            CustomerHistory::Order(OrderEvent::OrderPlaced { total, .. }) => {
                row.orders = row.orders.saturating_add(1);
                row.ordered.add(*total);
            }
            CustomerHistory::Order(_) => {}
        }
        Some(row)
    }
}

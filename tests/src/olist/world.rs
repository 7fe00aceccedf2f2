//! The answer's shape: what is so at a business time. Knows neither files nor how it is reckoned.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, NaiveDate, Utc};

/// Everything that is so at one cut-off. Rows are there as soon as one event of theirs is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// By order id.
    pub orders: BTreeMap<String, OrderRow>,
    /// By payment id, `<order id>-<sequence>`.
    pub payments: BTreeMap<String, PaymentRow>,
    /// By payment method.
    pub methods: BTreeMap<String, MethodRow>,
    /// By day of placing, UTC.
    pub days: BTreeMap<NaiveDate, DayRow>,
    /// By product id, [`super::UNKNOWN_PRODUCT`] among them.
    pub products: BTreeMap<String, ProductRow>,
    /// By user id (`customer_unique_id`): exactly the users registered.
    pub customers: BTreeMap<String, CustomerRow>,
}

/// The furthest that an order has come; cancelled wins over all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// It is known and no more.
    Placed,
    /// Its payments were accepted.
    Approved,
    /// The carrier has it.
    Shipped,
    /// The customer has it.
    Delivered,
    /// It was cancelled, whatever else happened to it.
    Cancelled,
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Placed => "placed",
            Self::Approved => "approved",
            Self::Shipped => "shipped",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
        })
    }
}

/// One order. What is told by the placing (customer, total, items) is empty or 0 until `placed` is included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderRow {
    /// `None` while nothing but payments or reviews of it are included (reviews written before the placing).
    pub status: Option<Status>,
    /// User id.
    pub customer: Option<String>,
    /// Prices and freight of all units; of an order without items, its payments' sum.
    pub total: i64,
    /// What was captured, refunds not subtracted.
    pub paid: i64,
    /// What was refunded of it.
    pub refunded: i64,
    /// Units; 1 for an order without items.
    pub items: u64,
    /// Reviews included.
    pub reviews: u64,
    /// When it was placed.
    pub placed: Option<DateTime<Utc>>,
    /// When it was approved.
    pub approved: Option<DateTime<Utc>>,
    /// When the carrier took it.
    pub dispatched: Option<DateTime<Utc>>,
    /// When the customer got it.
    pub delivered: Option<DateTime<Utc>>,
    /// When it was cancelled.
    pub cancelled: Option<DateTime<Utc>>,
}

/// One payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentRow {
    /// Order id.
    pub order: String,
    /// `credit_card`, `boleto`, `voucher`, `debit_card` or `not_defined`.
    pub method: String,
    /// Number of installments.
    pub installments: u32,
    /// Amount authorized; captures and refunds are of all of it. May be 0.
    pub amount: i64,
    /// When it was authorized.
    pub authorized: DateTime<Utc>,
    /// When it was captured.
    pub captured: Option<DateTime<Utc>>,
    /// When it was refunded.
    pub refunded: Option<DateTime<Utc>>,
}

/// A count and a sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// Their amounts together.
    pub sum: i64,
}

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, amount: i64) {
        self.count += 1;
        self.sum += amount;
    }
}

/// The payments of one method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MethodRow {
    /// Authorized.
    pub authorized: Tally,
    /// Captured, refunds not subtracted.
    pub captured: Tally,
    /// Refunded.
    pub refunded: Tally,
}

/// The orders placed on one day, cancelled ones included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DayRow {
    /// Orders placed.
    pub orders: u64,
    /// Units in them.
    pub items: u64,
    /// Their totals, freight included.
    pub revenue: i64,
}

/// The units of one product in the orders placed, cancelled ones included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProductRow {
    /// Units.
    pub units: u64,
    /// Prices and freight together.
    pub revenue: i64,
    /// The freight in `revenue`.
    pub freight: i64,
}

/// One registered user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CustomerRow {
    /// When they registered: at their first order.
    pub registered: DateTime<Utc>,
    /// Orders placed.
    pub orders: u64,
    /// The totals of the orders placed.
    pub ordered: i64,
}

/// How many events of each kind are included: one for each command, and the refunds of the fulfilment process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the events are")]
pub struct Totals {
    pub users_registered: u64,
    pub orders_placed: u64,
    pub orders_approved: u64,
    pub orders_cancelled: u64,
    pub reviews_submitted: u64,
    pub payments_authorized: Tally,
    pub payments_captured: Tally,
    pub payments_refunded: Tally,
    pub shipments_dispatched: u64,
    pub shipments_delivered: u64,
}

impl Totals {
    /// Events in all, refunds included.
    #[must_use]
    pub fn events(&self) -> u64 {
        let payments = self.payments_authorized.count + self.payments_captured.count + self.payments_refunded.count;
        let orders = self.orders_placed + self.orders_approved + self.orders_cancelled + self.reviews_submitted;
        self.users_registered + orders + payments + self.shipments_dispatched + self.shipments_delivered
    }
}

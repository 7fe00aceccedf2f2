//! What the Olist tables say, folded straight from the CSV files: the truth that the suites compare Annals with.
//!
//! It must not share code with the commerce domain nor with its converter: an error there must not be repeated here.
//! It answers for any cut-off by business time, as `--at-occurred` and the views' rows should.
//!
//! Amounts are minor units of [`CURRENCY`]. Totals and revenue include freight.

mod fold;
pub mod past;
mod tables;
#[cfg(test)]
mod tests;
mod world;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use chrono::{DateTime, Utc};

pub use world::{CustomerRow, DayRow, MethodRow, OrderRow, PaymentRow, ProductRow, Status, Tally, Totals, World};

/// The one currency of the tables.
pub const CURRENCY: &str = "BRL";

/// The product that stands for the items of an order that has none in the tables.
pub const UNKNOWN_PRODUCT: &str = "unknown";

/// The tables, joined by order.
#[derive(Debug)]
pub struct Olist {
    orders: Vec<History>,
}

impl Olist {
    /// Reads the tables (`.csv.zst`) of a directory.
    ///
    /// # Errors
    ///
    /// When a file is missing, a row does not parse, or a row names an order or customer that there is not.
    pub fn load(directory: &Path) -> Result<Self> {
        Ok(Self {
            orders: tables::load(directory)?,
        })
    }

    /// Reads the sample where [`crate::data::olist`] finds it.
    ///
    /// # Errors
    ///
    /// As [`Olist::load`], and when the data is not there.
    pub fn sample() -> Result<Self> {
        Self::load(&crate::data::olist()?)
    }

    /// Every moment at which something occurred: the cut-offs that can make a difference.
    #[must_use]
    pub fn moments(&self) -> BTreeSet<DateTime<Utc>> {
        self.orders.iter().flat_map(History::moments).collect()
    }
}

/// One order with all that the tables say about it.
#[derive(Debug)]
struct History {
    id: String,
    /// The person (`customer_unique_id`), not the customer row of this one order.
    user: String,
    cancelled: bool,
    purchased: DateTime<Utc>,
    /// Also the time at which all its payments were captured.
    approved: Option<DateTime<Utc>>,
    dispatched: Option<DateTime<Utc>>,
    delivered: Option<DateTime<Utc>>,
    items: Vec<Item>,
    payments: Vec<Payment>,
    reviews: Vec<DateTime<Utc>>,
}

/// One unit of a product.
#[derive(Debug)]
struct Item {
    product: String,
    price: i64,
    freight: i64,
}

#[derive(Debug)]
struct Payment {
    sequence: u32,
    method: String,
    installments: u32,
    amount: i64,
}

impl History {
    /// The tables do not date a cancellation: it counts from the last thing that they do date.
    fn cancelled_at(&self) -> Option<DateTime<Utc>> {
        let dated = [self.approved, self.dispatched, self.delivered];
        self.cancelled
            .then(|| dated.into_iter().flatten().fold(self.purchased, DateTime::max))
    }

    fn moments(&self) -> impl Iterator<Item = DateTime<Utc>> {
        let dated = [Some(self.purchased), self.approved, self.dispatched, self.delivered];
        dated.into_iter().flatten().chain(self.reviews.iter().copied())
    }
}

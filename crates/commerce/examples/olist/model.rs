//! The seven tables joined: orders with their items, payments and reviews, in the order of the orders file.
//!
//! References are checked here, so that what follows may rely on them. Knows nothing of commands.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};

use crate::table::{self, Row};

pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) customer: Customer,
    pub(crate) cancelled: bool,
    pub(crate) purchased: DateTime<Utc>,
    pub(crate) approved: Option<DateTime<Utc>>,
    pub(crate) dispatched: Option<DateTime<Utc>>,
    pub(crate) delivered: Option<DateTime<Utc>>,
    pub(crate) items: Vec<Item>,
    /// By sequence number.
    pub(crate) payments: Vec<Payment>,
    pub(crate) reviews: Vec<Review>,
}

/// The buyer as of one order: the tables have a customer row for each order, and one `unique_id` for each person.
#[derive(Clone)]
pub(crate) struct Customer {
    pub(crate) unique_id: String,
    pub(crate) city: String,
    pub(crate) state: String,
}

/// One unit of one product. Amounts are minor units.
pub(crate) struct Item {
    pub(crate) product: String,
    pub(crate) seller: String,
    pub(crate) price: i64,
    pub(crate) freight: i64,
}

pub(crate) struct Payment {
    pub(crate) sequence: u32,
    pub(crate) method: String,
    pub(crate) installments: u32,
    /// Minor units; may be zero.
    pub(crate) amount: i64,
}

pub(crate) struct Review {
    pub(crate) id: String,
    pub(crate) score: u32,
    pub(crate) title: String,
    pub(crate) message: String,
    pub(crate) answered: DateTime<Utc>,
}

/// Reads all seven files of a directory.
pub(crate) fn read(directory: &Path) -> Result<Vec<Order>> {
    let mut orders = Orders::read(directory)?;
    let products = ids(directory, "olist_products_dataset", "product_id")?;
    let sellers = ids(directory, "olist_sellers_dataset", "seller_id")?;
    table::read(directory, "olist_order_items_dataset", |row| {
        let item = item(row)?;
        ensure!(products.contains(&item.product), "unknown product {}", item.product);
        ensure!(sellers.contains(&item.seller), "unknown seller {}", item.seller);
        orders.of(row)?.items.push(item);
        Ok(())
    })?;
    table::read(directory, "olist_order_payments_dataset", |row| {
        let payment = payment(row)?;
        let payments = &mut orders.of(row)?.payments;
        let is_new = payments.iter().all(|other| other.sequence != payment.sequence);
        ensure!(is_new, "the order has two payments {}", payment.sequence);
        payments.push(payment);
        Ok(())
    })?;
    table::read(directory, "olist_order_reviews_dataset", |row| {
        let review = review(row)?;
        let reviews = &mut orders.of(row)?.reviews;
        ensure!(
            reviews.iter().all(|other| other.id != review.id),
            "the order has review {} twice",
            review.id
        );
        reviews.push(review);
        Ok(())
    })?;
    for order in &mut orders.list {
        order.payments.sort_by_key(|payment| payment.sequence);
    }
    Ok(orders.list)
}

struct Orders {
    list: Vec<Order>,
    index_by_id: HashMap<String, usize>,
}

impl Orders {
    fn read(directory: &Path) -> Result<Self> {
        let customers = customers(directory)?;
        let mut orders = Self {
            list: Vec::new(),
            index_by_id: HashMap::new(),
        };
        table::read(directory, "olist_orders_dataset", |row| {
            let order = order(row, &customers)?;
            let known = orders.index_by_id.insert(order.id.clone(), orders.list.len());
            ensure!(known.is_none(), "order {} stands twice", order.id);
            orders.list.push(order);
            Ok(())
        })?;
        Ok(orders)
    }

    /// The order that the row belongs to.
    fn of(&mut self, row: &Row) -> Result<&mut Order> {
        let id = row.text("order_id")?;
        let index = self.index_by_id.get(id).copied();
        index
            .and_then(|index| self.list.get_mut(index))
            .with_context(|| format!("unknown order {id:?}"))
    }
}

fn customers(directory: &Path) -> Result<HashMap<String, Customer>> {
    let mut customers = HashMap::new();
    table::read(directory, "olist_customers_dataset", |row| {
        let customer = Customer {
            unique_id: row.filled("customer_unique_id")?,
            city: row.text("customer_city")?.to_owned(),
            state: row.text("customer_state")?.to_owned(),
        };
        customers.insert(row.filled("customer_id")?, customer);
        Ok(())
    })?;
    Ok(customers)
}

fn ids(directory: &Path, table: &str, column: &str) -> Result<HashSet<String>> {
    let mut ids = HashSet::new();
    table::read(directory, table, |row| {
        ids.insert(row.filled(column)?);
        Ok(())
    })?;
    Ok(ids)
}

fn order(row: &Row, customers: &HashMap<String, Customer>) -> Result<Order> {
    let customer = row.text("customer_id")?;
    Ok(Order {
        id: row.filled("order_id")?,
        customer: customers
            .get(customer)
            .cloned()
            .with_context(|| format!("unknown customer {customer:?}"))?,
        cancelled: row.text("order_status")? == "canceled",
        purchased: row.time("order_purchase_timestamp")?,
        approved: row.time_if_any("order_approved_at")?,
        dispatched: row.time_if_any("order_delivered_carrier_date")?,
        delivered: row.time_if_any("order_delivered_customer_date")?,
        items: Vec::new(),
        payments: Vec::new(),
        reviews: Vec::new(),
    })
}

fn item(row: &Row) -> Result<Item> {
    Ok(Item {
        product: row.filled("product_id")?,
        seller: row.filled("seller_id")?,
        price: row.amount("price")?,
        freight: row.amount("freight_value")?,
    })
}

fn payment(row: &Row) -> Result<Payment> {
    Ok(Payment {
        sequence: row.number("payment_sequential")?,
        method: row.filled("payment_type")?,
        installments: row.number("payment_installments")?,
        amount: row.amount("payment_value")?,
    })
}

fn review(row: &Row) -> Result<Review> {
    Ok(Review {
        id: row.filled("review_id")?,
        score: row.number("review_score")?,
        title: row.text("review_comment_title")?.to_owned(),
        message: row.text("review_comment_message")?.to_owned(),
        answered: row.time("review_answer_timestamp")?,
    })
}

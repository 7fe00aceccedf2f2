//! Reads the Olist tables and joins them by order. Knows no cut-off and no rule of the business.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use chrono::{DateTime, NaiveDateTime, Utc};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};

use super::{History, Item, Payment};
use crate::data;

#[derive(Deserialize)]
struct CustomerLine {
    customer_id: String,
    customer_unique_id: String,
}

#[derive(Deserialize)]
struct OrderLine {
    order_id: String,
    customer_id: String,
    order_status: String,
    #[serde(deserialize_with = "moment")]
    order_purchase_timestamp: DateTime<Utc>,
    #[serde(deserialize_with = "moment_if_any")]
    order_approved_at: Option<DateTime<Utc>>,
    #[serde(deserialize_with = "moment_if_any")]
    order_delivered_carrier_date: Option<DateTime<Utc>>,
    #[serde(deserialize_with = "moment_if_any")]
    order_delivered_customer_date: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
struct ItemLine {
    order_id: String,
    product_id: String,
    #[serde(deserialize_with = "cents")]
    price: i64,
    #[serde(deserialize_with = "cents")]
    freight_value: i64,
}

#[derive(Deserialize)]
struct PaymentLine {
    order_id: String,
    payment_sequential: u32,
    payment_type: String,
    payment_installments: u32,
    #[serde(deserialize_with = "cents")]
    payment_value: i64,
}

#[derive(Deserialize)]
struct ReviewLine {
    order_id: String,
    #[serde(deserialize_with = "moment")]
    review_answer_timestamp: DateTime<Utc>,
}

/// All orders, by id. Products and sellers add nothing to what is asked here and are not read.
pub(super) fn load(directory: &Path) -> Result<Vec<History>> {
    let mut users = HashMap::new();
    each(directory, "customers", |line: CustomerLine| {
        users.insert(line.customer_id, line.customer_unique_id);
        Ok(())
    })?;
    let mut orders = HashMap::new();
    each(directory, "orders", |line: OrderLine| {
        let user = users
            .get(&line.customer_id)
            .with_context(|| format!("unknown customer {}", line.customer_id))?;
        orders.insert(line.order_id.clone(), history(line, user.clone()));
        Ok(())
    })?;
    each(directory, "order_items", |line: ItemLine| {
        let item = Item {
            product: line.product_id,
            price: line.price,
            freight: line.freight_value,
        };
        known(&mut orders, &line.order_id)?.items.push(item);
        Ok(())
    })?;
    each(directory, "order_payments", |line: PaymentLine| {
        let payment = Payment {
            sequence: line.payment_sequential,
            method: line.payment_type,
            installments: line.payment_installments,
            amount: line.payment_value,
        };
        known(&mut orders, &line.order_id)?.payments.push(payment);
        Ok(())
    })?;
    each(directory, "order_reviews", |line: ReviewLine| {
        known(&mut orders, &line.order_id)?
            .reviews
            .push(line.review_answer_timestamp);
        Ok(())
    })?;
    let mut orders: Vec<History> = orders.into_values().collect();
    orders.sort_by(|left, right| left.id.cmp(&right.id));
    Ok(orders)
}

fn history(line: OrderLine, user: String) -> History {
    History {
        id: line.order_id,
        user,
        cancelled: line.order_status == "canceled",
        purchased: line.order_purchase_timestamp,
        approved: line.order_approved_at,
        dispatched: line.order_delivered_carrier_date,
        delivered: line.order_delivered_customer_date,
        items: Vec::new(),
        payments: Vec::new(),
        reviews: Vec::new(),
    }
}

fn known<'a>(orders: &'a mut HashMap<String, History>, id: &str) -> Result<&'a mut History> {
    orders.get_mut(id).with_context(|| format!("unknown order {id}"))
}

fn each<L: DeserializeOwned>(directory: &Path, table: &str, mut take: impl FnMut(L) -> Result<()>) -> Result<()> {
    let path: PathBuf = directory.join(format!("olist_{table}_dataset.csv.zst"));
    for (index, line) in data::csv(&path)?.into_deserialize().enumerate() {
        let taken = line.map_err(anyhow::Error::from).and_then(&mut take);
        taken.with_context(|| format!("{}: row {}", path.display(), index + 1))?;
    }
    Ok(())
}

fn moment_if_any<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "" => Ok(None),
        // The tables name no time zone; the project takes them as UTC.
        text => match NaiveDateTime::parse_from_str(text, "%F %T") {
            Ok(time) => Ok(Some(time.and_utc())),
            Err(error) => Err(D::Error::custom(format!("{text:?}: {error}"))),
        },
    }
}

fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
    moment_if_any(deserializer)?.ok_or_else(|| D::Error::custom("a time is missing"))
}

fn cents<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    data::scaled(&String::deserialize(deserializer)?, 2).map_err(D::Error::custom)
}

//! Rows of the commerce views as a client reads them, turned into the rows of the independent fold, to be compared.
//!
//! Knows the JSON that is served and printed; must not know the types that it is made of.

use std::collections::BTreeMap;
use std::fmt::Debug;

use anyhow::{Context, Result, bail, ensure};
use chrono::{DateTime, NaiveDate, Utc};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::events::next;
use crate::http::Client;
use crate::olist::{CustomerRow, DayRow, MethodRow, OrderRow, PaymentRow, ProductRow, Status, Tally, World};

/// All views of the commerce domain.
pub const VIEWS: [&str; 7] = [
    "orders",
    "payments",
    "customers",
    "sales-by-day",
    "payments-by-method",
    "products",
    "online-users",
];

#[derive(Deserialize)]
struct Page {
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    key: String,
    row: Box<RawValue>,
}

/// All rows of a view, their JSON as it was sent, by key. `query` as in `status=placed`, may be empty.
///
/// # Errors
///
/// When a page is not what it should be, or a row comes twice.
pub fn raw(client: &Client, view: &str, query: &str) -> Result<BTreeMap<String, String>> {
    let mut rows = BTreeMap::new();
    let mut path = format!("/v1/views/{view}?limit=500&{query}");
    loop {
        let answer = client
            .get(path.trim_end_matches('&'))?
            .expect(200)
            .with_context(|| path.clone())?;
        let page: Page = serde_json::from_slice(&answer.body).with_context(|| path.clone())?;
        for row in page.rows {
            let twice = rows.insert(row.key.clone(), row.row.get().to_owned());
            ensure!(twice.is_none(), "{view}: row {} comes twice", row.key);
        }
        match next(&answer) {
            Some(next) => path = next,
            None => return Ok(rows),
        }
    }
}

/// All rows of a view by key.
///
/// # Errors
///
/// As [`raw`].
pub fn all(client: &Client, view: &str) -> Result<BTreeMap<String, Value>> {
    let rows = raw(client, view, "")?.into_iter();
    rows.map(|(key, row)| Ok((key, serde_json::from_str(&row)?))).collect()
}

/// All rows of all views, their JSON as it was sent, by `view/key`.
///
/// # Errors
///
/// As [`raw`].
pub fn dump(client: &Client) -> Result<BTreeMap<String, String>> {
    let mut dump = BTreeMap::new();
    for view in VIEWS {
        dump.extend(
            raw(client, view, "")?
                .into_iter()
                .map(|(key, row)| (format!("{view}/{key}"), row)),
        );
    }
    Ok(dump)
}

/// The rows that `annals replay view` printed, by key.
///
/// # Errors
///
/// When a line is no row.
pub fn printed(lines: Vec<Value>) -> Result<BTreeMap<String, Value>> {
    let row = |mut line: Value| {
        let key = line["key"].as_str().context("a line without a key")?.to_owned();
        Ok((key, line["row"].take()))
    };
    lines.into_iter().map(row).collect()
}

/// What is served by a server's query API.
///
/// # Errors
///
/// When a row is not what it should be.
pub fn world(client: &Client) -> Result<World> {
    let days = all(client, "sales-by-day")?.into_iter();
    let days = days
        .map(|(day, row)| Ok((day.parse::<NaiveDate>()?, day_row(&row)?)))
        .collect::<Result<_>>()?;
    Ok(World {
        orders: each(all(client, "orders")?, order_row)?,
        payments: each(all(client, "payments")?, payment_row)?,
        methods: each(all(client, "payments-by-method")?, method_row)?,
        days,
        products: each(all(client, "products")?, product_row)?,
        customers: each(all(client, "customers")?, customer_row)?,
    })
}

/// Reads every row.
///
/// # Errors
///
/// When one is not what it should be.
pub fn each<T>(rows: BTreeMap<String, Value>, read: impl Fn(&Value) -> Result<T>) -> Result<BTreeMap<String, T>> {
    let read = |(key, row): (String, Value)| {
        let read = read(&row).with_context(|| format!("row {key}: {row}"))?;
        Ok((key, read))
    };
    rows.into_iter().map(read).collect()
}

/// Compares row by row.
///
/// # Errors
///
/// When rows differ; the message shows some.
pub fn same<K: Ord + Debug, T: PartialEq + Debug>(
    what: &str,
    expected: &BTreeMap<K, T>,
    found: &BTreeMap<K, T>,
) -> Result<()> {
    let keys = expected
        .keys()
        .chain(found.keys().filter(|key| !expected.contains_key(key)));
    let differing: Vec<&K> = keys.filter(|key| expected.get(key) != found.get(key)).collect();
    if differing.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = differing
        .iter()
        .take(3)
        .map(|key| {
            format!(
                "{key:?}\n  expected {:?}\n  found    {:?}",
                expected.get(key),
                found.get(key)
            )
        })
        .collect();
    bail!(
        "{what}: {} of {} rows differ:\n{}",
        differing.len(),
        expected.len(),
        shown.join("\n")
    )
}

/// Compares everything that is served with everything that is so.
///
/// # Errors
///
/// When rows differ; the message shows some.
pub fn same_world(expected: &World, found: &World) -> Result<()> {
    same("orders", &expected.orders, &found.orders)?;
    same("payments", &expected.payments, &found.payments)?;
    same("payments-by-method", &expected.methods, &found.methods)?;
    same("sales-by-day", &expected.days, &found.days)?;
    same("products", &expected.products, &found.products)?;
    same("customers", &expected.customers, &found.customers)
}

/// A row of `orders`.
///
/// # Errors
///
/// When it is not what it should be.
pub fn order_row(row: &Value) -> Result<OrderRow> {
    let placed = time(row, "placed_at")?;
    let day = placed.map(|placed| placed.date_naive().to_string());
    ensure!(
        row["placed_on"].as_str() == day.as_deref(),
        "placed_on is another day than placed_at"
    );
    Ok(OrderRow {
        status: row["status"].as_str().map(status).transpose()?,
        customer: row["customer"].as_str().map(str::to_owned),
        total: money(row, "total")?,
        paid: money(row, "paid")?,
        refunded: money(row, "refunded")?,
        items: count(row, "items")?,
        reviews: count(row, "reviews")?,
        placed,
        approved: time(row, "approved_at")?,
        dispatched: time(row, "dispatched_at")?,
        delivered: time(row, "delivered_at")?,
        cancelled: time(row, "cancelled_at")?,
    })
}

fn status(name: &str) -> Result<Status> {
    let known = [
        Status::Placed,
        Status::Approved,
        Status::Shipped,
        Status::Delivered,
        Status::Cancelled,
    ];
    known
        .into_iter()
        .find(|status| status.to_string() == name)
        .with_context(|| format!("status {name:?}"))
}

fn payment_row(row: &Value) -> Result<PaymentRow> {
    let amount = money(row, "authorized")?;
    let (captured, refunded) = (time(row, "captured_at")?, time(row, "refunded_at")?);
    // In the real record everything is captured and refunded whole.
    ensure!(
        money(row, "captured")? == captured.map_or(0, |_| amount),
        "captured another amount than authorized"
    );
    ensure!(
        money(row, "refunded")? == refunded.map_or(0, |_| amount),
        "refunded another amount than captured"
    );
    let status = match (captured, refunded) {
        (None, _) => "authorized",
        (Some(_), None) => "captured",
        (Some(_), Some(_)) => "refunded",
    };
    ensure!(row["status"] == status, "status should be {status}");
    let installments = row["installments"].as_u64().context("installments")?;
    Ok(PaymentRow {
        order: row["order"].as_str().context("order")?.to_owned(),
        method: row["method"].as_str().context("method")?.to_owned(),
        installments: u32::try_from(installments)?,
        amount,
        authorized: time(row, "authorized_at")?.context("authorized_at")?,
        captured,
        refunded,
    })
}

fn method_row(row: &Value) -> Result<MethodRow> {
    let tally = |name: &str| -> Result<Tally> {
        Ok(Tally {
            count: count(&row[name], "count")?,
            sum: sum(&row[name], "sum")?,
        })
    };
    Ok(MethodRow {
        authorized: tally("authorized")?,
        captured: tally("captured")?,
        refunded: tally("refunded")?,
    })
}

fn day_row(row: &Value) -> Result<DayRow> {
    Ok(DayRow {
        orders: count(row, "orders")?,
        items: count(row, "items")?,
        revenue: sum(row, "revenue")?,
    })
}

fn product_row(row: &Value) -> Result<ProductRow> {
    let freight = sum(row, "freight")?;
    // The view keeps freight apart from revenue, the fold counts it in.
    Ok(ProductRow {
        units: count(row, "units")?,
        revenue: sum(row, "revenue")? + freight,
        freight,
    })
}

fn customer_row(row: &Value) -> Result<CustomerRow> {
    ensure!(row["online"] == false, "nobody signed in");
    Ok(CustomerRow {
        registered: time(row, "registered_at")?.context("registered_at")?,
        orders: count(row, "orders")?,
        ordered: sum(row, "ordered")?,
    })
}

fn count(row: &Value, field: &str) -> Result<u64> {
    row[field].as_u64().with_context(|| format!("{field} is no count"))
}

/// An amount in minor units; 0 if it is absent.
fn money(row: &Value, field: &str) -> Result<i64> {
    match &row[field] {
        Value::Null => Ok(0),
        money => money["amount"].as_i64().with_context(|| format!("{field} is no money")),
    }
}

/// A sum per currency, of which there is at most one.
fn sum(row: &Value, field: &str) -> Result<i64> {
    let sums = row[field].as_object().with_context(|| format!("{field} is no sum"))?;
    ensure!(sums.len() <= 1, "{field} has several currencies");
    sums.values()
        .next()
        .map_or(Ok(0), |sum| sum.as_i64().with_context(|| format!("{field} is no sum")))
}

fn time(row: &Value, field: &str) -> Result<Option<DateTime<Utc>>> {
    let text = row[field].as_str();
    text.map(|text| text.parse().with_context(|| format!("{field} is no time")))
        .transpose()
}

//! Volume: the invoice lines of a retailer, dirt included, appended as events of their own over HTTP and read back.
//!
//! All 541,909 rows; `ANNALS_UCI_ROWS=N` for the first N of them only.

#![allow(clippy::print_stdout, reason = "a test says what it measured")]

use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use annals_tests::cli::annals;
use annals_tests::data::{self, UciRow, uci_rows};
use annals_tests::events;
use annals_tests::http::Client;
use annals_tests::rows;
use annals_tests::server::Server;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

const ROWS_ALL: u64 = 541_909;
/// Value of all rows in thousandths of a pound, and their units, as counted in the file itself.
const VALUE_ALL: i64 = 9_747_747_934;
/// Most events in one append.
const EVENTS_MAX: usize = 1_000;
const CLIENTS: usize = 8;

type Invoice = Vec<(u64, UciRow)>;

#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    rows: u64,
    value_thousandths: i64,
    without_customer: u64,
}

impl Sum {
    fn add(&mut self, quantity: i64, unit_price: i64, has_customer: bool) {
        self.rows += 1;
        self.value_thousandths += quantity * unit_price;
        self.without_customer += u64::from(!has_customer);
    }
}

#[test]
fn half_a_million_invoice_lines_are_appended_and_read_back() -> Result<()> {
    let wanted = match std::env::var("ANNALS_UCI_ROWS") {
        Ok(text) => text.parse().context("ANNALS_UCI_ROWS is a number")?,
        Err(_) => ROWS_ALL,
    };
    let directory = tempfile::tempdir()?;
    let server = Server::start(directory.path())?;
    let begun = Instant::now();
    let expected = append_all(&server.command, wanted)?;
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{} rows appended in {seconds:.1} s, {:.0} events/s",
        expected.rows,
        expected.rows as f64 / seconds
    );
    ensure!(
        expected.rows == wanted.min(ROWS_ALL),
        "{} rows were read",
        expected.rows
    );
    ensure!(
        wanted < ROWS_ALL || expected.value_thousandths == VALUE_ALL,
        "the file changed"
    );

    // The views have nothing to fold of this, and must follow all the same.
    ensure!(server.settle()? == expected.rows, "every row is one event");
    ensure!(rows::dump(&server.query)?.is_empty(), "no view knows invoices");
    let begun = Instant::now();
    let found = sum(&server.command)?;
    ensure!(found == expected, "expected {expected:?}, found {found:?}");
    println!("read back in {:.1} s", begun.elapsed().as_secs_f64());

    ensure!(
        append_all(&server.command, 2_000)?.rows == 2_000 && server.head()? == expected.rows,
        "appended twice"
    );
    let data = server.data().to_owned();
    server.stop()?;
    annals(["verify", "--data", data.to_str().context("path")?])?.exits(0)?;
    Ok(())
}

/// Appends the first rows, all lines of an invoice that stand together as one batch.
fn append_all(client: &Client, wanted: u64) -> Result<Sum> {
    let directory = data::uci()?;
    let (sender, receiver) = sync_channel::<Invoice>(64);
    let receiver = Mutex::new(receiver);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| append_each(client, &receiver)))
            .collect();
        let mut sum = Sum::default();
        let mut invoice = Invoice::new();
        for (number, row) in (1..=wanted).zip(uci_rows(&directory)?) {
            let row = row?;
            sum.add(row.quantity, row.unit_price_thousandths, row.customer.is_some());
            let other = invoice.first().is_some_and(|(_, first)| first.invoice != row.invoice);
            if (other || invoice.len() == EVENTS_MAX) && sender.send(std::mem::take(&mut invoice)).is_err() {
                break;
            }
            invoice.push((number, row));
        }
        // A client that failed says why below.
        let _ = sender.send(invoice);
        drop(sender);
        for client in clients {
            client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        Ok(sum)
    })
}

fn append_each(client: &Client, invoices: &Mutex<Receiver<Invoice>>) -> Result<()> {
    loop {
        let next = invoices.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(invoice) = next else { return Ok(()) };
        let Some((_, first)) = invoice.first() else { continue };
        let path = format!("/v1/streams/invoices/{}", first.invoice);
        let batch: Vec<Value> = invoice.iter().map(|(number, row)| line(*number, row)).collect();
        let headers = [("content-type", "application/cloudevents-batch+json")];
        let answer = client.send("POST", &path, &headers, Some(Value::from(batch).to_string().as_bytes()))?;
        let answer = answer.expect(200)?.json()?;
        let appended = answer["events"].as_array().map_or(0, Vec::len);
        ensure!(
            appended == invoice.len(),
            "{appended} of {} events: {answer}",
            invoice.len()
        );
    }
}

fn line(number: u64, row: &UciRow) -> Value {
    json!({
        "specversion": "1.0",
        "id": number.to_string(),
        "source": "/online-retail",
        "type": "InvoiceLine",
        "time": row.invoiced_at.to_rfc3339(),
        "datacontenttype": "application/json",
        "data": row,
    })
}

/// Reads everything back and sums it up.
fn sum(client: &Client) -> Result<Sum> {
    let mut sum = Sum::default();
    events::each(client, "category=invoices", |event| {
        let number = |field: &str| {
            event.data[field]
                .as_i64()
                .with_context(|| format!("{field} in {}", event.data))
        };
        ensure!(
            event.event_type == "InvoiceLine" && event.text("invoice") == event.stream_id(),
            "{event:?}"
        );
        ensure!(event.text("invoiced_at").parse() == Ok(event.time), "{event:?}");
        sum.add(
            number("quantity")?,
            number("unit_price_thousandths")?,
            !event.data["customer"].is_null(),
        );
        Ok(())
    })?;
    Ok(sum)
}

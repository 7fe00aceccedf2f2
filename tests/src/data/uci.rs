//! The invoice lines of UCI's Online Retail, row by row, for volume. Knows nothing of what is made of them.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, NaiveDateTime, Utc};
use serde::{Deserialize, Serialize};

use super::scaled;

const FILE: &str = "online_retail_541909.csv.zst";

/// One invoice line, dirt included: cancellations, negative quantities and prices, missing customers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UciRow {
    /// Invoice number; begins with `C` for a cancellation, `A` for an adjustment.
    pub invoice: String,
    /// Product code; also postage, fees and the like.
    pub stock_code: String,
    /// Product name as it stands, spaces included; missing in 1,454 rows.
    pub description: Option<String>,
    /// Units; negative for returns and write-offs.
    pub quantity: i64,
    /// The file's local time, taken as UTC.
    pub invoiced_at: DateTime<Utc>,
    /// Price of one unit in thousandths of a pound; negative in two rows.
    pub unit_price_thousandths: i64,
    /// Customer number; missing in 135,080 rows.
    pub customer: Option<u32>,
    /// Country of the customer.
    pub country: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    invoice_no: String,
    stock_code: String,
    description: Option<String>,
    quantity: i64,
    invoice_date: String,
    unit_price: String,
    #[serde(rename = "CustomerID")]
    customer_id: String,
    country: String,
}

/// The rows of the file in `directory` (as [`super::uci`] finds it), in the order of the file, read as they are taken.
///
/// # Errors
///
/// When the file cannot be opened; a bad row is an error in its place and names the row.
pub fn uci_rows(directory: &Path) -> Result<impl Iterator<Item = Result<UciRow>>> {
    let path = directory.join(FILE);
    let lines = super::csv(&path)?.into_deserialize::<Line>();
    Ok(lines.enumerate().map(move |(index, line)| {
        let row = line.map_err(anyhow::Error::from).and_then(row);
        row.with_context(|| format!("{}: row {}", path.display(), index + 1))
    }))
}

fn row(line: Line) -> Result<UciRow> {
    let invoiced_at = NaiveDateTime::parse_from_str(&line.invoice_date, "%Y-%m-%d %H:%M:%S");
    Ok(UciRow {
        invoice: line.invoice_no,
        stock_code: line.stock_code,
        description: line.description,
        quantity: line.quantity,
        invoiced_at: invoiced_at
            .with_context(|| format!("InvoiceDate {:?}", line.invoice_date))?
            .and_utc(),
        unit_price_thousandths: scaled(&line.unit_price, 3).context("UnitPrice")?,
        customer: customer(&line.customer_id).context("CustomerID")?,
        country: line.country,
    })
}

/// The file was once a spreadsheet: customer numbers end in `.0`.
fn customer(text: &str) -> Result<Option<u32>> {
    if text.is_empty() {
        return Ok(None);
    }
    let tenths = scaled(text, 1)?;
    ensure!(tenths % 10 == 0, "not a whole number: {text:?}");
    Ok(Some(u32::try_from(tenths / 10)?))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::uci_rows;
    use crate::data;

    #[test]
    fn has_the_rows_that_the_project_relies_on() {
        let (mut rows, mut value_thousandths, mut returns, mut fees) = (0, 0, 0, 0);
        let (mut without_customer, mut without_description, mut finer_than_pence) = (0, 0, 0);
        let mut invoices = HashSet::new();
        for row in uci_rows(&data::uci().unwrap()).unwrap() {
            let row = row.unwrap();
            rows += 1;
            value_thousandths += row.quantity * row.unit_price_thousandths;
            returns += i32::from(row.quantity < 0);
            fees += i32::from(row.unit_price_thousandths < 0);
            without_customer += i32::from(row.customer.is_none());
            without_description += i32::from(row.description.is_none());
            finer_than_pence += i32::from(row.unit_price_thousandths % 10 != 0);
            invoices.insert(row.invoice);
        }
        assert_eq!(rows, 541_909);
        assert_eq!(invoices.len(), 25_900);
        assert_eq!(value_thousandths, 9_747_747_934);
        assert_eq!((returns, fees, finer_than_pence), (10_624, 2, 4));
        assert_eq!((without_customer, without_description), (135_080, 1_454));
    }
}

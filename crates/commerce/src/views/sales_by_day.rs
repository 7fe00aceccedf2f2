//! `sales-by-day`: what was ordered on each day. Key: the day of placing by business time, UTC, as in `2017-10-02`.

use super::units;
use crate::domain::OrderEvent;
use crate::money::PerCurrency;
use annals_core::{Key, Keys, Recorded, Row, View};

/// The orders placed on one day, cancelled ones included.
#[derive(Debug, Clone, PartialEq, Eq, Default, Row)]
pub struct SalesDayRow {
    /// Orders placed.
    pub orders: u64,
    /// Units in them.
    pub items: u64,
    /// Their totals, freight included.
    pub revenue: PerCurrency,
}

/// The view `sales-by-day`.
#[derive(Debug, Clone, Copy, Default)]
pub struct SalesByDay;

impl View for SalesByDay {
    const NAME: &'static str = "sales-by-day";
    const VERSION: u32 = 1;
    type Event = OrderEvent;
    type Row = SalesDayRow;

    fn route(&self, event: &Recorded<'_, OrderEvent>) -> Keys {
        match event.data() {
            OrderEvent::OrderPlaced { .. } => Keys::one(event.occurred_at().date_naive().to_string()),
            _ => Keys::none(),
        }
    }

    fn fold(&self, _key: &Key, row: Option<SalesDayRow>, event: &Recorded<'_, OrderEvent>) -> Option<SalesDayRow> {
        let mut row = row.unwrap_or_default();
        if let OrderEvent::OrderPlaced { total, items, .. } = event.data() {
            row.orders = row.orders.saturating_add(1);
            row.items = row.items.saturating_add(units(items));
            row.revenue.add(*total);
        }
        Some(row)
    }
}

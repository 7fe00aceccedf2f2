//! `products`: what sells. Key: the product's id.

use super::units;
use crate::domain::{Item, OrderEvent};
use crate::money::{Money, PerCurrency};
use annals_core::{Key, Keys, Recorded, Row, View};

/// One product in all orders placed, cancelled ones included.
#[derive(Debug, Clone, PartialEq, Eq, Default, Row)]
pub struct ProductRow {
    /// Units ordered.
    pub units: u64,
    /// Quantity times unit price, without freight.
    pub revenue: PerCurrency,
    /// Freight of its lines.
    pub freight: PerCurrency,
}

impl ProductRow {
    fn add(&mut self, item: &Item) {
        self.units = self.units.saturating_add(units([item]));
        let price = item.unit_price;
        self.revenue
            .add(Money::new(item.quantity.saturating_mul(price.amount), price.currency));
        if let Some(freight) = item.freight {
            self.freight.add(freight);
        }
    }
}

/// The view `products`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Products;

impl View for Products {
    const NAME: &'static str = "products";
    const VERSION: u32 = 1;
    type Event = OrderEvent;
    type Row = ProductRow;

    fn route(&self, event: &Recorded<'_, OrderEvent>) -> Keys {
        match event.data() {
            OrderEvent::OrderPlaced { items, .. } => Keys::many(items.iter().map(|item| item.product_id.as_str())),
            _ => Keys::none(),
        }
    }

    fn fold(&self, key: &Key, row: Option<ProductRow>, event: &Recorded<'_, OrderEvent>) -> Option<ProductRow> {
        let mut row = row.unwrap_or_default();
        if let OrderEvent::OrderPlaced { items, .. } = event.data() {
            let of_product = items.iter().filter(|item| item.product_id == key.as_str());
            of_product.for_each(|item| row.add(item));
        }
        Some(row)
    }
}

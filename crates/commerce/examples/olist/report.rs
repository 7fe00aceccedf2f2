//! What was converted, counted, beside what the sample is known to hold. Must not influence what is written.
//!
//! The known figures are the contract's (section 5, real input). A difference means that the files or the converter
//! changed, and every suite that relies on them with it.

use std::io::{self, Write};

use crate::command::{Command, Kind};
use crate::model::Order;

/// One counted thing. Sums are minor units.
pub(crate) struct Figure {
    name: String,
    found: i64,
    known: i64,
    is_money: bool,
}

impl Figure {
    /// Whether the figure is the known one.
    pub(crate) fn holds(&self) -> bool {
        self.found == self.known
    }
}

/// Counts what was written and what must come of it.
pub(crate) fn figures(orders: &[Order], commands: &[Command]) -> Vec<Figure> {
    let mut figures = vec![count("commands", commands.len(), 62_200)];
    figures.extend(Kind::ALL.into_iter().map(|kind| {
        let found = commands.iter().filter(|command| command.kind == kind).count();
        count(
            &format!("{}/{}", kind.aggregate(), kind.name()),
            found,
            known_count(kind),
        )
    }));
    figures.extend(sums(orders));
    figures.extend(oddities(orders));
    figures.extend(outcome(orders));
    figures
}

fn known_count(kind: Kind) -> i64 {
    match kind {
        Kind::Register => 8_016,
        Kind::Place => 8_135,
        Kind::Authorize => 8_924,
        Kind::Capture => 8_763,
        Kind::Approve => 7_989,
        Kind::Dispatch => 6_353,
        Kind::Deliver => 5_170,
        Kind::Cancel => 625,
        Kind::Review => 8_225,
    }
}

fn sums(orders: &[Order]) -> [Figure; 2] {
    [
        sum("authorized", paid(orders, |_| true), 142_860_281),
        sum("captured", paid(orders, |order| order.approved.is_some()), 139_342_764),
    ]
}

fn oddities(orders: &[Order]) -> [Figure; 4] {
    let early_reviews = orders
        .iter()
        .flat_map(|order| order.reviews.iter().map(move |review| (order, review)));
    [
        count(
            "orders without items",
            orders.iter().filter(|it| it.items.is_empty()).count(),
            775,
        ),
        count(
            "reviews before the placing",
            early_reviews
                .filter(|(order, review)| review.answered < order.purchased)
                .count(),
            58,
        ),
        count(
            "deliveries before the dispatch",
            orders
                .iter()
                .filter(|it| it.delivered.is_some_and(|time| Some(time) < it.dispatched))
                .count(),
            3,
        ),
        count(
            "dispatches before the placing",
            orders
                .iter()
                .filter(|it| it.dispatched.is_some_and(|time| time < it.purchased))
                .count(),
            3,
        ),
    ]
}

fn outcome(orders: &[Order]) -> Vec<Figure> {
    let known = [
        ("cancelled", 625),
        ("delivered", 5_164),
        ("shipped", 1_114),
        ("approved", 1_227),
        ("placed", 5),
    ];
    let mut figures: Vec<Figure> = known
        .into_iter()
        .map(|(name, known)| {
            count(
                &format!("finally {name}"),
                orders.iter().filter(|it| final_status(it) == name).count(),
                known,
            )
        })
        .collect();
    let is_refunded = |order: &Order| order.cancelled && order.approved.is_some();
    let refunded = orders
        .iter()
        .filter(|order| is_refunded(order))
        .map(|order| order.payments.len())
        .sum();
    figures.push(count("payments to refund", refunded, 508));
    figures.push(sum("refunds", paid(orders, is_refunded), 10_876_853));
    figures
}

fn final_status(order: &Order) -> &'static str {
    match order {
        Order { cancelled: true, .. } => "cancelled",
        Order { delivered: Some(_), .. } => "delivered",
        Order {
            dispatched: Some(_), ..
        } => "shipped",
        Order { approved: Some(_), .. } => "approved",
        _ => "placed",
    }
}

fn paid(orders: &[Order], is_counted: impl Fn(&Order) -> bool) -> i64 {
    orders
        .iter()
        .filter(|order| is_counted(order))
        .flat_map(|order| &order.payments)
        .map(|payment| payment.amount)
        .sum()
}

fn count(name: &str, found: usize, known: i64) -> Figure {
    Figure {
        name: name.to_owned(),
        found: i64::try_from(found).unwrap_or(i64::MAX),
        known,
        is_money: false,
    }
}

fn sum(name: &str, found: i64, known: i64) -> Figure {
    Figure {
        name: name.to_owned(),
        found,
        known,
        is_money: true,
    }
}

/// Writes the table; unchecked, without the known figures.
pub(crate) fn write(output: &mut impl Write, figures: &[Figure], checked: bool) -> io::Result<()> {
    for figure in figures {
        let found = shown(figure.found, figure.is_money);
        let verdict = match (checked, figure.holds()) {
            (false, _) => String::new(),
            (true, true) => "  ok".to_owned(),
            (true, false) => format!("  DIFFERS, expected {}", shown(figure.known, figure.is_money)),
        };
        writeln!(output, "{:<32}{found:>14}{verdict}", figure.name)?;
    }
    Ok(())
}

fn shown(value: i64, is_money: bool) -> String {
    if is_money {
        format!("{}.{:02}", value / 100, value % 100)
    } else {
        value.to_string()
    }
}

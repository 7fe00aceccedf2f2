//! Orders: what was bought, by whom, for how much. An order is placed once and approved at most once; it may be
//! cancelled at any time after that, also after its delivery.

use super::check::{TEXT_LEN_MAX, check_length, check_reference, rejection};
use crate::money::{Currency, Money, check_not_negative};
use annals_core::{Aggregate, Command, Decision, Event, Rejection, State, accept, accept_nothing, reject};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most items in an order.
pub const ITEMS_MAX: usize = 500;
/// Most reviews of an order.
pub const REVIEWS_MAX: usize = 100;

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// Which product.
    pub product_id: String,
    /// Who sells it.
    pub seller_id: Option<String>,
    /// How many units; at least 1.
    pub quantity: i64,
    /// Price of one unit; 0 or more.
    pub unit_price: Money,
    /// Freight of the whole line, not of each unit; 0 or more.
    pub freight: Option<Money>,
}

/// Commands of `orders/{id}`.
#[derive(Debug, Clone, PartialEq, Command)]
pub enum OrderCommand {
    /// Places the order. Not twice, whatever it says: two orders under one id are a mistake of the caller's.
    Place {
        /// The user who orders.
        customer_id: String,
        /// The one currency of all its amounts.
        currency: Currency,
        /// 1 to [`ITEMS_MAX`] items.
        items: Vec<Item>,
    },
    /// Approves the order: its payments are accepted.
    Approve,
    /// Cancels the order.
    Cancel {
        /// Why.
        reason: String,
    },
    /// Reviews the order. Several reviews may be given; the same one again is accepted without an event.
    Review {
        /// Tells the order's reviews apart.
        review_id: String,
        /// 1 (worst) to 5 (best).
        score: i64,
        /// In the customer's words.
        comment: Option<String>,
    },
}

/// Events of an order.
#[derive(Debug, Clone, PartialEq, Event)]
pub enum OrderEvent {
    /// An order was placed.
    #[event(tags(customer = customer_id))]
    OrderPlaced {
        /// The user who ordered.
        customer_id: String,
        /// Prices and freight of all items together.
        total: Money,
        /// What was ordered.
        items: Vec<Item>,
    },
    /// An order's payments were accepted.
    OrderApproved,
    /// An order was cancelled.
    OrderCancelled {
        /// Why.
        reason: String,
    },
    /// An order was reviewed.
    #[event(tags(review = review_id))]
    ReviewSubmitted {
        /// Tells the order's reviews apart.
        review_id: String,
        /// 1 (worst) to 5 (best).
        score: i64,
        /// In the customer's words.
        comment: Option<String>,
    },
}

/// What is so of an order.
#[derive(Debug, Clone, Default, PartialEq, State)]
pub struct Order {
    placed: bool,
    approved: bool,
    cancelled: bool,
    customer_id: Option<String>,
    total: Option<Money>,
    reviews: BTreeMap<String, Review>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Review {
    score: i64,
    comment: Option<String>,
}

impl Aggregate for Order {
    const CATEGORY: &'static str = "orders";
    type Command = OrderCommand;
    type Event = OrderEvent;

    fn decide(&self, command: OrderCommand) -> Decision<OrderEvent> {
        match command {
            OrderCommand::Place { .. } if self.placed => reject(
                "order-already-placed",
                "an order is placed once: place another order under an id of its own",
            ),
            OrderCommand::Place {
                customer_id,
                currency,
                items,
            } => place(customer_id, currency, items),
            _ if !self.placed => reject("order-not-placed", "there is no such order: place it first"),
            OrderCommand::Approve if self.approved => accept_nothing(),
            OrderCommand::Approve if self.cancelled => reject(
                "order-cancelled",
                "the order was cancelled before it was approved: place a new one",
            ),
            OrderCommand::Approve => accept([OrderEvent::OrderApproved]),
            OrderCommand::Cancel { .. } if self.cancelled => accept_nothing(),
            OrderCommand::Cancel { reason } => {
                check_length("reason", &reason, TEXT_LEN_MAX)?;
                accept([OrderEvent::OrderCancelled { reason }])
            }
            OrderCommand::Review {
                review_id,
                score,
                comment,
            } => self.review(review_id, Review { score, comment }),
        }
    }

    fn evolve(&mut self, event: &OrderEvent) {
        match event {
            OrderEvent::OrderPlaced { customer_id, total, .. } => {
                self.placed = true;
                self.customer_id = Some(customer_id.clone());
                self.total = Some(*total);
            }
            OrderEvent::OrderApproved => self.approved = true,
            OrderEvent::OrderCancelled { .. } => self.cancelled = true,
            OrderEvent::ReviewSubmitted {
                review_id,
                score,
                comment,
            } => {
                let review = Review {
                    score: *score,
                    comment: comment.clone(),
                };
                self.reviews.insert(review_id.clone(), review);
            }
        }
    }
}

impl Order {
    fn review(&self, review_id: String, review: Review) -> Decision<OrderEvent> {
        match self.reviews.get(&review_id) {
            Some(known) if *known == review => return accept_nothing(),
            Some(_) => {
                return reject(
                    "review-already-submitted",
                    "this review was submitted with another content: give a new one an id of its own",
                );
            }
            None if self.reviews.len() >= REVIEWS_MAX => {
                let message = format!("the order has {REVIEWS_MAX} reviews and takes no more: review another order");
                return reject("too-many-reviews", message);
            }
            None => {}
        }
        check_reference("review_id", &review_id)?;
        let Review { score, comment } = review;
        if !(1..=5).contains(&score) {
            return reject(
                "score-out-of-range",
                format!("the score is {score}: give 1 (worst) to 5 (best)"),
            );
        }
        check_length("comment", comment.as_deref().unwrap_or_default(), TEXT_LEN_MAX)?;
        accept([OrderEvent::ReviewSubmitted {
            review_id,
            score,
            comment,
        }])
    }
}

fn place(customer_id: String, currency: Currency, items: Vec<Item>) -> Decision<OrderEvent> {
    check_reference("customer_id", &customer_id)?;
    match items.len() {
        0 => return reject("order-empty", "the order has no items: give at least one"),
        1..=ITEMS_MAX => {}
        count => {
            let message = format!("the order has {count} items, {ITEMS_MAX} are allowed: place several orders");
            return reject("too-many-items", message);
        }
    }
    let mut total = 0_i64;
    for (index, item) in items.iter().enumerate() {
        check_item(index, item, currency)?;
        let sum = line_total(item).and_then(|line| total.checked_add(line));
        total = sum.ok_or_else(|| {
            rejection(
                "amount-too-large",
                format!(
                    "items[{index}] takes the order's total beyond {}: order less at once",
                    i64::MAX
                ),
            )
        })?;
    }
    accept([OrderEvent::OrderPlaced {
        customer_id,
        total: Money::new(total, currency),
        items,
    }])
}

fn line_total(item: &Item) -> Option<i64> {
    let price = item.quantity.checked_mul(item.unit_price.amount)?;
    price.checked_add(item.freight.map_or(0, |freight| freight.amount))
}

fn check_item(index: usize, item: &Item, currency: Currency) -> Result<(), Rejection> {
    check_reference(&format!("items[{index}].product_id"), &item.product_id)?;
    if let Some(seller) = &item.seller_id {
        check_reference(&format!("items[{index}].seller_id"), seller)?;
    }
    if item.quantity < 1 {
        let message = format!("items[{index}].quantity is {}: order at least 1", item.quantity);
        return Err(rejection("quantity-not-positive", message));
    }
    for (field, money) in [("unit_price", Some(item.unit_price)), ("freight", item.freight)] {
        let Some(money) = money else { continue };
        let field = format!("items[{index}].{field}");
        check_not_negative(&field, money)?;
        if money.currency != currency {
            let message = format!(
                "{field} is in {}, the order in {currency}: use one currency",
                money.currency
            );
            return Err(rejection("currency-mixed", message));
        }
    }
    Ok(())
}

//! Business traffic for demonstrations: what a small marketplace is asked, order by order.
//!
//! Deterministic: the same seed and number give the same commands, on every machine. Each order's commands stand on
//! their own (they register the customer, which is accepted without an event for one who is known), so orders may be
//! run side by side, each from its first command to its last. No command of it is rejected, however fast or slow the
//! fulfilment process is.

use serde_json::{Value, json};

/// Products on sale.
const PRODUCTS: u64 = 40;
const CURRENCY: &str = "EUR";

/// A command, as `POST /v1/commands/{category}/{id}/{command}` takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct TrafficCommand {
    /// Category of the aggregate.
    pub category: &'static str,
    /// Id of the stream.
    pub id: String,
    /// Name of the command.
    pub command: &'static str,
    /// Its JSON.
    pub data: Value,
}

/// A source of traffic.
#[derive(Debug, Clone, Copy)]
pub struct Traffic {
    seed: u64,
}

/// How an order goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// Paid, shipped, delivered.
    Delivered,
    /// As delivered, and part of the money is given back.
    PartlyRefunded,
    /// Paid, then cancelled: the process gives the money back.
    Cancelled,
    /// Paid and shipped, but lost: the process cancels and gives the money back.
    Lost,
    /// Placed and authorised; the money has not come yet.
    Open,
}

impl Traffic {
    /// The traffic of this seed.
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// All commands around the order of this number, in their order. Orders are `ord-<number>`.
    pub fn order(&self, number: u64) -> Vec<TrafficCommand> {
        // Numbers are spread out first: neighbours would otherwise draw each other's numbers, one step apart.
        let mut random = SplitMix64(SplitMix64(self.seed ^ SplitMix64(number).next()).next());
        let mut script = Script {
            order: format!("ord-{number}"),
            // About three orders a customer, also while there are few.
            customer: random.below(number / 3 + 1),
            commands: Vec::new(),
        };
        let total = script.place(&mut random);
        let course = match random.below(100) {
            0..70 => Course::Delivered,
            70..76 => Course::PartlyRefunded,
            76..85 => Course::Cancelled,
            85..90 => Course::Lost,
            _ => Course::Open,
        };
        script.pay(&mut random, total, course);
        script.ship(&mut random, course);
        script.commands
    }
}

struct Script {
    order: String,
    customer: u64,
    commands: Vec<TrafficCommand>,
}

impl Script {
    fn say(&mut self, category: &'static str, id: &str, command: &'static str, data: Value) {
        self.commands.push(TrafficCommand {
            category,
            id: id.to_owned(),
            command,
            data,
        });
    }

    fn say_of_order(&mut self, category: &'static str, command: &'static str, data: Value) {
        let id = self.order.clone();
        self.say(category, &id, command, data);
    }

    fn user(&self) -> String {
        format!("user-{}", self.customer)
    }

    /// Registers the customer and places the order; returns its total.
    fn place(&mut self, random: &mut SplitMix64) -> u64 {
        const CITIES: [(&str, &str); 5] = [
            ("Bern", "BE"),
            ("Basel", "BS"),
            ("Lugano", "TI"),
            ("Geneva", "GE"),
            ("Chur", "GR"),
        ];
        let (user, customer) = (self.user(), self.customer);
        let (city, state) = CITIES[(customer % CITIES.len() as u64) as usize];
        let data = json!({
            "email": format!("{user}@customers.example"),
            "name": format!("Customer {customer}"),
            "city": city,
            "state": state,
        });
        self.say("users", &user, "register", data);
        if random.chance(60) {
            self.say("users", &user, "sign-in", json!({}));
        }
        let (mut items, mut total) = (Vec::new(), 0);
        for _ in 0..=random.below(3) {
            let product = random.below(PRODUCTS);
            let (quantity, price, freight) = (1 + random.below(3), 490 + product * 730, 300 + product % 7 * 100);
            total += quantity * price + freight;
            items.push(json!({
                "product_id": format!("prod-{product}"),
                "seller_id": format!("seller-{}", product % 8),
                "quantity": quantity,
                "unit_price": money(price),
                "freight": money(freight),
            }));
        }
        let data = json!({ "customer_id": user, "currency": CURRENCY, "items": items });
        self.say_of_order("orders", "place", data);
        total
    }

    /// Authorises the total in one payment or two; some fail first. Captures them unless the order stays open.
    fn pay(&mut self, random: &mut SplitMix64, total: u64, course: Course) {
        const METHODS: [&str; 4] = ["credit_card", "credit_card", "bank_transfer", "voucher"];
        let method = |random: &mut SplitMix64| METHODS[random.below(METHODS.len() as u64) as usize];
        let first = if random.chance(15) { total / 2 } else { total };
        let parts = [first, total - first].into_iter().filter(|part| *part > 0);
        let mut captured = Vec::new();
        let mut sequence = 0;
        for amount in parts {
            let fails = random.chance(6);
            for attempt in 0..=u8::from(fails) {
                sequence += 1;
                let id = format!("{}-{sequence}", self.order);
                let method = method(random);
                let data = json!({ "order_id": self.order, "method": method, "amount": money(amount) });
                self.say("payments", &id, "authorize", data);
                if fails && attempt == 0 {
                    self.say("payments", &id, "fail", json!({ "reason": "declined by the issuer" }));
                } else {
                    captured.push((id, amount));
                }
            }
        }
        if course == Course::Open {
            return;
        }
        for (id, _) in &captured {
            self.say("payments", id, "capture", json!({}));
        }
        if let (Course::PartlyRefunded, Some((id, amount))) = (course, captured.first()) {
            let data = json!({ "amount": money(amount / 4 + 1), "reason": "damaged on the way" });
            self.say("payments", id, "refund", data);
        }
    }

    /// What happens after the payment, up to the customer's leaving.
    fn ship(&mut self, random: &mut SplitMix64, course: Course) {
        // Most approvals are left to the fulfilment process; here and there a person is faster.
        if course != Course::Open && random.chance(20) {
            self.say_of_order("orders", "approve", json!({}));
        }
        match course {
            Course::Open => {}
            Course::Cancelled => {
                let data = json!({ "reason": "the customer changed their mind" });
                self.say_of_order("orders", "cancel", data);
            }
            Course::Delivered | Course::PartlyRefunded | Course::Lost => {
                let data = json!({ "order_id": self.order, "carrier": "Post" });
                self.say_of_order("shipments", "dispatch", data);
            }
        }
        if course == Course::Lost {
            self.say_of_order("shipments", "fail", json!({ "reason": "lost by the carrier" }));
        }
        if matches!(course, Course::Delivered | Course::PartlyRefunded) {
            self.say_of_order("shipments", "deliver", json!({}));
            if random.chance(50) {
                let review = format!("rev-{}", self.order);
                let data = json!({ "review_id": review, "score": 1 + random.below(5) });
                self.say_of_order("orders", "review", data);
            }
        }
        if random.chance(40) {
            let user = self.user();
            self.say("users", &user, "sign-out", json!({}));
        }
    }
}

fn money(amount: u64) -> Value {
    json!({ "amount": amount, "currency": CURRENCY })
}

/// splitmix64 of Steele, Lea and Flood (2014): enough for traffic, and ten lines.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to below `bound`; `bound` is not 0.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

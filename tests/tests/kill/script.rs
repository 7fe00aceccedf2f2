//! What a client says: orders from their placing to their end, each command with a key of its own. Knows the domain's
//! commands, and nothing of how they are sent.

use std::collections::VecDeque;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

/// Not a command of the domain: events appended as they are.
const APPEND: &str = "append";

/// One command.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    pub(crate) stream: String,
    pub(crate) name: &'static str,
    pub(crate) data: Value,
    pub(crate) key: String,
}

impl Command {
    /// Where it is sent to.
    pub(crate) fn path(&self) -> String {
        match self.name {
            APPEND => format!("/v1/streams/{}", self.stream),
            name => format!("/v1/commands/{}/{name}", self.stream),
        }
    }
}

/// The endless script of one client.
pub(crate) struct Script {
    client: u64,
    random: StdRng,
    orders: u64,
    said: u64,
    next: VecDeque<Command>,
}

impl Script {
    pub(crate) fn new(client: u64, seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed ^ (client + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut script = Self {
            client,
            random,
            orders: 0,
            said: 0,
            next: VecDeque::new(),
        };
        for user in [script.user(), script.shared_user()] {
            let data = json!({ "email": format!("{user}@customers.example"), "name": user });
            script.say("users", &user, "register", data);
        }
        script
    }

    pub(crate) fn next(&mut self) -> Command {
        loop {
            match self.next.pop_front() {
                Some(command) => return command,
                None => self.order(),
            }
        }
    }

    fn user(&self) -> String {
        format!("user-{}", self.client)
    }

    /// A user in whose name several clients speak, so that commands meet in one stream.
    fn shared_user(&self) -> String {
        format!("shared-{}", self.client % 4)
    }

    fn say(&mut self, category: &str, id: &str, name: &'static str, data: Value) {
        self.said += 1;
        let key = format!("c{}-{}", self.client, self.said);
        self.next.push_back(Command {
            stream: format!("{category}/{id}"),
            name,
            data,
            key,
        });
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_ratio(percent, 100)
    }

    /// Everything around one order.
    fn order(&mut self) {
        self.orders += 1;
        let order = format!("ord-{}-{}", self.client, self.orders);
        let users = [self.user(), self.shared_user()];
        // A sign-in is an event every time it is said: said twice, it would be there twice.
        users
            .iter()
            .for_each(|user| self.say("users", user, "sign-in", json!({})));
        let total = self.place(&order, &users[0]);
        let parts = if self.chance(30) {
            vec![total / 3, total - total / 3]
        } else {
            vec![total]
        };
        let payments: Vec<String> = (1..=parts.len()).map(|part| format!("{order}-{part}")).collect();
        for (id, amount) in payments.iter().zip(parts) {
            let data =
                json!({ "order_id": order, "method": "credit_card", "amount": money(amount), "installments": 1 });
            self.say("payments", id, "authorize", data);
        }
        let course = self.random.random_range(0..100);
        if course < 15 {
            // Cancelled first: what is captured afterwards has to be given back all the same.
            self.say("orders", &order, "cancel", json!({ "reason": "too slow" }));
        }
        payments
            .iter()
            .for_each(|id| self.say("payments", id, "capture", json!({})));
        if self.chance(15) {
            let data = json!({ "amount": money(7), "reason": "a scratch" });
            self.say("payments", &payments[0], "refund", data);
        }
        match course {
            15..45 => self.say(
                "orders",
                &order,
                "cancel",
                json!({ "reason": "another one was cheaper" }),
            ),
            45..90 => self.ship(&order, course < 60),
            _ => {}
        }
        let note = json!({
            "specversion": "1.0",
            "id": format!("note-of-{order}"),
            "source": "clients",
            "type": "Noted",
            "data": { "order_id": order, "text": "all said" },
        });
        self.say("notes", &self.user(), APPEND, note);
        if self.chance(30) {
            self.say("users", &users[0], "sign-out", json!({}));
        }
    }

    fn place(&mut self, order: &str, user: &str) -> i64 {
        let (mut items, mut total) = (Vec::new(), 0);
        for product in 0..self.random.random_range(1..4) {
            let (quantity, price) = (self.random.random_range(1..4), self.random.random_range(100..9_999));
            total += quantity * price + 250;
            items.push(json!({
                "product_id": format!("prod-{product}"),
                "quantity": quantity,
                "unit_price": money(price),
                "freight": money(250),
            }));
        }
        self.say(
            "orders",
            order,
            "place",
            json!({ "customer_id": user, "currency": "EUR", "items": items }),
        );
        total
    }

    fn ship(&mut self, order: &str, lost: bool) {
        self.say(
            "shipments",
            order,
            "dispatch",
            json!({ "order_id": order, "carrier": "Post" }),
        );
        if lost {
            self.say("shipments", order, "fail", json!({ "reason": "lost" }));
        } else {
            self.say("shipments", order, "deliver", json!({}));
            self.say(
                "orders",
                order,
                "review",
                json!({ "review_id": format!("rev-{order}"), "score": 5 }),
            );
        }
    }
}

fn money(amount: i64) -> Value {
    json!({ "amount": amount, "currency": "EUR" })
}

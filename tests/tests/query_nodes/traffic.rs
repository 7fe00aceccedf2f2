//! Clients that write at the command node and read at the query nodes, and know what they must find there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use annals_tests::http::{Answer, Client};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// What is said of an order, step by step, and the status that it has then.
const STEPS: [(&str, &str, &str); 4] = [
    ("orders", "place", "placed"),
    ("orders", "approve", "approved"),
    ("shipments", "dispatch", "shipped"),
    ("shipments", "deliver", "delivered"),
];
/// How long a node that was killed may be away.
const AWAY_MAX: Duration = Duration::from_secs(120);

/// Positions at which an order came to each status, as far as it was acknowledged.
type Course = Vec<u64>;

/// What was written and what was found.
#[derive(Default)]
pub(crate) struct Ledger {
    orders: Mutex<HashMap<String, Course>>,
    stop: AtomicBool,
    /// Counts the kills of query nodes: one that was killed may begin again behind what it had shown.
    pub(crate) lives: AtomicU64,
    /// Answers that were compared with what had been written.
    pub(crate) compared: AtomicU64,
    /// Answers that said that the view is not there yet.
    pub(crate) behind: AtomicU64,
}

impl Ledger {
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn note(&self, order: &str, position: u64) {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.entry(order.to_owned()).or_default().push(position);
    }

    /// The status that an order has in all cases for who has read up to `position`; `None` if it may be missing.
    fn least(&self, order: &str, position: u64) -> Option<usize> {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.get(order)?.iter().rposition(|written| *written <= position)
    }

    /// Every order with the status that it came to.
    pub(crate) fn last(&self) -> HashMap<String, &'static str> {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let last = |(order, course): (&String, &Course)| (order.clone(), STEPS[course.len() - 1].2);
        orders.iter().map(last).collect()
    }
}

/// How far a node had read when it answered last: within one life it never goes back.
#[derive(Default)]
struct Seen(HashMap<String, (u64, u64)>);

impl Seen {
    /// An answer, and how many kills had been before it was asked for.
    fn answered(&mut self, node: &Client, lives: u64, position: u64) -> Result<()> {
        if let Some((_, last)) = self.0.get(node.url()).filter(|(life, _)| *life == lives) {
            ensure!(
                position >= *last,
                "{} answers as of {position}, after an answer as of {last}",
                node.url()
            );
        }
        self.0.insert(node.url().to_owned(), (lives, position));
        Ok(())
    }
}

/// Writes orders, step by step, and reads each of them back at one of the query nodes right after.
pub(crate) fn write_and_read(writer: usize, command: &Client, nodes: &[Client], ledger: &Ledger) -> Result<()> {
    let mut seen = Seen::default();
    for number in 0.. {
        let order = format!("ord-{writer}-{number}");
        for (step, (category, name, _)) in STEPS.into_iter().enumerate() {
            if ledger.stopped() {
                return Ok(());
            }
            let position = say(command, category, &order, name, &data(name, &order))?;
            ledger.note(&order, position);
            let node = &nodes[(number + step) % nodes.len()];
            // A node that is away or behind says so; one that answers must know what was written.
            let path = format!("/v1/views/orders/{order}?min_position={position}&wait=3000");
            check(node, &path, &order, ledger, &mut seen)?;
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}

/// Reads the orders as they come, however new the node is: what it says to have read it must show.
pub(crate) fn read(reader: usize, nodes: &[Client], ledger: &Ledger) -> Result<()> {
    let mut seen = Seen::default();
    for number in 0.. {
        if ledger.stopped() {
            break;
        }
        for writer in 0..3 {
            let order = format!("ord-{writer}-{}", number % 50);
            let path = format!("/v1/views/orders/{order}");
            check(
                &nodes[(reader + number) % nodes.len()],
                &path,
                &order,
                ledger,
                &mut seen,
            )?;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn check(node: &Client, path: &str, order: &str, ledger: &Ledger, seen: &mut Seen) -> Result<()> {
    let lives = ledger.lives.load(Ordering::SeqCst);
    // Who was killed does not answer: that is no wrong answer.
    let Ok(answer) = node.get(path) else { return Ok(()) };
    if answer.status == 503 {
        ledger.behind.fetch_add(1, Ordering::Relaxed);
        return Ok(());
    }
    let shown = || format!("{} at {}: {} {}", order, node.url(), answer.status, answer.text());
    let wanted = path
        .split("min_position=")
        .nth(1)
        .and_then(|rest| rest.split('&').next());
    let position = header(&answer, "annals-position").with_context(shown)?;
    if ledger.lives.load(Ordering::SeqCst) == lives {
        seen.answered(node, lives, position)?;
    }
    header(&answer, "annals-lag").with_context(shown)?;
    header(&answer, "annals-log-age").with_context(shown)?;
    if let Some(wanted) = wanted {
        ensure!(
            position >= wanted.parse()?,
            "an older answer than was asked for: {}",
            shown()
        );
    }
    let least = ledger.least(order, position);
    let found = match answer.status {
        404 => None,
        200 => {
            let status = answer.json()?["status"]
                .as_str()
                .map(str::to_owned)
                .with_context(shown)?;
            let step = STEPS.iter().position(|(.., known)| *known == status);
            Some(step.with_context(shown)?)
        }
        _ => bail!("{}", shown()),
    };
    ensure!(
        found >= least,
        "the node has read up to {position}, where the order had come to step {least:?}: {}",
        shown()
    );
    ledger.compared.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

fn header(answer: &Answer, name: &str) -> Result<u64> {
    let text = answer.header(name);
    text.parse().with_context(|| format!("header {name} is {text:?}"))
}

fn data(command: &str, order: &str) -> Value {
    let price = json!({ "amount": 500, "currency": "EUR" });
    let item = json!({ "product_id": "tea", "quantity": 2, "unit_price": price });
    match command {
        "place" => json!({ "customer_id": "ann", "currency": "EUR", "items": [item] }),
        "dispatch" => json!({ "order_id": order }),
        _ => json!({}),
    }
}

/// Sends a command until it is answered; the position of its last event.
pub(crate) fn say(client: &Client, category: &str, id: &str, command: &str, data: &Value) -> Result<u64> {
    let path = format!("/v1/commands/{category}/{id}/{command}");
    let key = format!("{category}-{id}-{command}");
    let begun = Instant::now();
    loop {
        match client.post(&path, &[("idempotency-key", &key)], data) {
            Ok(answer) if answer.status != 503 => {
                let body = answer.expect(200)?.json()?;
                return Ok(body["position"].as_str().context("no position")?.parse()?);
            }
            _ => {}
        }
        ensure!(begun.elapsed() < AWAY_MAX, "{path} is not answered");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Places an order; the position of its last event.
pub(crate) fn place(client: &Client, order: &str) -> Result<u64> {
    say(client, "orders", order, "place", &data("place", order))
}

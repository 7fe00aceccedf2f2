//! One bad request and what has to come of it. Knows the form of problems, and no request by itself.

use annals_tests::http::Client;
use annals_tests::server::Server;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// A bad request.
pub(crate) struct Case {
    what: &'static str,
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Option<Vec<u8>>,
    status: u16,
    name: &'static str,
    /// What the detail has to say.
    says: &'static str,
}

impl Case {
    pub(crate) fn get(what: &'static str, path: impl Into<String>) -> Self {
        Self {
            what,
            method: "GET",
            path: path.into(),
            headers: Vec::new(),
            body: None,
            status: 0,
            name: "",
            says: "",
        }
    }

    /// A POST of these bytes as JSON.
    pub(crate) fn post(what: &'static str, path: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        let case = Self {
            method: "POST",
            body: Some(body.into()),
            ..Self::get(what, path)
        };
        case.header("content-type", "application/json")
    }

    pub(crate) fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    /// Sets a header, in place of one of that name.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(other, _)| *other != name);
        self.headers.push((name, value.into()));
        self
    }

    /// The problem that it has to be answered with, and words of its detail.
    pub(crate) fn is(mut self, status: u16, name: &'static str, says: &'static str) -> Self {
        (self.status, self.name, self.says) = (status, name, says);
        self
    }

    /// Sends it and looks at the answer; returns the problem.
    pub(crate) fn check(&self, client: &Client) -> Result<Value> {
        let headers: Vec<(&str, &str)> = self
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let answer = client.send(self.method, &self.path, &headers, self.body.as_deref());
        let answer = answer.with_context(|| self.what.to_owned())?;
        let detail = answer
            .problem(self.status, self.name)
            .with_context(|| self.what.to_owned())?;
        ensure!(
            detail.contains(self.says),
            "{}: {detail:?} does not say {:?}",
            self.what,
            self.says
        );
        if self.status == 405 {
            ensure!(!answer.header("allow").is_empty(), "{}: no Allow", self.what);
        }
        answer.json()
    }
}

/// Checks every case, and after each that the log is as long as before.
pub(crate) fn check_all(server: &Server, client: &Client, cases: &[Case]) -> Result<()> {
    let head = server.head()?;
    for case in cases {
        case.check(client)?;
        ensure!(server.head()? == head, "{}: it left an event in the log", case.what);
    }
    ensure!(client.get("/healthz")?.status == 200, "not healthy any more");
    Ok(())
}

/// The body that registers a user.
pub(crate) fn user() -> Value {
    user_at("ann")
}

/// The body that registers a user with an address of this name; one address belongs to one user.
pub(crate) fn user_at(name: &str) -> Value {
    json!({ "email": format!("{name}@customers.example"), "name": "Ann" })
}

/// The body that places an order of one item.
pub(crate) fn order() -> Value {
    let price = json!({ "amount": 1_000, "currency": "EUR" });
    json!({
        "customer_id": "ann",
        "currency": "EUR",
        "items": [{ "product_id": "p", "quantity": 1, "unit_price": price }],
    })
}

/// An event of nobody's domain.
pub(crate) fn event(id: &str) -> Value {
    json!({ "specversion": "1.0", "id": id, "source": "/tests", "type": "Noted", "data": { "text": "x" } })
}

/// `[[[…]]]`, so deep.
pub(crate) fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

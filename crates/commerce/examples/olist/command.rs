//! One line of command NDJSON, as `annals load` and `POST /v1/commands` take it. Knows nothing of Olist's tables.

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

/// The commands that Olist gives, in the order in which those of one instant come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Register,
    Place,
    Authorize,
    Capture,
    Approve,
    Dispatch,
    Deliver,
    Cancel,
    Review,
}

impl Kind {
    pub(crate) const ALL: [Self; 9] = [
        Self::Register,
        Self::Place,
        Self::Authorize,
        Self::Capture,
        Self::Approve,
        Self::Dispatch,
        Self::Deliver,
        Self::Cancel,
        Self::Review,
    ];

    pub(crate) fn aggregate(self) -> &'static str {
        match self {
            Self::Register => "users",
            Self::Place | Self::Approve | Self::Cancel | Self::Review => "orders",
            Self::Authorize | Self::Capture => "payments",
            Self::Dispatch | Self::Deliver => "shipments",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Place => "place",
            Self::Authorize => "authorize",
            Self::Capture => "capture",
            Self::Approve => "approve",
            Self::Dispatch => "dispatch",
            Self::Deliver => "deliver",
            Self::Cancel => "cancel",
            Self::Review => "review",
        }
    }
}

/// One command, ready to be written as a line.
pub(crate) struct Command {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    pub(crate) occurred_at: DateTime<Utc>,
    /// Tells commands of one kind apart within a stream: the review's id, else nothing.
    pub(crate) part: Option<String>,
    pub(crate) data: Value,
}

impl Command {
    /// The idempotency key: the same for the same row in every run, so that a second load does nothing twice.
    pub(crate) fn key(&self) -> String {
        let (aggregate, name) = (self.kind.aggregate(), self.kind.name());
        match &self.part {
            None => format!("olist/{aggregate}/{}/{name}", self.id),
            Some(part) => format!("olist/{aggregate}/{}/{name}/{part}", self.id),
        }
    }
}

impl Serialize for Command {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Line<'a> {
            aggregate: &'a str,
            id: &'a str,
            command: &'a str,
            data: &'a Value,
            key: String,
            occurred_at: DateTime<Utc>,
        }
        let line = Line {
            aggregate: self.kind.aggregate(),
            id: &self.id,
            command: self.kind.name(),
            data: &self.data,
            key: self.key(),
            occurred_at: self.occurred_at,
        };
        line.serialize(serializer)
    }
}

/// Minor units as the domain writes money. Olist has one currency.
pub(crate) fn money(amount: i64) -> Value {
    json!({ "amount": amount, "currency": CURRENCY })
}

pub(crate) const CURRENCY: &str = "BRL";

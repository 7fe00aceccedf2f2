//! What is asked of a server: one request after the other, for each connection its own.

use super::domain::{Bench, CATEGORY, EVENT_TYPE, StreamIds};
use super::log::{TENS_CATEGORY, ten_id};
use super::payloads::Payloads;
use annals_commerce::{Traffic, TrafficCommand};
use annals_core::{Aggregate as _, Position};
use anyhow::Result;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A request, but for the host.
pub(super) struct Call {
    pub(super) method: &'static str,
    pub(super) path: String,
    /// Content type and bytes.
    pub(super) body: Option<(&'static str, Bytes)>,
}

impl Call {
    pub(super) fn post(path: String, content_type: &'static str, body: Bytes) -> Self {
        Self {
            method: "POST",
            path,
            body: Some((content_type, body)),
        }
    }

    fn get(path: String) -> Self {
        Self {
            method: "GET",
            path,
            body: None,
        }
    }
}

/// What one connection asks.
pub(super) trait Calls: Send + 'static {
    /// The next request.
    fn next_call(&mut self) -> Result<Call>;
}

/// Commands of the benchmark's own aggregate.
pub(super) struct Commands(StreamIds, Payloads);

impl Commands {
    pub(super) fn of(connection: usize) -> Self {
        Self(StreamIds::of(connection), Payloads::of(connection))
    }
}

impl Calls for Commands {
    fn next_call(&mut self) -> Result<Call> {
        let path = format!("/v1/commands/{}/{}/write", Bench::CATEGORY, self.0.next_id());
        Ok(Call::post(path, "application/json", self.1.next_json().clone()))
    }
}

/// Events appended to streams, which any server takes.
pub(super) struct Appends(StreamIds, Payloads);

impl Appends {
    pub(super) fn of(connection: usize) -> Self {
        Self(StreamIds::of(connection), Payloads::of(connection))
    }
}

impl Calls for Appends {
    fn next_call(&mut self) -> Result<Call> {
        let path = format!("/v1/streams/{CATEGORY}/{}", self.0.next_id());
        let event = cloud_event(self.1.next_json());
        Ok(Call::post(path, "application/cloudevents+json", event.into()))
    }
}

fn cloud_event(data: &Bytes) -> Vec<u8> {
    let id = uuid::Uuid::now_v7();
    let mut event = format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"annals-bench","type":"{EVENT_TYPE}","datacontenttype":"application/json","data":"#
    )
    .into_bytes();
    event.extend_from_slice(data);
    event.push(b'}');
    event
}

/// Orders of the reference domain, each from its first command to its last.
pub(super) struct Orders {
    next_order: Arc<AtomicU64>,
    waiting: std::vec::IntoIter<TrafficCommand>,
}

impl Orders {
    /// Orders whose numbers are shared by all connections, so that none comes twice.
    pub(super) fn of(next_order: &Arc<AtomicU64>) -> Self {
        Self {
            next_order: Arc::clone(next_order),
            waiting: Vec::new().into_iter(),
        }
    }
}

impl Calls for Orders {
    fn next_call(&mut self) -> Result<Call> {
        let command = loop {
            match self.waiting.next() {
                Some(command) => break command,
                None => {
                    let number = self.next_order.fetch_add(1, Ordering::Relaxed);
                    self.waiting = Traffic::new(2017).order(number).into_iter();
                }
            }
        };
        let path = format!("/v1/commands/{}/{}/{}", command.category, command.id, command.command);
        let body = serde_json::to_vec(&command.data)?.into();
        Ok(Call::post(path, "application/json", body))
    }
}

/// Reads of whole streams of ten events.
pub(super) struct StreamReads(pub(super) usize);

impl Calls for StreamReads {
    fn next_call(&mut self) -> Result<Call> {
        self.0 += 1;
        Ok(Call::get(format!("/v1/streams/{TENS_CATEGORY}/{}", ten_id(self.0))))
    }
}

/// Rows of orders, each as it is and then as it was.
pub(super) struct OrderReads {
    sampled: Arc<Vec<(String, Position)>>,
    next: usize,
}

impl OrderReads {
    /// Of these orders in turns, and what they were at these positions.
    pub(super) fn of(sampled: &Arc<Vec<(String, Position)>>) -> Self {
        Self {
            sampled: Arc::clone(sampled),
            next: 0,
        }
    }
}

impl Calls for OrderReads {
    fn next_call(&mut self) -> Result<Call> {
        let (id, position) = &self.sampled[self.next / 2 % self.sampled.len()];
        let as_of = self.next % 2 == 1;
        self.next += 1;
        Ok(Call::get(match as_of {
            false => format!("/v1/views/orders/{id}"),
            true => format!("/v1/views/orders/{id}?as_of={position}"),
        }))
    }
}

/// The least that a server can be asked: a fixed answer.
pub(super) struct Health;

impl Calls for Health {
    fn next_call(&mut self) -> Result<Call> {
        Ok(Call::get("/healthz".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_of_all_connections_are_different_ones() {
        let next = Arc::new(AtomicU64::new(7));
        let mut connections = [Orders::of(&next), Orders::of(&next)];
        let mut placed = std::collections::HashSet::new();
        for turn in 0..400 {
            let call = connections[turn % 2].next_call().unwrap();
            let path = call.path;
            if path.ends_with("/place") {
                assert!(placed.insert(path.clone()), "{path} twice");
            }
        }
        assert!(placed.len() > 20, "{placed:?}");
    }
}

//! A backend of one thread: states, a log in memory, the views and the process. Knows the domain, but no figures.

use crate::{command::Command as Line, model, plan};
use annals_commerce::{Fulfilment, Order, OrderProgress, Payment, Shipment, User};
use annals_core::{
    Aggregate, Command, CommandCall, Event, EventIdRef, Header, Position, Reactor, RecordRef, Recorded, View,
};
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// An event of the log in memory.
struct Entry {
    stream: String,
    event_type: &'static str,
    payload: Vec<u8>,
    occurred_at: DateTime<Utc>,
}

impl Entry {
    fn read<T>(&self, position: usize, read: impl FnOnce(&RecordRef<'_>) -> T) -> T {
        let id = position.to_string();
        let mut header = Header::new(&self.stream, 1, EventIdRef::Text(&id), self.event_type, 0);
        header.occurred = Some(self.occurred_at.timestamp_micros());
        read(&RecordRef {
            position: Position::new(position as u64),
            header,
            header_bytes: &[],
            payload: &self.payload,
        })
    }
}

/// Everything that came of the commands.
#[derive(Default)]
pub(crate) struct World {
    log: Vec<Entry>,
    users: HashMap<String, User>,
    orders: HashMap<String, Order>,
    payments: HashMap<String, Payment>,
    shipments: HashMap<String, Shipment>,
    progress: HashMap<String, OrderProgress>,
    /// Events that the process has read.
    read: usize,
}

impl World {
    /// Runs all commands; the process reads what there is after every `lag` of them, and at the end.
    pub(crate) fn load(directory: &Path, lag: usize) -> Self {
        let mut world = Self::default();
        let lines = plan::commands(&model::read(directory).unwrap());
        assert_eq!(lines.len(), 62_200);
        for (index, line) in lines.iter().enumerate() {
            world.run(line);
            if index % lag == 0 {
                world.react();
            }
        }
        world.react();
        world
    }

    /// Events by type.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for entry in &self.log {
            *counts.entry(entry.event_type).or_default() += 1;
        }
        counts
    }

    fn run(&mut self, line: &Line) {
        let (body, time) = (line.data.to_string(), line.occurred_at);
        let (id, name, log) = (&line.id, line.kind.name(), &mut self.log);
        match line.kind.aggregate() {
            "users" => decide(log, &mut self.users, id, read(name, &body), time),
            "orders" => decide(log, &mut self.orders, id, read(name, &body), time),
            "payments" => decide(log, &mut self.payments, id, read(name, &body), time),
            _ => decide(log, &mut self.shipments, id, read(name, &body), time),
        }
    }

    /// Lets the process read on, also what its own commands bring about.
    fn react(&mut self) {
        while self.read < self.log.len() {
            let position = self.read;
            self.read += 1;
            let progress = &mut self.progress;
            let entry = &self.log[position];
            let time = entry.occurred_at;
            let calls = entry.read(position, |record| {
                let Some(event) = Recorded::decode(record).unwrap() else {
                    return Vec::new();
                };
                let keys = Fulfilment.route(&event).into_iter();
                let calls = keys.map(|key| {
                    let state = progress.entry(key.to_string()).or_default();
                    Fulfilment.evolve(state, &event);
                    Fulfilment.react(state, &event).unwrap()
                });
                calls.flatten().collect()
            });
            calls.iter().for_each(|call| self.send(call, time));
        }
    }

    fn send(&mut self, call: &CommandCall, time: DateTime<Utc>) {
        let (id, log) = (&call.id, &mut self.log);
        match call.category.as_str() {
            Order::CATEGORY => decide(log, &mut self.orders, id, sent::<Order>(call), time),
            Payment::CATEGORY => decide(log, &mut self.payments, id, sent::<Payment>(call), time),
            other => panic!("the process has nothing to say to {other}"),
        }
    }
}

fn read<C: Command>(name: &str, body: &str) -> C {
    C::from_json(name, body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error}"))
}

fn sent<A: Aggregate>(call: &CommandCall) -> A::Command {
    A::Command::from_msgpack(&call.command, &call.body).unwrap()
}

fn decide<A: Aggregate>(
    log: &mut Vec<Entry>,
    states: &mut HashMap<String, A>,
    id: &str,
    command: A::Command,
    time: DateTime<Utc>,
) {
    let state = states.entry(id.to_owned()).or_default();
    let name = command.name();
    let events = state.decide(command);
    let events = events.unwrap_or_else(|rejection| panic!("{}/{id} {name} at {time}: {rejection}", A::CATEGORY));
    for event in events {
        state.evolve(&event);
        log.push(Entry {
            stream: format!("{}/{id}", A::CATEGORY),
            event_type: event.event_type().name,
            payload: event.encode().unwrap(),
            occurred_at: time,
        });
    }
}

/// All rows of a view, folded from the log.
pub(crate) fn rows<V: View>(view: &V, world: &World) -> BTreeMap<String, V::Row> {
    let mut rows = BTreeMap::new();
    for (position, entry) in world.log.iter().enumerate() {
        entry.read(position, |record| {
            let Some(event) = Recorded::<V::Event>::decode(record).unwrap() else {
                return;
            };
            for key in view.route(&event) {
                let row = rows.remove(key.as_str());
                if let Some(row) = view.fold(&key, row, &event) {
                    rows.insert(key.to_string(), row);
                }
            }
        });
    }
    rows
}

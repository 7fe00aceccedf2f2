//! The generated traffic is accepted by the domain.

use annals_commerce::{Order, Payment, Shipment, Traffic, TrafficCommand, User};
use annals_core::{Aggregate, Command};
use std::collections::{BTreeMap, BTreeSet};

/// Decides one command after the other; returns what it was refused for.
fn run<A: Aggregate>(states: &mut BTreeMap<String, A>, said: &TrafficCommand) -> Result<usize, String> {
    let state = states.entry(said.id.clone()).or_default();
    let command = A::Command::from_json(said.command, said.data.to_string().as_bytes());
    let events = state.decide(command.map_err(|error| error.to_string())?);
    let events = events.map_err(|error| format!("{said:?}: {error}"))?;
    events.iter().for_each(|event| state.evolve(event));
    Ok(events.len())
}

#[test]
fn no_command_is_rejected_and_every_kind_of_it_occurs() {
    let (mut users, mut orders) = (BTreeMap::<String, User>::new(), BTreeMap::<String, Order>::new());
    let (mut payments, mut shipments) = (BTreeMap::<String, Payment>::new(), BTreeMap::<String, Shipment>::new());
    let mut kinds = BTreeSet::new();
    for number in 0..500 {
        for said in Traffic::new(7).order(number) {
            let events = match said.category {
                "users" => run(&mut users, &said),
                "orders" => run(&mut orders, &said),
                "payments" => run(&mut payments, &said),
                _ => run(&mut shipments, &said),
            };
            if events.unwrap() > 0 {
                kinds.insert(format!("{} {}", said.category, said.command));
            }
        }
    }
    assert_eq!(orders.len(), 500);
    assert!((60..170).contains(&users.len()), "{} customers", users.len());
    let expected = [
        "orders approve",
        "orders cancel",
        "orders place",
        "orders review",
        "payments authorize",
        "payments capture",
        "payments fail",
        "payments refund",
        "shipments deliver",
        "shipments dispatch",
        "shipments fail",
        "users register",
        "users sign-in",
        "users sign-out",
    ];
    assert_eq!(kinds, expected.map(str::to_owned).into());
}

#[test]
fn the_same_seed_gives_the_same_traffic_and_another_seed_another() {
    let all = |seed| -> Vec<_> { (0..50).flat_map(|number| Traffic::new(seed).order(number)).collect() };
    assert_eq!(all(1), all(1));
    assert_ne!(all(1), all(2));
}

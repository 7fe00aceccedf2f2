//! The binary `annals`: the command line over the reference domain.

use annals::prelude::*;
use annals_commerce::{
    Customers, Fulfilment, OnlineUsers, Order, Orders, Payment, Payments, PaymentsByMethod, Products, SalesByDay,
    Shipment, Traffic, User,
};
use serde_json::json;

/// Requests allocate in many small pieces on several threads, which the system's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    annals::run(
        Backend::new("commerce")
            .aggregate::<User>()
            .aggregate::<Order>()
            .aggregate::<Payment>()
            .aggregate::<Shipment>()
            .view(Orders)
            .view(Payments)
            .view(Customers)
            .view(SalesByDay)
            .view(PaymentsByMethod)
            .view(Products)
            .view(OnlineUsers)
            .reactor(Fulfilment)
            .sample(traffic),
    )
}

/// The commands around so many orders, each with a key of its own.
fn traffic(orders: u64) -> Box<dyn Iterator<Item = String> + Send> {
    let traffic = Traffic::new(2017);
    Box::new((1..=orders).flat_map(move |order| {
        let commands = traffic.order(order).into_iter().enumerate();
        commands.map(move |(number, command)| {
            json!({
                "aggregate": command.category,
                "id": command.id,
                "command": command.command,
                "data": command.data,
                "key": format!("demo-{order}-{number}"),
            })
            .to_string()
        })
    }))
}

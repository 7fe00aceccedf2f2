//! What the suites that cross process borders share. Knows no server code, and no engine but in [`damage`].

pub mod cli;
pub mod damage;
pub mod data;
pub mod events;
pub mod fixture;
pub mod http;
pub mod namespace;
pub mod olist;
pub mod rows;
pub mod rules;
pub mod server;

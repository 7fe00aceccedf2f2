//! What the suites that cross process borders share. Knows no engine but in [`damage`], and no
//! server code but in [`fuzz`].

pub mod cli;
pub mod damage;
pub mod data;
pub mod events;
pub mod fixture;
pub mod fuzz;
pub mod fuzz_seeds;
pub mod http;
pub mod namespace;
pub mod node;
pub mod olist;
pub mod power_cut;
pub mod process;
pub mod rows;
pub mod rules;
pub mod server;
pub mod shim;

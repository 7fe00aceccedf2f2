//! The rules of the domain, each told as a story.
#![expect(
    clippy::unwrap_used,
    reason = "what the stories' own samples hold is known to be valid"
)]

mod fulfilment;
mod orders;
mod payments;
mod samples;
mod shipments;
mod traffic;
mod users;
mod views;

//! Signed checkpoints of a log: made by a [`Notary`], kept for ever. Neither they nor the keys can be derived from the log.

mod keys;
mod notary;
mod segments;

pub use keys::{KeysError, LogKeys};
pub use notary::{Notary, NotaryError, NotarySettings, origin, parent_origin};
pub use segments::SignedCheckpoints;

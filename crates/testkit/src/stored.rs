//! Sends a value through its stored form and back, as snapshots, view stores and reactor stores do.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::type_name;

/// The value as it is read back after it was written as MessagePack.
pub(crate) fn stored<T: Serialize + DeserializeOwned>(value: &T) -> T {
    let name = type_name::<T>();
    let bytes = rmp_serde::to_vec_named(value).unwrap_or_else(|error| panic!("{name} cannot be stored: {error}"));
    rmp_serde::from_slice(&bytes).unwrap_or_else(|error| panic!("{name} was stored but cannot be read back: {error}"))
}

//! Places in the log: [`Position`] in the whole log, [`Version`] in one stream, and the [`Epoch`] both belong to.
//!
//! Must not know how a log is stored.

use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

/// Place of an event in the whole log: gapless, in commit order, from 1. Zero means "before the first".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(u64);

/// Place of an event in its stream: gapless, from 1. Zero means "the stream has no events".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(u64);

macro_rules! place {
    ($name:ident) => {
        impl $name {
            /// The place before the first event.
            pub const ZERO: Self = Self(0);

            /// The place with this number.
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// The number of this place.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The place after this one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }

            /// The place `count` further on.
            #[must_use]
            pub const fn plus(self, count: u64) -> Self {
                Self(self.0.saturating_add(count))
            }

            /// The place before this one; zero stays zero.
            #[must_use]
            pub const fn previous(self) -> Self {
                Self(self.0.saturating_sub(1))
            }

            /// How many places lie between `earlier` and this one; zero if `earlier` is later.
            pub const fn since(self, earlier: Self) -> u64 {
                self.0.saturating_sub(earlier.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<u64> for $name {
            fn from(number: u64) -> Self {
                Self(number)
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::num::ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

place!(Position);
place!(Version);

/// Which history a log tells: new after a restore or a salvage, so that what has read another history is fenced off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(Uuid);

impl Epoch {
    /// A new, random epoch.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// The epoch with these 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The 16 bytes of this epoch.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

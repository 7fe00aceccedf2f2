//! Views and reactors without their Rust types, so that several of them can be kept together. What is typed stays in
//! here: outside, a row is a key and MessagePack bytes. Knows nothing of stores or time.

mod change;
mod reactor;
mod run;
mod table;
mod view;

pub use reactor::ReactorDefinition;
pub use view::ViewDefinition;

pub(crate) use change::{Change, IndexAdded};
pub(crate) use reactor::{Reaction, SetTimer, StateTable};
pub(crate) use run::{Admitted, Fault, Gate, Run, key_hash, panic_text};
pub(crate) use table::{Failure, Wanted};
pub(crate) use view::RowTable;

use sha2::{Digest, Sha256};

/// Short hash of what must not change without a new version.
fn fingerprint(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

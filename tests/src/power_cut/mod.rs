//! Power cuts, made from a record: what a disk may hold after one, and what must be found in it.
//!
//! The shim (`tests/shim`) records what a program does to its files. [`Disk`] replays that record and knows at every
//! point what is durable and what is not; [`image`] builds a directory as a cut at that point could leave it. The model
//! is the pessimistic reading of POSIX:
//!
//! - bytes and length of a file are durable when an `fsync` or `fdatasync` that began after the write returned;
//! - names (created, renamed, removed) are durable when an `fsync` of their directory did, and never by syncing the file;
//! - `sync_file_range`, closing and time make nothing durable;
//! - of all else any subset survives, in no order: writes may be torn between sectors of 512 bytes, a length may be there
//!   without the bytes (zeros) and bytes without the length (gone), a rename is there in whole or not.
//!
//! Not in the model: sectors that are torn in themselves, disks that lie about a sync, damage to what was durable.

mod content;
mod disk;
pub mod image;
pub mod record;
pub mod workload;

pub use content::Content;
pub use disk::{Disk, SyncsCounted};

//! A shared library that stands between a program and the C library (`LD_PRELOAD`): it records every operation on the
//! files beneath a directory in the order of their effect, makes operations fail when a test says so, and moves the wall
//! clock. Made for tests: it holds a lock over every operation on a watched file, except while a file is being synced.
//!
//! Sound as a record because an operation and its entry are one under that lock, and because what it does not know
//! (shared writable mappings, holes) is recorded as unknown, which suites take for a failure.

#[cfg(target_os = "linux")]
mod clock;
#[cfg(target_os = "linux")]
mod control;
#[cfg(target_os = "linux")]
mod data;
pub mod format;
#[cfg(target_os = "linux")]
mod names;
#[cfg(target_os = "linux")]
mod open;
#[cfg(target_os = "linux")]
mod state;
#[cfg(target_os = "linux")]
mod sync;

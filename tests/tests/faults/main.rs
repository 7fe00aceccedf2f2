//! The fault suite: the disk fails or is full at a step of an append, files can no longer be opened, the clock is wrong.
//! What was acknowledged stays, nothing is acknowledged that may be lost, and a server that cannot go on says so and ends.
//!
//! The real server runs behind the shim (`tests/shim`), which makes its file operations fail while it runs.
//! `ANNALS_FAULT_STEPS` steps for each kind of fault (2); the long form is
//! `ANNALS_FAULT_STEPS=12 cargo test -p annals-tests --test faults -- --nocapture` after `cargo build --release -p annals`.

#![allow(clippy::print_stdout, reason = "a test says what it measured")]

mod clock;
mod disk;
mod notes;
mod open_files;

use std::path::PathBuf;

use annals_tests::server::{Launch, Server};
use annals_tests::shim::{Behind, Control};
use anyhow::Result;
use tempfile::TempDir;

/// A data directory, and the page that steers the server on it.
struct Bench {
    _directory: TempDir,
    data: PathBuf,
    control: Control,
}

impl Bench {
    fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let control = Control::new(&directory.path().join("control"))?;
        let data = directory.path().join("data");
        Ok(Self {
            _directory: directory,
            data,
            control,
        })
    }

    /// Starts a server on the data, behind the shim.
    fn start(&self) -> Result<Server> {
        self.launch()?.start()
    }

    fn launch(&self) -> Result<Launch> {
        let shim = Behind::watching(&self.data)?.steered_by(&self.control);
        Ok(Launch::on(&self.data)?.through(shim.as_program()))
    }
}

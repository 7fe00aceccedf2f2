//! The shim, put before a program: what it records, and the page through which a running program's faults are steered.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::power_cut::record::format;

pub use format::{EXIT, EXIT_CODE, HANG, NAMES, OPENS, SYNCS, WRITES};

/// `EMFILE`: too many open files.
pub const TOO_MANY_FILES: i64 = 24;
/// `EIO`: the disk failed.
pub const DISK_FAILED: i64 = 5;
/// `ENOSPC`: the disk is full.
pub const DISK_FULL: i64 = 28;

/// The shim's library, which cargo builds for the suites, beside the running test.
///
/// # Errors
///
/// When it is not there.
pub fn library() -> Result<PathBuf> {
    let test = std::env::current_exe().context("the path of the running test")?;
    let name = "libannals_shim.so";
    let mut places = test.ancestors().skip(1).take(2).map(|place| place.join(name));
    places.find(|path| path.is_file()).with_context(|| {
        format!(
            "there is no {name} beside {}: run `cargo build -p annals-shim`",
            test.display()
        )
    })
}

/// A program that runs behind the shim.
#[derive(Debug, Clone)]
pub struct Behind {
    variables: Vec<(&'static str, PathBuf)>,
}

impl Behind {
    /// Watches what happens beneath this directory.
    ///
    /// # Errors
    ///
    /// As [`library`], or when the directory has no absolute path.
    pub fn watching(root: &Path) -> Result<Self> {
        let root = std::path::absolute(root)?;
        Ok(Self {
            variables: vec![("LD_PRELOAD", library()?), (format::ROOT, root)],
        })
    }

    /// Appends a record to this file; what is written to `marks` is in it, too.
    #[must_use]
    pub fn recording(mut self, record: &Path, marks: &Path) -> Self {
        self.variables.push((format::RECORD, record.to_owned()));
        self.variables.push((format::MARKS, marks.to_owned()));
        self
    }

    /// Does what this page says.
    #[must_use]
    pub fn steered_by(mut self, control: &Control) -> Self {
        self.variables.push((format::CONTROL, control.path.clone()));
        self
    }

    /// Puts the shim before the program of a command.
    pub fn before(&self, command: &mut Command) {
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
    }

    /// The variables as arguments of `env`, for programs that are started through others.
    #[must_use]
    pub fn as_program(&self) -> Vec<std::ffi::OsString> {
        let set = self.variables.iter().map(|(name, value)| {
            let mut text = std::ffi::OsString::from(format!("{name}="));
            text.push(value);
            text
        });
        std::iter::once("env".into()).chain(set).collect()
    }
}

/// The page that steers a program behind the shim while it runs.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    file: File,
}

/// What is to happen to operations.
#[derive(Debug, Clone, Copy)]
pub struct Fault<'a> {
    /// Which operations: a sum of [`WRITES`], [`SYNCS`], [`OPENS`] and [`NAMES`].
    pub operations: u64,
    /// Only on paths that contain this.
    pub path: &'a str,
    /// The error they get, [`EXIT`] or [`HANG`].
    pub error: i64,
    /// How many pass before.
    pub pass: u64,
    /// How many fail then.
    pub times: u64,
}

impl Control {
    /// A new page in which nothing fails.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn new(path: &Path) -> Result<Self> {
        let file = File::options().create_new(true).read(true).write(true).open(path)?;
        file.set_len(format::CONTROL_LEN as u64)?;
        let path = path.to_owned();
        Ok(Self { path, file })
    }

    fn set(&self, at: usize, number: u64) -> Result<()> {
        Ok(self.file.write_all_at(&number.to_le_bytes(), at as u64)?)
    }

    fn get(&self, at: usize) -> Result<u64> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, at as u64)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// From now on operations fail as this says; counts begin anew.
    ///
    /// # Errors
    ///
    /// When the page cannot be written or the path is too long.
    pub fn fail(&self, fault: Fault<'_>) -> Result<()> {
        self.heal()?;
        let mut path = [0; format::CONTROL_LEN - format::AT_PATH];
        ensure!(fault.path.len() < path.len(), "too long: {}", fault.path);
        path[..fault.path.len()].copy_from_slice(fault.path.as_bytes());
        self.file.write_all_at(&path, format::AT_PATH as u64)?;
        self.set(format::AT_ERROR, fault.error as u64)?;
        self.set(format::AT_PASS, fault.pass)?;
        self.set(format::AT_TIMES, fault.times)?;
        self.set(format::AT_SEEN, 0)?;
        self.set(format::AT_FAILED, 0)?;
        self.set(format::AT_OPERATIONS, fault.operations)
    }

    /// From now on nothing fails.
    ///
    /// # Errors
    ///
    /// When the page cannot be written.
    pub fn heal(&self) -> Result<()> {
        self.set(format::AT_OPERATIONS, 0)
    }

    /// How many operations were made to fail.
    ///
    /// # Errors
    ///
    /// When the page cannot be read.
    pub fn failed(&self) -> Result<u64> {
        self.get(format::AT_FAILED)
    }

    /// How many operations of the kind there were since the fault was set.
    ///
    /// # Errors
    ///
    /// When the page cannot be read.
    pub fn seen(&self) -> Result<u64> {
        self.get(format::AT_SEEN)
    }

    /// Moves the wall clock by so many seconds from the true time.
    ///
    /// # Errors
    ///
    /// When the page cannot be written.
    pub fn move_clock(&self, seconds: i64) -> Result<()> {
        self.set(format::AT_CLOCK, (seconds * 1_000_000) as u64)
    }
}

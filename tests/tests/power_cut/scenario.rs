//! What is recorded: runs of the log driver behind the shim, and the record they leave.

use std::path::{Path, PathBuf};
use std::process::Command;

use annals_tests::cli;
use annals_tests::power_cut::record::{self, Entry};
use annals_tests::power_cut::{Disk, SyncsCounted};
use annals_tests::shim::{Behind, Control, EXIT, EXIT_CODE, Fault, NAMES, SYNCS, WRITES};
use anyhow::{Context, Result, ensure};

/// The log driver, which cargo builds for this suite.
const DRIVER: &str = env!("CARGO_BIN_EXE_log-driver");

/// How the driver is run.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// Its name, for messages.
    pub(crate) name: &'static str,
    /// Size at which volumes are closed.
    pub(crate) volume_bytes: u64,
    /// Appends each time the log is open.
    pub(crate) appends: u64,
    /// How often it is opened.
    pub(crate) rounds: u64,
    /// How many changes pass before the process is killed at one, each time it is started; in the end it runs through.
    pub(crate) kills: &'static [u64],
    /// Whether the engine is used alone, with its own `flush`.
    pub(crate) plain: bool,
}

/// A record with what is needed to judge images that are built from it.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) entries: Vec<Entry>,
    pub(crate) scenario: Scenario,
    pub(crate) seed: u64,
    /// The directory with which the record begins, if it was not empty.
    pub(crate) begins_with: Option<PathBuf>,
    /// The directory in which it was made.
    pub(crate) work: PathBuf,
}

impl Scenario {
    /// Runs the driver on `work/data` and records what it does. With `begins_with`, the data are a copy of that
    /// directory, and the marks those that were made before.
    pub(crate) fn record(&self, work: &Path, seed: u64, begins_with: Option<(&Path, &[u8])>) -> Result<Recorded> {
        let (data, file, marks) = (work.join("data"), work.join("record"), work.join("marks"));
        match begins_with {
            Some((image, before)) => {
                copy(image, &data)?;
                std::fs::write(&marks, before)?;
                std::fs::write(work.join("marks-before"), before)?;
            }
            None => std::fs::create_dir_all(&data)?,
        }
        // What an image is judged by, should it have to be built again.
        std::fs::write(work.join("scenario"), self.name)?;
        std::fs::write(work.join("seed"), seed.to_string())?;
        let control = Control::new(&work.join("control"))?;
        let shim = Behind::watching(&data)?.recording(&file, &marks).steered_by(&control);
        for pass in self.kills {
            control.fail(Fault {
                operations: WRITES | SYNCS | NAMES,
                path: "",
                error: EXIT,
                pass: *pass,
                times: 1,
            })?;
            let run = self.run(&shim, &data, &marks, seed)?;
            ensure!(
                [0, EXIT_CODE].contains(&run.code),
                "{}: {}: {}",
                self.name,
                run.code,
                run.stderr
            );
        }
        control.heal()?;
        self.run(&shim, &data, &marks, seed)?.exits(0)?;
        let begins_with = begins_with.map(|(image, _)| image.to_owned());
        let recorded = Recorded::read(self, work, seed, begins_with)?;
        recorded.is_complete(&data)?;
        Ok(recorded)
    }

    /// The driver that checks what is in `data`.
    pub(crate) fn check(&self, data: &Path, marks: &Path, seed: u64) -> Command {
        self.command("check", data, marks, seed)
    }

    fn command(&self, verb: &str, data: &Path, marks: &Path, seed: u64) -> Command {
        let mut command = Command::new(DRIVER);
        command
            .arg(if self.plain { "plain" } else { verb })
            .arg(data)
            .arg("--marks")
            .arg(marks);
        command.args(["--seed", &seed.to_string()]);
        if !self.plain {
            command.args(["--volume-bytes", &self.volume_bytes.to_string()]);
        }
        command
    }

    fn run(&self, shim: &Behind, data: &Path, marks: &Path, seed: u64) -> Result<cli::Run> {
        let mut command = self.command("append", data, marks, seed);
        command.args(["--appends", &self.appends.to_string()]);
        if !self.plain {
            command.args(["--rounds", &self.rounds.to_string()]);
        }
        shim.before(&mut command);
        cli::run(&mut command)
    }
}

impl Recorded {
    /// Reads the record that was made in `work`.
    pub(crate) fn read(scenario: &Scenario, work: &Path, seed: u64, begins_with: Option<PathBuf>) -> Result<Self> {
        Ok(Self {
            entries: record::read(&work.join("record"))?,
            scenario: scenario.clone(),
            seed,
            begins_with,
            work: work.to_owned(),
        })
    }

    /// The disk before the first entry.
    pub(crate) fn disk(&self, counted: SyncsCounted) -> Result<Disk> {
        match &self.begins_with {
            Some(image) => Disk::holding(image, &std::fs::read(self.work.join("marks-before"))?, counted),
            None => Ok(Disk::new(counted)),
        }
    }

    /// Replays everything and compares it with what is there: what is not recorded cannot be cut.
    fn is_complete(&self, data: &Path) -> Result<()> {
        let mut disk = self.disk(SyncsCounted::All)?;
        self.entries.iter().try_for_each(|entry| disk.apply(entry))?;
        let files = disk.check_against(data).context("the record is not complete")?;
        ensure!(files > 1, "{files} files are no log");
        Ok(())
    }
}

/// Copies a directory.
fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}

//! The engine alone, used as its documentation has it: insert, `flush`, and count on it. The power-cut suite shows that
//! this loses what was acknowledged, so that a suite which finds nothing lost elsewhere is known to be able to.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use annals_tests::power_cut::workload::{self, Marks};
use anyhow::{Result, bail, ensure};

use crate::{DOES_NOT_OPEN, say};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Directory of the database.
    data: PathBuf,
    /// File of marks.
    #[arg(long)]
    marks: PathBuf,
    /// Seed of what is inserted.
    #[arg(long)]
    seed: u64,
    /// How many appends are inserted; without it, what is there is checked.
    #[arg(long)]
    appends: Option<u64>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<i32> {
    match arguments.appends {
        Some(appends) => insert(arguments, appends),
        None => check(arguments),
    }
}

fn open(path: &Path) -> sled::Result<sled::Db> {
    sled::Config::new()
        .path(path)
        .segment_size(8 << 20)
        .flush_every_ms(None)
        .open()
}

/// The append of a number as one value.
fn value(seed: u64, number: u64) -> Result<Vec<u8>> {
    let mut value = workload::append(seed, number)?.events.swap_remove(0).payload;
    value.truncate(50_000);
    Ok(value)
}

fn insert(arguments: &Arguments, appends: u64) -> Result<i32> {
    let mut marks = File::options().append(true).create(true).open(&arguments.marks)?;
    let db = open(&arguments.data)?;
    for number in 0..appends {
        db.insert(number.to_be_bytes(), value(arguments.seed, number)?)?;
        db.flush()?;
        marks.write_all(workload::acknowledged_mark(number, number, number).as_bytes())?;
    }
    Ok(0)
}

fn check(arguments: &Arguments) -> Result<i32> {
    let marks = Marks::read(&std::fs::read_to_string(&arguments.marks)?)?;
    // It panics on much of what a cut leaves.
    let opened = std::panic::catch_unwind(|| open(&arguments.data));
    let db = match opened {
        Ok(Ok(db)) => db,
        Ok(Err(error)) => {
            say(&error.to_string());
            return Ok(DOES_NOT_OPEN);
        }
        Err(_) => bail!("the engine panicked"),
    };
    for number in marks.acknowledged.keys() {
        let found = db.get(number.to_be_bytes())?;
        ensure!(
            found.as_deref() == Some(&value(arguments.seed, *number)?[..]),
            "LOST: append {number}"
        );
    }
    Ok(0)
}

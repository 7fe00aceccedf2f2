//! Converts the Olist marketplace sample to Annals commands.
//!
//! `cargo run -p annals-commerce --example olist -- DIR > commands.ndjson` reads the seven Olist CSV files of DIR
//! (`.csv.zst` or `.csv`), writes one command a line for `annals load`, and reports on stderr what it counted beside
//! what the sample is known to hold.
//!
//! Exit codes: 0 all figures are the known ones, 1 some differ, 2 the input could not be read or the output not be
//! written. `--unchecked` is for another extract of the same tables: figures are counted and compared with nothing.
//!
//! The converter must not know the domain crate's types: it speaks the public command format, as any other client
//! would, so that it also shows what such a client writes.

mod amount;
mod command;
mod model;
mod plan;
mod report;
mod table;

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

const USAGE: &str = "usage: olist [--unchecked] DIR > commands.ndjson";

fn main() -> ExitCode {
    match run(std::env::args_os().skip(1)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            // Nothing is left to do when even stderr is gone; the exit code still tells.
            let _ = writeln!(io::stderr(), "olist: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Converts and reports; answers whether every figure was the known one.
fn run(arguments: impl Iterator<Item = OsString>) -> Result<bool> {
    let mut checked = true;
    let mut directory = None;
    for argument in arguments {
        if argument == "--unchecked" {
            checked = false;
        } else if directory.replace(argument).is_some() {
            bail!("more than one directory given; {USAGE}");
        }
    }
    let Some(directory) = directory else {
        bail!("no directory given; {USAGE}")
    };

    let model = model::read(Path::new(&directory))?;
    let commands = plan::commands(&model);
    write(&commands).context("writing commands to stdout")?;

    let figures = report::figures(&model, &commands);
    report::write(&mut io::stderr().lock(), &figures, checked).context("writing the report to stderr")?;
    Ok(!checked || figures.iter().all(report::Figure::holds))
}

fn write(commands: &[command::Command]) -> Result<()> {
    let mut output = BufWriter::new(io::stdout().lock());
    for command in commands {
        serde_json::to_writer(&mut output, command)?;
        output.write_all(b"\n")?;
    }
    Ok(output.flush()?)
}

//! A small program over the log alone, for the power-cut suite: appends and marks what was acknowledged, or opens an image
//! and says whether everything that must be there is there. Run behind the shim, or on what came of it.

mod append;
mod check;
mod plain;

use std::path::PathBuf;

use annals_event_store::{DataDir, LogSettings, OpenOptions, SledLog};
use clap::Parser;

#[derive(Debug, Parser)]
enum Verb {
    /// Opens the log, repeats what was begun and not acknowledged, appends from several threads, closes the log, and again.
    Append(append::Arguments),
    /// Opens the log and checks it against the marks. Exit code 1 for what must not be, 5 for a log that does not open.
    Check(check::Arguments),
    /// The storage engine alone, with its own `flush` and nothing else: inserts, or checks what is there.
    Plain(plain::Arguments),
}

/// How the log is opened.
#[derive(Debug, clap::Args)]
struct Log {
    /// Data directory.
    data: PathBuf,
    /// Size at which a volume is closed, bytes.
    #[arg(long)]
    volume_bytes: u64,
}

/// Exit code for a log that does not open.
const DOES_NOT_OPEN: i32 = 5;

impl Log {
    fn settings(&self) -> LogSettings {
        LogSettings {
            volume_bytes_max: self.volume_bytes,
            reserve_bytes: 0,
            journal_bytes: 400 << 10,
            store_bytes: 100 << 10,
            sealed_bytes_max: 2 << 20,
            index_tail_max: 500,
            ..LogSettings::default()
        }
    }

    fn open(&self) -> Result<(SledLog, DataDir), String> {
        let options = OpenOptions {
            create: true,
            ..OpenOptions::default()
        };
        let dir = DataDir::open(&self.data, options).map_err(|error| error.to_string())?;
        let log = SledLog::open(&dir, self.settings()).map_err(|error| error.to_string())?;
        Ok((log, dir))
    }
}

fn main() {
    let result = match Verb::parse() {
        Verb::Append(arguments) => append::run(&arguments),
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Plain(arguments) => plain::run(&arguments),
    };
    let code = result.unwrap_or_else(|error| {
        say(&format!("{error:#}"));
        1
    });
    std::process::exit(code);
}

fn say(text: &str) {
    // A closed stderr leaves the exit code.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{text}\n").as_bytes());
}

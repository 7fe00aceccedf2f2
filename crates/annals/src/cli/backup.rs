//! `annals backup FILE`: a verified copy of the whole log in one file, of a data directory or of a running server.

use super::output::{FormatArg, Listing};
use super::progress;
use super::target::check_outside;
use super::verdict::{Outcome, Verdict};
use super::verify::first_problem;
use crate::http::Server;
use crate::source::{DataArg, Instead, Kind, Source};
use annals_core::{EventLog, LogError};
use annals_event_store::{BackupError, BackupFile, BackupSource, BackupSummary};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) const COLUMNS: [&str; 8] = ["file", "name", "epoch", "head", "bytes", "outboxes", "sha256", "result"];
/// Bytes that are taken from a server at once.
const PIECE_BYTES: usize = 256 << 10;

const HELP: &str = "\
The file holds the log up to its head at the moment of the call, the log's secret, and the
outboxes of the reactors. It is written beside, as FILE.partial, read back and checked from
the first block to the last, and only then takes its name. A running server goes on appending
meanwhile (--url, its command API). Views, indexes and snapshots are not in it: they are
built anew from the log.

FILE stands outside of every data directory, so that it never takes the place of a file there.
Whoever has the file can read every event, so keep it as safe as the data directory. Every
verb with --log reads it like a data directory: `annals verify --log FILE`.

Examples:
  annals backup shop-2026-11-21.annals --data shop
  annals backup shop-2026-11-21.annals --url http://127.0.0.1:8080

Exit code: 0 written and verified; 1 the log is damaged, the position is named and nothing is
left; 2 usage or environment.";

/// Write a verified backup of the log into one file
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// The file to write
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Replace FILE if it exists
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    data: DataArg,

    /// URL of a running command API whose log to back up
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    url: Option<String>,

    #[command(flatten)]
    format: FormatArg,
}

impl Args {
    pub(crate) fn run(&self) -> Outcome {
        if self.file.exists() && !self.force {
            bail!(
                "{} exists: name another file, or replace it with --force",
                self.file.display()
            );
        }
        let mut name = self.file.clone().into_os_string();
        name.push(".partial");
        let partial = PathBuf::from(name);
        check_outside(&self.file)?;
        check_outside(&partial)?;
        let written = self.write(&partial).and_then(|()| check(&partial));
        let summary = match written {
            Ok(summary) => summary,
            Err(error) => {
                // What cannot be removed is written anew by the next backup.
                let _ = fs::remove_file(&partial);
                return damaged(self.explained(error));
            }
        };
        fs::rename(&partial, &self.file)
            .and_then(|()| File::open(parent(&self.file))?.sync_all())
            .with_context(|| format!("cannot put {} in its place", self.file.display()))?;
        Verdict::Fine.listed(list(&self.format, &row(&self.file, &summary)))
    }

    /// A server that broke off says in its own log why. If the log is damaged that can be seen from here, too.
    fn explained(&self, error: anyhow::Error) -> anyhow::Error {
        let Some(url) = self.url.as_deref().filter(|_| error.is::<BrokenOff>()) else {
            return error;
        };
        match first_problem(url) {
            Ok(Some((position, detail))) => BackupError::Log(LogError::Damaged { position, detail }).into(),
            _ => error,
        }
    }

    fn write(&self, partial: &Path) -> Result<()> {
        let cannot = || {
            format!(
                "cannot write {}: check that there is space for it, or name a file elsewhere",
                partial.display()
            )
        };
        // What a backup that was killed left. Not written over: it could be a link to something else.
        match fs::remove_file(partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(cannot),
            _ => {}
        }
        let file = private(partial).with_context(cannot)?;
        match &self.url {
            Some(url) => download(&Server::at(url)?, &file, &cannot)?,
            None => offline(&self.data.data, &file)?,
        }
        file.sync_all().with_context(cannot)
    }
}

/// A new file that only its owner can read: the log's secret is in it.
fn private(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600);
    options.open(path)
}

fn offline(data: &Path, file: &File) -> Result<()> {
    let source = Source::to_read(data).map_err(|error| Instead::CommandApi.of(error))?;
    let Kind::Local { dir, log } = &source.kind else {
        bail!("{} is no data directory", data.display())
    };
    let bar = progress::bar(log.head().get(), "events");
    let backup = BackupSource::new(dir, Arc::clone(log));
    let mut out = BufWriter::with_capacity(1 << 20, file);
    backup.write(&mut out, &mut |position| bar.set_position(position.get()))?;
    out.flush().map_err(BackupError::Io)?;
    bar.finish_and_clear();
    Ok(())
}

/// The answer ended before the backup did.
#[derive(Debug, thiserror::Error)]
#[error("the server broke off the backup ({0}); its own log says why")]
struct BrokenOff(String);

fn download(server: &Server, mut file: &File, cannot: &dyn Fn() -> String) -> Result<()> {
    let bar = progress::spinner();
    let mut body = server.post_stream("/v1/backup")?;
    let mut piece = vec![0; PIECE_BYTES];
    let mut bytes = 0;
    loop {
        let read = body.read(&mut piece).map_err(|error| BrokenOff(error.to_string()))?;
        if read == 0 {
            bar.finish_and_clear();
            return Ok(());
        }
        file.write_all(&piece[..read]).with_context(cannot)?;
        bytes += read as u64;
        bar.set_message(format!("{} MiB", bytes >> 20));
        bar.tick();
    }
}

/// Reads the file back.
fn check(partial: &Path) -> Result<BackupSummary> {
    let backup = BackupFile::open(partial)?;
    let bar = progress::bar(backup.head().get(), "events checked");
    let summary = backup.verify(&mut |position| bar.set_position(position.get()))?;
    bar.finish_and_clear();
    Ok(summary)
}

/// Damage is what was checked for: exit code 1. Everything else is environment.
pub(super) fn damaged(error: anyhow::Error) -> Outcome {
    match error.downcast_ref::<BackupError>() {
        Some(BackupError::Damaged { .. } | BackupError::Log(LogError::Damaged { .. })) => {
            super::note(format_args!("error: {error}"));
            Ok(Verdict::DoesNotHold)
        }
        _ => Err(error),
    }
}

pub(super) fn row(file: &Path, summary: &BackupSummary) -> Value {
    json!({
        "result": "ok",
        "file": file.display().to_string(),
        "name": summary.name,
        "epoch": summary.epoch,
        "head": summary.head.to_string(),
        "bytes": summary.bytes,
        "outboxes": summary.outboxes,
        "sha256": summary.sha256,
    })
}

pub(super) fn list(format: &FormatArg, row: &Value) -> io::Result<()> {
    let mut listing = Listing::stdout(format.resolve(), &COLUMNS);
    listing.row(row)?;
    listing.finish()
}

fn parent(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

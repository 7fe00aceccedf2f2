//! `annals salvage --into NEW_DIR`: a new log out of what is whole in the files of one that does not open.

use super::output::{FormatArg, Listing};
use super::progress;
use super::target::check_outside;
use super::verdict::{Outcome, Verdict};
use crate::source::{DataArg, Instead};
use annals_core::{Position, cloud_event};
use annals_event_store::{Salvage, SalvageError, SalvageFound, SalvageSummary};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

const COLUMNS: [&str; 8] = [
    "into",
    "name",
    "epoch",
    "events",
    "rest",
    "rest_file",
    "missing",
    "result",
];

const HELP: &str = "\
For a log that does not open, or that `verify` finds damaged, when there is no backup or only
an old one. Every file of the log is read for blocks that are whole, whatever the storage
engine makes of it; the damaged directory is left as it is. It needs the space of the log
once more. One that was killed is simply run again.

The new log has the events up to the first one that is missing, a new epoch, the log's secret
and the outboxes; afterwards all is as after a `restore`. Positions have no gap, so what stands
behind a missing event cannot be in it: these events go to the file of --rest, as CloudEvents,
one a line, each with the position that it had. What of that is to be done again is for people
to decide.

Examples:
  annals salvage --data shop --into shop-salvaged
  annals verify --data shop-salvaged

Exit code: 0 all came back, or there was nothing in it; 1 something is missing or stands in
the file of --rest, the positions are named, or the log's secret is lost; 2 usage or
environment, nothing is written.";

/// Make a new log of what is whole in the files of a damaged one
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    data: DataArg,

    /// The data directory to make, which must be new or empty
    #[arg(long, value_name = "NEW_DIR")]
    into: PathBuf,

    /// Where to write events behind a missing one [default: NEW_DIR.rest.ndjson; not written if there are none]
    #[arg(long, value_name = "FILE")]
    rest: Option<PathBuf>,

    #[command(flatten)]
    format: FormatArg,
}

impl Args {
    pub(crate) fn run(&self) -> Outcome {
        let salvage = self.scan()?;
        let found = salvage.found();
        let rest = self.rest_file();
        // Written anew if an earlier try left one that was killed.
        let partial = with_ending(&rest, ".partial");
        salvage.check_target(&self.into)?;
        if found.behind > 0 {
            salvage.check_outside(&rest)?;
            check_outside(&rest)?;
            check_outside(&partial)?;
            if rest.exists() {
                bail!("{} exists: name another file with --rest", rest.display());
            }
            write_rest(&salvage, &partial).inspect_err(|_| remove(&partial))?;
        }
        let bar = progress::bar(found.end.get(), "events written");
        let written = salvage.write(&self.into, &mut |position| bar.set_position(position.get()));
        bar.finish_and_clear();
        let summary = match written {
            Ok(summary) => summary,
            Err(error) => {
                if found.behind > 0 {
                    remove(&partial);
                }
                return Err(error.into());
            }
        };
        if found.behind > 0 {
            let named = fs::rename(&partial, &rest);
            named.with_context(|| format!("cannot name {}, which is whole, {}", partial.display(), rest.display()))?;
        }
        self.say(found, &summary, &rest);
        let mut listing = Listing::stdout(self.format.resolve(), &COLUMNS);
        let listed = listing
            .row(&self.row(found, &summary, &rest))
            .and_then(|()| listing.finish());
        Verdict::holds(found.is_whole()).listed(listed)
    }

    fn scan(&self) -> Result<Salvage> {
        let bar = progress::bytes_bar(0);
        let salvage = Salvage::of(&self.data.data, &mut |bytes, total| {
            bar.set_length(total);
            bar.set_position(bytes);
        });
        bar.finish_and_clear();
        salvage.map_err(|error| match error {
            SalvageError::Dir(error) => Instead::Nothing.of(error.into()),
            error => error.into(),
        })
    }

    fn rest_file(&self) -> PathBuf {
        let rest = self.rest.clone();
        rest.unwrap_or_else(|| with_ending(&self.into, ".rest.ndjson"))
    }

    fn say(&self, found: &SalvageFound, summary: &SalvageSummary, rest: &Path) {
        for lost in &found.lost {
            super::note(format_args!("lost: {lost}"));
        }
        for note in found.notes.iter().chain(&summary.notes) {
            super::note(format_args!("note: {note}"));
        }
        for (first, last) in &found.missing {
            super::note(format_args!("missing: {}", range(*first, *last)));
        }
        if found.behind > 0 {
            super::note(format_args!(
                "{} events stand behind what is missing and are not in the new log: they are in {}",
                found.behind,
                rest.display()
            ));
        }
        if summary.outboxes > 0 {
            super::note(
                "the reactors of the new log dispatch nothing until they are told from where: annals projections resume \
                 NAME --from POSITION",
            );
        }
        super::note(format_args!(
            "whether there were events after the last one that was found, the files do not say; compare with what you \
             know, then keep {} until you are sure",
            self.data.data.display()
        ));
    }

    fn row(&self, found: &SalvageFound, summary: &SalvageSummary, rest: &Path) -> Value {
        let missing: Vec<String> = found.missing.iter().map(|(first, last)| range(*first, *last)).collect();
        let rest = (found.behind > 0).then(|| rest.display().to_string());
        json!({
            "result": if found.is_whole() { "ok" } else { "incomplete" },
            "data": self.data.data.display().to_string(),
            "into": self.into.display().to_string(),
            "name": found.name,
            "parent_epoch": found.epoch,
            "epoch": summary.epoch,
            "events": found.end.to_string(),
            "rest": found.behind,
            "rest_file": rest,
            "missing": missing,
            "lost": found.lost,
            "outboxes": summary.outboxes,
            "files": found.files,
            "bytes": found.bytes,
            "unreadable_bytes": found.unreadable,
            "notes": found.notes.iter().chain(&summary.notes).collect::<Vec<_>>(),
        })
    }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(ending);
    name.into()
}

/// Positions as they are written: one, or the first and the last.
fn range(first: Position, last: Position) -> String {
    if first == last {
        first.to_string()
    } else {
        format!("{first}-{last}")
    }
}

fn write_rest(salvage: &Salvage, path: &Path) -> Result<()> {
    let cannot = || {
        format!(
            "cannot write {}: check that there is space for it, or name a file elsewhere",
            path.display()
        )
    };
    let file = File::create(path).with_context(cannot)?;
    let mut out = BufWriter::new(&file);
    let name = &salvage.found().name;
    salvage.rest(|record| -> Result<()> {
        let event = Value::Object(cloud_event(name, record));
        writeln!(out, "{event}").with_context(cannot)
    })?;
    out.flush().with_context(cannot)?;
    file.sync_all().with_context(cannot)
}

/// Removes what was written of a file. What cannot be removed is named by the next try.
fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}

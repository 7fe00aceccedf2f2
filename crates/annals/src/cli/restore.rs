//! `annals restore FILE --data NEW_DIR`: a data directory from a backup, as a new history.

use super::backup::{damaged, list, row};
use super::output::FormatArg;
use super::progress;
use super::verdict::{Outcome, Verdict};
use crate::source::DataArg;
use annals_event_store::{BackupError, BackupFile, RestoreSummary};
use serde_json::json;
use std::path::PathBuf;

const HELP: &str = "\
All of the backup is checked before anything is written; if it is damaged the position is
named and nothing is restored. The data directory must be new or empty. One that was killed is
simply run again.

The restored log has a new epoch, so that nothing that has read on in the old log goes on
with this one unnoticed: views are built anew at the next `serve`, followers have to begin
anew. Reactors dispatch nothing until they are told from where
(`annals projections resume NAME --from POSITION`): the server that the backup was taken of
may still be running, and may have dispatched more than the backup knows.

Examples:
  annals restore shop-2026-11-21.annals --data shop-restored

Exit code: 0 restored; 1 the backup is damaged; 2 usage or environment, or FILE is no backup.";

/// Restore a backup into a new data directory
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    data: DataArg,

    #[command(flatten)]
    format: FormatArg,
}

impl Args {
    pub(crate) fn run(&self) -> Outcome {
        let restored = match self.restore() {
            Ok(restored) => restored,
            Err(error) => return damaged(error.into()),
        };
        if restored.backup.outboxes > 0 {
            super::note(
                "the reactors of the restored log dispatch nothing until they are told from where: annals projections \
                 resume NAME --from POSITION",
            );
        }
        let mut row = row(&self.file, &restored.backup);
        row["parent_epoch"] = row["epoch"].take();
        row["epoch"] = json!(restored.epoch);
        row["data"] = json!(self.data.data.display().to_string());
        Verdict::Fine.listed(list(&self.format, &row))
    }

    fn restore(&self) -> Result<RestoreSummary, BackupError> {
        let backup = BackupFile::open(&self.file)?;
        let bar = progress::bar(backup.head().get(), "events");
        let restored = backup.restore(&self.data.data, &mut |position| bar.set_position(position.get()))?;
        bar.finish_and_clear();
        Ok(restored)
    }
}

//! `annals replay view`: rows of a view as they were, folded from the log alone.

use crate::backend::Backend;
use crate::cli::moment::{self, Moment};
use crate::cli::output::{FormatArg, Listing, columns_of};
use crate::cli::projections::find_view;
use crate::cli::verdict::{Outcome, Verdict};
use crate::cli::{note, progress};
use crate::source::LogArgs;
use annals_core::{EventLog, to_json};
use annals_projections::{Cutoff, fold_rows};
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

const HELP: &str = "\
Stored views are not looked at. --at: what was known then. --at-occurred: from the events
that had occurred by then, whenever they were recorded.

Examples:
  annals replay view orders
  annals replay view orders ord-1 --at 1234
  annals replay view sales-by-day --at-occurred 2017-11-24 --format csv
  annals replay view orders --url http://127.0.0.1:8080";

/// Rows of a view, folded from the log alone
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// The view
    #[arg(value_name = "VIEW")]
    view: String,

    /// Only the row of this key
    #[arg(value_name = "KEY")]
    key: Option<String>,

    /// As it was after this position, or recorded at this time
    #[arg(long, value_name = "POSITION|TIME")]
    at: Option<Moment>,

    /// From the events that had occurred by this time
    #[arg(long, value_name = "TIME", value_parser = moment::time, conflicts_with = "at")]
    at_occurred: Option<DateTime<Utc>>,

    #[command(flatten)]
    source: LogArgs,

    #[command(flatten)]
    format: FormatArg,
}

impl Args {
    pub(crate) fn run(&self, backend: &Backend) -> Outcome {
        let source = self.source.open()?;
        source.check_domain(backend)?;
        let view = find_view(backend, &self.view)?;
        let log = source.log.as_ref();
        let cutoff = self.cutoff(log)?;
        let bar = progress::bar(log.head().get(), "events");
        let rows = fold_rows(
            log,
            &*backend.catalog()?,
            view,
            cutoff,
            self.key.as_deref(),
            &mut |progress| {
                bar.set_length(progress.total.get());
                bar.set_position(progress.position.get());
            },
        )?;
        bar.finish_and_clear();
        if let (Some(key), true) = (&self.key, rows.is_empty()) {
            note(format_args!("view {} had no row {key} then", self.view));
        }
        let shown = |(key, row): (String, Vec<u8>)| {
            let row = to_json(&row).with_context(|| format!("row {key} cannot be shown"))?;
            Ok((key, row))
        };
        let rows: Vec<(String, Value)> = rows.into_iter().map(shown).collect::<Result<_>>()?;
        let columns = columns_of(rows.iter().map(|(_, row)| row));
        let columns: Vec<&str> = std::iter::once("key")
            .chain(columns.iter().map(String::as_str))
            .collect();
        let mut listing = Listing::stdout(self.format.resolve(), &columns).one_line_a_row(0);
        for (key, row) in rows {
            listing.row(&json!({ "key": key, "row": row }))?;
        }
        listing.finish()?;
        Ok(Verdict::Fine)
    }

    fn cutoff(&self, log: &dyn EventLog) -> Result<Cutoff> {
        Ok(match (self.at, self.at_occurred) {
            (_, Some(time)) => Cutoff::OccurredAt(time),
            (Some(at), None) => Cutoff::Position(at.position(log)?),
            (None, None) => Cutoff::Head,
        })
    }
}

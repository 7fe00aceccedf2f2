//! `annals replay view`: rows of a view as they were, folded from the log alone.

use super::blame::{BLAME_COLUMNS, Between, Blame, Cause, DIFF_COLUMNS, diff_lines};
use crate::backend::Backend;
use crate::cli::moment::{self, Moment};
use crate::cli::output::{FormatArg, Listing, columns_of};
use crate::cli::projections::find_view;
use crate::cli::verdict::{Outcome, Verdict};
use crate::cli::{note, progress};
use crate::source::LogArgs;
use annals_core::{Catalog, EventLog, RecordRef, to_json};
use annals_projections::{Cutoff, ViewDefinition, fold_rows, fold_versions};
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const HELP: &str = "\
Stored views are not looked at. --blame: each field with the event that last set it, up to
--at. --diff: the fields that differ between two moments. --at: what was known then. --at-occurred: from the events
that had occurred by then, whenever they were recorded.

Examples:
  annals replay view orders
  annals replay view orders ord-1 --at 1234
  annals replay view orders ord-1 --blame
  annals replay view orders --diff 2017-11-24..2017-11-25
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

    /// What differs between two moments
    #[arg(long, value_name = "A..B", conflicts_with_all = ["at", "at_occurred", "blame"])]
    diff: Option<Between>,

    /// Each field with the event, its actor and time that last set it
    #[arg(long, conflicts_with = "at_occurred")]
    blame: bool,

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
        let catalog = backend.catalog()?;
        if self.blame {
            return self.blame(log, &catalog, view);
        }
        if let Some(between) = self.diff {
            return self.diff(log, &catalog, view, between);
        }
        let rows = self.rows(log, &catalog, view, self.cutoff(log)?)?;
        if let (Some(key), true) = (&self.key, rows.is_empty()) {
            note(format_args!("view {} had no row {key} then", self.view));
        }
        let columns = columns_of(rows.values());
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

    fn rows(
        &self,
        log: &dyn EventLog,
        catalog: &Catalog,
        view: &ViewDefinition,
        cutoff: Cutoff,
    ) -> Result<BTreeMap<String, Value>> {
        let bar = progress::bar(log.head().get(), "events");
        let rows = fold_rows(log, catalog, view, cutoff, self.key.as_deref(), &mut |progress| {
            bar.set_length(progress.total.get());
            bar.set_position(progress.position.get());
        })?;
        bar.finish_and_clear();
        let shown = |(key, row): (String, Vec<u8>)| Ok((key.clone(), shown(&key, &row)?));
        rows.into_iter().map(shown).collect()
    }

    fn blame(&self, log: &dyn EventLog, catalog: &Catalog, view: &ViewDefinition) -> Outcome {
        let until = self
            .at
            .map(|at| at.position(log))
            .transpose()?
            .unwrap_or_else(|| log.head());
        let mut blames: BTreeMap<String, Blame> = BTreeMap::new();
        let mut unshown = None;
        let bar = progress::bar(until.get(), "events");
        let mut visit = |record: &RecordRef<'_>, key: &str, row: Option<&[u8]>| {
            match row.map(|row| shown(key, row)).transpose() {
                Ok(row) => blames
                    .entry(key.to_owned())
                    .or_default()
                    .version(row.as_ref(), &Cause::of(record)),
                Err(error) => unshown = Some(error),
            }
            Ok(())
        };
        let key = self.key.as_deref();
        fold_versions(log, catalog, view, until, key, &mut visit, &mut |progress| {
            bar.set_position(progress.position.get());
        })?;
        bar.finish_and_clear();
        unshown.map_or(Ok(()), Err)?;
        let columns: Vec<&str> = std::iter::once("key").chain(BLAME_COLUMNS).collect();
        let mut listing = Listing::stdout(self.format.resolve(), &columns).one_line_a_row(2);
        for (key, blame) in &blames {
            for mut line in blame.lines() {
                line["key"] = json!(key);
                listing.row(&line)?;
            }
        }
        listing.finish()?;
        Ok(Verdict::Fine)
    }

    fn diff(&self, log: &dyn EventLog, catalog: &Catalog, view: &ViewDefinition, between: Between) -> Outcome {
        let (from, to) = between.positions(log)?;
        let before = self.rows(log, catalog, view, Cutoff::Position(from))?;
        let after = self.rows(log, catalog, view, Cutoff::Position(to))?;
        let columns: Vec<&str> = std::iter::once("key").chain(DIFF_COLUMNS).collect();
        let mut listing = Listing::stdout(self.format.resolve(), &columns).one_line_a_row(2);
        let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for key in keys {
            for mut line in diff_lines(before.get(key), after.get(key)) {
                line["key"] = json!(key);
                listing.row(&line)?;
            }
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

fn shown(key: &str, row: &[u8]) -> Result<Value> {
    to_json(row).with_context(|| format!("row {key} cannot be shown"))
}

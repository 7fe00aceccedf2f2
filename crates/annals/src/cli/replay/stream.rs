//! `annals replay stream`: an aggregate's state after each event, or at one moment.

use super::blame::{BLAME_COLUMNS, Between, Blame, Cause, DIFF_COLUMNS, diff_lines};
use crate::backend::Backend;
use crate::cli::moment::{self, Moment};
use crate::cli::note;
use crate::cli::output::{FormatArg, Listing};
use crate::cli::verdict::{Outcome, Verdict};
use crate::source::LogArgs;
use annals_commands::AggregateDefinition;
use annals_core::{Direction, EventLog, LogError, Position, RecordRef, StreamId, Version};
use anyhow::{Result, anyhow, bail};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

/// Events that are read at once.
const PAGE: usize = 500;
const COLUMNS: [&str; 5] = ["version", "position", "time", "type", "state"];

const HELP: &str = "\
Without --at: the state after each event. With --at: only the state at that moment.
--blame: each field with the event that last set it. --diff: the fields that differ
between two moments.
--at-occurred folds the events that had occurred by then, whenever they were recorded: what
was so then, not what was known then.

Examples:
  annals replay stream orders/ord-1
  annals replay stream orders/ord-1 --at 1234
  annals replay stream orders/ord-1 --blame
  annals replay stream orders/ord-1 --diff 1200..1234
  annals replay stream orders/ord-1 --at 2017-10-02T10:56:33Z
  annals replay stream orders/ord-1 --at-occurred 2017-10-02 --url http://127.0.0.1:8080";

/// The state of a stream after each event, or at one moment
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// The stream
    #[arg(value_name = "CATEGORY/ID")]
    stream: StreamId,

    /// Only the state after this position, or as it was recorded at this time
    #[arg(long, value_name = "POSITION|TIME")]
    at: Option<Moment>,

    /// Only the state from the events that had occurred by this time
    #[arg(long, value_name = "TIME", value_parser = moment::time, conflicts_with = "at")]
    at_occurred: Option<DateTime<Utc>>,

    /// What differs between two moments
    #[arg(long, value_name = "A..B", conflicts_with_all = ["at", "at_occurred", "blame"])]
    diff: Option<Between>,

    /// Each field with the event, its actor and time that last set it
    #[arg(long)]
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
        let aggregate = aggregate(backend, self.stream.category())?;
        let log = source.log.as_ref();
        if log.stream_head(&self.stream)?.is_none() {
            bail!("stream {} has no events", self.stream);
        }
        let last = self.at.map(|at| at.position(log)).transpose()?;
        if let Some(between) = self.diff {
            return self.diff(log, aggregate, between);
        }
        if self.blame {
            return self.blame(log, aggregate, last);
        }
        let each = last.is_none() && self.at_occurred.is_none();
        let mut latest = None;
        let mut listing = Listing::stdout(self.format.resolve(), &COLUMNS).one_line_a_row(3);
        self.states(log, aggregate, last, &mut |record, state| {
            let row = shown(record, &state);
            if each {
                listing.row(&row)?;
            } else {
                latest = Some(row);
            }
            Ok(())
        })?;
        match latest {
            Some(row) => listing.row(&row)?,
            None if !each => note(format_args!("stream {} had no events then", self.stream)),
            None => {}
        }
        listing.finish()?;
        Ok(Verdict::Fine)
    }

    fn blame(&self, log: &dyn EventLog, aggregate: &AggregateDefinition, last: Option<Position>) -> Outcome {
        let mut blame = Blame::default();
        self.states(log, aggregate, last, &mut |record, state| {
            blame.version(Some(&state), &Cause::of(record));
            Ok(())
        })?;
        let mut listing = Listing::stdout(self.format.resolve(), &BLAME_COLUMNS).one_line_a_row(1);
        for line in blame.lines() {
            listing.row(&line)?;
        }
        listing.finish()?;
        Ok(Verdict::Fine)
    }

    fn diff(&self, log: &dyn EventLog, aggregate: &AggregateDefinition, between: Between) -> Outcome {
        let (from, to) = between.positions(log)?;
        let (mut before, mut after) = (None, None);
        self.states(log, aggregate, Some(to), &mut |record, state| {
            if record.position <= from {
                before = Some(state.clone());
            }
            after = Some(state);
            Ok(())
        })?;
        let mut listing = Listing::stdout(self.format.resolve(), &DIFF_COLUMNS).one_line_a_row(1);
        for line in diff_lines(before.as_ref(), after.as_ref()) {
            listing.row(&line)?;
        }
        listing.finish()?;
        Ok(Verdict::Fine)
    }

    /// Hands the state after each event to `visit`.
    fn states(
        &self,
        log: &dyn EventLog,
        aggregate: &AggregateDefinition,
        last: Option<Position>,
        visit: &mut dyn FnMut(&RecordRef<'_>, Value) -> Result<()>,
    ) -> Result<()> {
        let mut fold = aggregate.fold();
        self.records(log, last, &mut |record| {
            let position = record.position;
            let known = fold
                .apply(record)
                .map_err(|error| anyhow!("position {position}: {error}"))?;
            if !known {
                note(format_args!(
                    "position {position}: {} is not known here, left out",
                    record.header.event_type
                ));
                return Ok(());
            }
            let state = fold
                .state_json()
                .map_err(|error| anyhow!("the state cannot be shown: {error}"))?;
            visit(record, state)
        })
    }

    /// Folds the records that are wanted, in order.
    fn records(
        &self,
        log: &dyn EventLog,
        last: Option<Position>,
        visit: &mut dyn FnMut(&RecordRef<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut from = Version::new(1);
        loop {
            let page = log.read_stream(&self.stream, from, Direction::Forward, PAGE)?;
            for record in &page {
                if last.is_some_and(|last| record.position() > last) {
                    return Ok(());
                }
                let record = record.view().map_err(LogError::from)?;
                if self.at_occurred.is_none_or(|time| record.occurred_at() <= time) {
                    visit(&record)?;
                }
            }
            if page.len() < PAGE {
                return Ok(());
            }
            from = from.plus(page.len() as u64);
        }
    }
}

fn aggregate<'a>(backend: &'a Backend, category: &str) -> Result<&'a AggregateDefinition> {
    let aggregates = backend.aggregates();
    aggregates.iter().find(|aggregate| aggregate.category() == category).ok_or_else(|| {
        let known: Vec<_> = aggregates.iter().map(AggregateDefinition::category).collect();
        anyhow!(
            "no aggregate of the domain {:?} has the category {category:?} (there are: {}): its events can be listed \
             with `events --category {category}`, not folded",
            backend.name(),
            known.join(", ")
        )
    })
}

fn shown(record: &RecordRef<'_>, state: &Value) -> Value {
    json!({
        "version": record.header.version,
        "position": record.position.to_string(),
        "time": record.occurred_at().to_rfc3339_opts(SecondsFormat::AutoSi, true),
        "recordedtime": record.recorded_at().to_rfc3339_opts(SecondsFormat::AutoSi, true),
        "type": record.header.event_type,
        "state": state,
    })
}

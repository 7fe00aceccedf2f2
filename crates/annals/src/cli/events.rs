//! `annals events`: lists the events of any log, also of one whose domain this binary does not know.

use super::moment;
use super::output::{FormatArg, Listing};
use super::verdict::{Outcome, Verdict};
use crate::source::{Kind, LogArgs, Source};
use annals_core::{
    Direction, EventLog, EventQuery, InvalidId, MalformedRecord, Position, RecordRef, StreamId, Tag, Version,
    check_category, cloud_event,
};
use anyhow::{Result, bail};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use std::ops::ControlFlow;
use std::time::Duration;

const COLUMNS: [&str; 7] = ["position", "time", "subject", "streamversion", "type", "actor", "data"];
/// Bytes of records that are read at once.
const READ_BYTES: usize = 1 << 20;
/// Events of one stream that are read at once.
const STREAM_PAGE: usize = 500;

const HELP: &str = "\
Events come in the order of the log. Filters are joined with \"and\"; --type may be given several times (any of
them), --tag too (all of them).
JSON lines are CloudEvents; `time` is when an event occurred, `recordedtime` when the log recorded it.
Times are written 2017-10-02T10:56:33Z, or without an offset in UTC, or as a date.

Examples:
  annals events --limit 20
  annals events --stream orders/ord-1 --format json
  annals events --type PaymentRefunded --since 2017-10-01 --until 2017-11-01 --format csv
  annals events --tag order=ord-1
  annals events --url http://127.0.0.1:8080 --follow";

/// List and filter the events of a log
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Only streams of this category
    #[arg(long, value_parser = category)]
    category: Option<String>,

    /// Only events of this type
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,

    /// Only events with this tag
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = Tag::parse)]
    tags: Vec<Tag>,

    /// Only this stream
    #[arg(long, value_name = "CATEGORY/ID", conflicts_with = "category")]
    stream: Option<StreamId>,

    /// Only what this actor did
    #[arg(long)]
    actor: Option<String>,

    /// Only what belongs to this correlation id
    #[arg(long, value_name = "ID")]
    correlation: Option<String>,

    /// Only what was recorded at this time or later
    #[arg(long, value_name = "TIME", value_parser = moment::time)]
    since: Option<DateTime<Utc>>,

    /// Only what was recorded at this time or earlier
    #[arg(long, value_name = "TIME", value_parser = moment::time)]
    until: Option<DateTime<Utc>>,

    /// Only events after this position
    #[arg(long, value_name = "POSITION", default_value = "0", hide_default_value = true)]
    after: Position,

    /// At most so many events
    #[arg(long, value_name = "N")]
    limit: Option<u64>,

    /// Go on with new events as they come, until Ctrl-C; needs a running server (--url)
    #[arg(long)]
    follow: bool,

    #[command(flatten)]
    source: LogArgs,

    #[command(flatten)]
    format: FormatArg,
}

fn category(text: &str) -> Result<String, InvalidId> {
    check_category(text).map(|()| text.to_owned())
}

impl Args {
    pub(crate) fn run(&self) -> Outcome {
        let source = self.source.open()?;
        if self.follow && !matches!(source.kind, Kind::Remote) {
            bail!("--follow needs a running server, because nothing is appended to this log meanwhile: use --url");
        }
        let mut list = List {
            args: self,
            listing: Listing::stdout(self.format.resolve(), &COLUMNS).one_line_a_row(2),
            left: self.limit,
        };
        list.all(&source)?;
        list.listing.finish()?;
        Ok(Verdict::Fine)
    }

    /// The place after which events are wanted.
    fn start(&self, log: &dyn EventLog) -> Result<Position> {
        let since = match self.since {
            Some(since) => log.position_at(since - TimeDelta::microseconds(1))?,
            None => Position::ZERO,
        };
        Ok(since.max(self.after))
    }

    fn wants(&self, record: &RecordRef<'_>) -> bool {
        let header = &record.header;
        self.category
            .as_deref()
            .is_none_or(|category| category == header.category())
            && self
                .stream
                .as_ref()
                .is_none_or(|stream| stream.as_str() == header.stream)
            && (self.types.is_empty() || self.types.iter().any(|wanted| wanted == header.event_type))
            && self.tags.iter().all(|tag| header.tags.contains(&tag.as_str()))
            && self
                .actor
                .as_deref()
                .is_none_or(|actor| actor == header.actor.unwrap_or("anonymous"))
            && self
                .correlation
                .as_ref()
                .is_none_or(|id| *id == record.correlation_id())
    }
}

struct List<'a> {
    args: &'a Args,
    listing: Listing,
    left: Option<u64>,
}

impl List<'_> {
    fn all(&mut self, source: &Source) -> Result<()> {
        let log = source.log.as_ref();
        let mut after = self.args.start(log)?;
        if let (Some(stream), false) = (&self.args.stream, self.args.follow) {
            return self.stream(log, stream, after);
        }
        if !self.args.tags.is_empty() && !self.args.follow {
            return self.tagged(log, after);
        }
        loop {
            let blocks = log.read(after, READ_BYTES)?;
            for block in &blocks {
                for record in block.iter() {
                    if self.record(log, record)?.is_break() {
                        return Ok(());
                    }
                }
                after = block.last();
            }
            if blocks.is_empty() {
                self.listing.show()?;
                if !self.args.follow {
                    return Ok(());
                }
                log.wait_beyond(after, Duration::from_secs(60));
            }
        }
    }

    /// Events by their tags, found by the index if the log has one.
    fn tagged(&mut self, log: &dyn EventLog, mut after: Position) -> Result<()> {
        let query = EventQuery::new(Vec::new(), self.args.tags.clone())?;
        loop {
            let page = log.read_matching(&query, after, STREAM_PAGE)?;
            for record in &page.records {
                if self.record(log, record.view())?.is_break() {
                    return Ok(());
                }
            }
            if page.records.len() < STREAM_PAGE {
                return Ok(());
            }
            after = page.reached;
        }
    }

    /// One stream, found by its index.
    fn stream(&mut self, log: &dyn EventLog, stream: &StreamId, after: Position) -> Result<()> {
        let mut from = Version::new(1);
        loop {
            let page = log.read_stream(stream, from, Direction::Forward, STREAM_PAGE)?;
            for record in page.iter().filter(|record| record.position() > after) {
                if self.record(log, record.view())?.is_break() {
                    return Ok(());
                }
            }
            if page.len() < STREAM_PAGE {
                return Ok(());
            }
            from = from.plus(page.len() as u64);
        }
    }

    fn record(
        &mut self,
        log: &dyn EventLog,
        record: Result<RecordRef<'_>, MalformedRecord>,
    ) -> Result<ControlFlow<()>> {
        let record = record.map_err(annals_core::LogError::from)?;
        // Recorded times never run backwards: nothing that is wanted comes after one that is too late.
        if self.left == Some(0) || self.args.until.is_some_and(|until| record.recorded_at() > until) {
            return Ok(ControlFlow::Break(()));
        }
        if self.args.wants(&record) {
            self.listing.row(&Value::Object(cloud_event(log.name(), &record)))?;
            self.left = self.left.map(|left| left - 1);
        }
        Ok(if self.left == Some(0) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    }
}

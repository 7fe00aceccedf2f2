//! `GET /v1/events`: events of the whole log or of one stream, filtered, page by page.

use super::live::{endless, live};
use super::page::{LIMIT_DEFAULT, LIMIT_MAX, PAGE_LEN_MAX, Page, form};
use crate::failure::{check_position, invalid_id, log_problem, lost};
use crate::live::EVENT_STREAM;
use crate::parameters::{Parameters, wrong};
use crate::problem::Problem;
use crate::state::Shared;
use annals_core::{
    Direction, EventLog, EventQuery, LogError, Position, RecordRef, StreamId, Tag, Version, check_category,
};
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use chrono::{DateTime, Utc};
use std::sync::Arc;

const PARAMETERS: [&str; 10] = [
    "after",
    "limit",
    "category",
    "type",
    "tag",
    "stream",
    "actor",
    "correlation",
    "since",
    "until",
];
/// Most records that one request looks at; the page then ends early and links to the rest.
const SCANNED_MAX: u64 = 50_000;
/// About how many bytes of records are read at a time.
const READ_LEN: usize = 256 * 1024;
/// How many records of one stream are read at a time.
const READ_RECORDS: usize = 128;

/// What is asked for.
pub(super) struct Filter {
    pub(super) after: Position,
    limit: usize,
    category: Option<String>,
    /// Any of these; all if there are none.
    event_types: Vec<String>,
    /// Events with all of these tags; all events if there are none.
    tagged: Option<EventQuery>,
    stream: Option<StreamId>,
    /// The first version of the stream that counts.
    from_version: Version,
    actor: Option<String>,
    correlation: Option<String>,
    since: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
}

pub(crate) async fn scan(State(shared): State<Shared>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let form = form(&headers)?;
    let known = |name: &str| PARAMETERS.contains(&name);
    let parameters = Parameters::read_repeating(&uri, &PARAMETERS.join(", "), &["type", "tag"], known)?;
    let filter = Filter::read(&parameters)?;
    if form == EVENT_STREAM {
        if parameters.get("limit").is_some() {
            return Err(endless("limit"));
        }
        return live(&shared, filter, &headers);
    }
    let log = Arc::clone(&shared.api.log);
    check_position(log.as_ref(), filter.after)?;
    let room = shared.bounds.answer(PAGE_LEN_MAX).await?;
    let reading = tokio::task::spawn_blocking(move || {
        let page = Page::new(form, filter.limit);
        Scan::run(log.as_ref(), &filter, page)
    });
    let scan = reading
        .await
        .map_err(|error| lost(&error))?
        .map_err(|error| log_problem(&error))?;
    let next = (scan.reached < scan.end).then(|| parameters.link(uri.path(), "after", &scan.reached.to_string()));
    let mut response = scan.page.into_response(&shared, form, scan.reached, next.as_deref());
    room.keep(&mut response);
    Ok(response)
}

impl Filter {
    fn read(parameters: &Parameters) -> Result<Self, Problem> {
        let owned = |name| parameters.get(name).map(str::to_owned);
        let category = owned("category");
        if let Some(category) = &category {
            check_category(category).map_err(|error| invalid_id(&error))?;
        }
        let stream = parameters.get("stream").map(str::parse).transpose();
        Ok(Self {
            after: parameters.position("after")?,
            limit: parameters.limit(LIMIT_DEFAULT, LIMIT_MAX)?,
            category,
            event_types: parameters.all("type").map(str::to_owned).collect(),
            tagged: tagged(parameters)?,
            stream: stream.map_err(|error| invalid_id(&error))?,
            from_version: Version::ZERO,
            actor: owned("actor"),
            correlation: owned("correlation"),
            since: parameters.time("since")?,
            until: parameters.time("until")?,
        })
    }

    /// All events of one stream from a version on.
    pub(super) fn of_stream(stream: StreamId, from_version: Version) -> Self {
        Self {
            after: Position::ZERO,
            limit: LIMIT_DEFAULT,
            category: None,
            event_types: Vec::new(),
            tagged: None,
            stream: Some(stream),
            from_version,
            actor: None,
            correlation: None,
            since: None,
            until: None,
        }
    }

    fn matches(&self, record: &RecordRef<'_>) -> bool {
        let header = &record.header;
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        is(&self.category, header.category())
            && (self.event_types.is_empty() || self.event_types.iter().any(|wanted| wanted == header.event_type))
            && self.tagged.as_ref().is_none_or(|query| query.matches_record(record))
            && is(&self.actor, header.actor.unwrap_or("anonymous"))
            && self.correlation.as_ref().is_none_or(|wanted| match header.correlation {
                Some(correlation) => correlation == wanted,
                None => header.id.to_string() == *wanted,
            })
    }
}

fn tagged(parameters: &Parameters) -> Result<Option<EventQuery>, Problem> {
    let parsed = |text: &str| Tag::parse(text).map_err(|error| wrong("tag", text, &error.to_string()));
    let tags: Vec<Tag> = parameters.all("tag").map(parsed).collect::<Result<_, _>>()?;
    if tags.is_empty() {
        return Ok(None);
    }
    // A request has fewer parameters than a query may have tags.
    let query = EventQuery::new(Vec::new(), tags);
    query.map(Some).map_err(|error| wrong("tag", "", &error.to_string()))
}

/// A page being gathered.
pub(super) struct Scan {
    pub(super) page: Page,
    /// Up to where the log has been looked at.
    pub(super) reached: Position,
    /// The last position that is looked at at all.
    pub(super) end: Position,
    /// Whether the log has got beyond `until`: nothing that is asked for can follow the end.
    pub(super) is_over: bool,
    scanned: u64,
}

impl Scan {
    fn run<L: EventLog + ?Sized>(log: &L, filter: &Filter, page: Page) -> Result<Self, LogError> {
        Self::run_after(log, filter, filter.after, page)
    }

    /// The page of what follows a position.
    pub(super) fn run_after<L: EventLog + ?Sized>(
        log: &L,
        filter: &Filter,
        after: Position,
        page: Page,
    ) -> Result<Self, LogError> {
        let head = log.head();
        // The time itself counts, so the positions before it end a microsecond earlier.
        let before = |time: DateTime<Utc>| log.position_at(time - chrono::TimeDelta::microseconds(1));
        let begin = filter.since.map(before).transpose()?.unwrap_or_default();
        let until = filter.until.map(|time| log.position_at(time)).transpose()?;
        let mut scan = Self {
            page,
            reached: after.max(begin),
            end: until.unwrap_or(head).min(head),
            is_over: until.is_some_and(|until| until < head),
            scanned: 0,
        };
        match (&filter.stream, &filter.tagged) {
            (Some(stream), _) => scan.stream(log, filter, stream)?,
            (None, Some(query)) => scan.tagged(log, filter, query)?,
            (None, None) => scan.log(log, filter)?,
        }
        Ok(scan)
    }

    fn is_done(&self) -> bool {
        self.page.is_full() || self.scanned >= SCANNED_MAX || self.reached >= self.end
    }

    fn log<L: EventLog + ?Sized>(&mut self, log: &L, filter: &Filter) -> Result<(), LogError> {
        while !self.is_done() {
            let blocks = log.read(self.reached, READ_LEN)?;
            if blocks.is_empty() {
                self.end = self.reached;
            }
            for record in blocks.iter().flat_map(annals_core::Block::iter) {
                self.look(log.name(), filter, &record?);
                if self.is_done() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn tagged<L: EventLog + ?Sized>(&mut self, log: &L, filter: &Filter, query: &EventQuery) -> Result<(), LogError> {
        while !self.is_done() {
            let found = log.read_matching(query, self.reached, READ_RECORDS)?;
            for record in &found.records {
                self.look(log.name(), filter, &record.view()?);
                if self.is_done() {
                    return Ok(());
                }
            }
            if found.records.len() < READ_RECORDS {
                // Nothing that is tagged so follows, up to where the log was looked at.
                self.reached = self.end.max(self.reached);
            }
        }
        Ok(())
    }

    fn stream<L: EventLog + ?Sized>(&mut self, log: &L, filter: &Filter, stream: &StreamId) -> Result<(), LogError> {
        let mut from = first_version_after(log, stream, self.reached)?.max(filter.from_version);
        while !self.is_done() {
            let records = log.read_stream(stream, from, Direction::Forward, READ_RECORDS)?;
            let last = records.len() < READ_RECORDS;
            for record in &records {
                let record = record.view()?;
                from = Version::new(record.header.version).next();
                self.look(log.name(), filter, &record);
                if self.is_done() {
                    return Ok(());
                }
            }
            if last {
                // Nothing of the stream follows, so the whole rest of the log has been looked at.
                self.reached = self.end.max(self.reached);
            }
        }
        Ok(())
    }

    fn look(&mut self, log_name: &str, filter: &Filter, record: &RecordRef<'_>) {
        if record.position > self.end {
            self.reached = self.end;
            return;
        }
        self.scanned += 1;
        self.reached = record.position;
        if filter.matches(record) {
            self.page.push(log_name, record);
        }
    }
}

/// The stream's first version whose position is after `after`, found by halving: versions and positions rise together.
fn first_version_after<L: EventLog + ?Sized>(log: &L, stream: &StreamId, after: Position) -> Result<Version, LogError> {
    let head = log.stream_head(stream)?.map_or(0, |head| head.version.get());
    let (mut low, mut high) = (1, head + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let records = log.read_stream(stream, Version::new(middle), Direction::Forward, 1)?;
        match records.first() {
            Some(record) if record.position() <= after => low = middle + 1,
            _ => high = middle,
        }
    }
    Ok(Version::new(low))
}

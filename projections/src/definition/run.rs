//! Folds a run of events into the rows of a view, with several threads.
//!
//! Rows are kept in parts, by a hash of their keys. First each thread takes a stretch of the run: decodes its events,
//! asks for their keys, and notes for each part which events go into which of its rows. Then each thread takes a part and
//! folds what was noted for it, stretch by stretch. Keys never meet, so each row sees its events in the order of the log, and
//! what comes of it does not depend on how many threads there are.

use super::table::{Failure, Table};
use crate::store::{StoreError, StoredRow};
use crate::threads::Threads;
use annals_core::{Block, Catalog, Key, LogError, Position, RecordRef, Recorded, View};
use std::any::Any;
use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind};
use xxhash_rust::xxh3::xxh3_64;

/// What becomes of an event in one of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// It is folded.
    Folded,
    /// It waits, because the key is parked.
    Waits,
    /// It is passed by.
    Passed,
}

/// Says what is not folded. Asked by several threads.
pub(crate) trait Gate: Sync {
    /// Whether the event is looked into at all.
    fn event(&self, record: &RecordRef<'_>) -> bool;
    /// What becomes of it in the row of a key.
    fn key(&self, position: Position, key: &str) -> Admitted;
    /// Whether the run ends with this event.
    fn ends(&self, record: &RecordRef<'_>) -> bool;
    /// Whether events of the row with this hash of its key are to be noted.
    fn notes(&self, hash: u64) -> bool;
}

/// Loads what is stored of a key, in any thread.
pub(crate) type LoadRow<'a> = dyn Fn(&str) -> Result<Option<StoredRow>, StoreError> + Sync + 'a;

/// Events of the log that follow each other, and what is needed to fold them.
pub(crate) struct Run<'a> {
    pub(crate) catalog: &'a Catalog,
    /// With nothing in them that is not to be folded.
    pub(crate) blocks: &'a [Block],
    pub(crate) gate: &'a dyn Gate,
    pub(crate) load: &'a LoadRow<'a>,
    pub(crate) threads: &'a Threads,
    /// Whether it is too short for several threads.
    pub(crate) short: bool,
}

/// What came of a run.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    /// Position of the last event.
    pub(crate) position: Position,
    pub(crate) events: usize,
    /// When the first one was recorded.
    pub(crate) recorded: Option<i64>,
    /// Events of parked keys, in the order of the log.
    pub(crate) waiting: Vec<(String, Position)>,
    /// Events of rows that are to be noted, by the hash of the key, in the order of the log.
    pub(crate) noted: Vec<(u64, String, Position)>,
    /// Whether the gate ended it.
    pub(crate) ended: bool,
}

/// The first event of a run that could not be folded. Those before it may be in the rows, and some after it: they are
/// worthless.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) position: Position,
    pub(crate) event_type: String,
    /// Known if the event could be decoded and routed.
    pub(crate) key: Option<String>,
    pub(crate) failure: Failure,
}

impl Fault {
    pub(crate) fn of(record: &RecordRef<'_>, key: Option<&str>, failure: Failure) -> Self {
        Self {
            position: record.position,
            event_type: record.header.event_type.to_owned(),
            key: key.map(str::to_owned),
            failure,
        }
    }
}

/// The hash that decides in which part a row is.
pub(crate) fn key_hash(key: &str) -> u64 {
    xxh3_64(key.as_bytes())
}

/// The part for a hash.
pub(super) fn part_of(hash: u64, parts: usize) -> usize {
    (hash % parts.max(1) as u64) as usize
}

/// A stretch of a run: its events, and for each part which of them go into which rows.
struct Routed<'r, E> {
    events: Vec<Recorded<'r, E>>,
    parts: Vec<Vec<(u32, Key)>>,
    ran: Ran,
    fault: Option<Fault>,
}

/// Folds a run into the parts of a view's rows.
pub(super) fn fold_run<V: View>(
    view: &V,
    parts: &mut [Table<V::Row>],
    spare: &mut Vec<Spare<V::Event>>,
    run: &Run<'_>,
    meanwhile: impl FnOnce(),
) -> Result<Ran, Fault> {
    let alone = Threads::new(1);
    let threads = if run.short { &alone } else { run.threads };
    let stretches = stretches(run.blocks, threads.count());
    spare.resize_with(stretches.len().max(spare.len()), Spare::default);
    let spare_records = spare.iter_mut().map(|spare| emptied(take(&mut spare.records)));
    let mut records: Vec<Vec<RecordRef<'_>>> = spare_records.collect();
    let events = spare.iter_mut().map(|spare| emptied(take(&mut spare.events)));
    let work = stretches.into_iter().zip(&mut records).zip(events).collect();
    let count = parts.len();
    let begin = |((blocks, records), events)| route(view, run, blocks, records, events, count);
    let mut routed = threads.each(work, begin, || {});
    let end = routed
        .iter()
        .position(|stretch| stretch.fault.is_some() || stretch.ran.ended);
    if let Some(end) = end {
        routed.truncate(end + 1);
    }
    let work = parts.iter_mut().enumerate().collect();
    let fold = |(part, table): (usize, &mut Table<V::Row>)| fold_part(view, table, &routed, part, run.load);
    let faults = threads.each(work, fold, meanwhile);
    let late = routed.last_mut().and_then(|last| last.fault.take());
    let first = |fault: &Fault| (fault.position, fault.key.clone());
    if let Some(fault) = faults.into_iter().flatten().chain(late).min_by_key(first) {
        return Err(fault);
    }
    let mut ran = Ran::default();
    for stretch in &mut routed {
        let Ran {
            position,
            events,
            recorded,
            waiting,
            noted,
            ended,
        } = take(&mut stretch.ran);
        ran.position = ran.position.max(position);
        ran.events += events;
        ran.recorded = ran.recorded.or(recorded);
        ran.waiting.extend(waiting);
        ran.noted.extend(noted);
        ran.ended |= ended;
    }
    // Dropping texts takes time, too.
    let events = threads.each(routed, |stretch| emptied(stretch.events), || {});
    let records = threads.each(records, emptied, || {});
    for (spare, events) in spare.iter_mut().zip(events) {
        spare.events = events;
    }
    for (spare, records) in spare.iter_mut().zip(records) {
        spare.records = records;
    }
    Ok(ran)
}

/// Memory of a stretch that the next one uses again: asking the system for it each time takes longer than what is done
/// with it.
pub(super) struct Spare<E: 'static> {
    records: Vec<RecordRef<'static>>,
    events: Vec<Recorded<'static, E>>,
}

impl<E> Default for Spare<E> {
    fn default() -> Self {
        Self {
            records: Vec::new(),
            events: Vec::new(),
        }
    }
}

/// The same memory with nothing in it, which may then be of things that live for another time.
fn emptied<T, U>(mut things: Vec<T>) -> Vec<U> {
    things.clear();
    things.into_iter().filter_map(|_| None).collect()
}

/// Blocks for each thread, about the same number.
fn stretches(blocks: &[Block], threads: usize) -> Vec<&[Block]> {
    blocks.chunks(blocks.len().div_ceil(threads.max(1)).max(1)).collect()
}

fn route<'r, 'b: 'r, V: View>(
    view: &V,
    run: &Run<'_>,
    blocks: &'b [Block],
    records: &'r mut Vec<RecordRef<'b>>,
    events: Vec<Recorded<'r, V::Event>>,
    parts: usize,
) -> Routed<'r, V::Event> {
    let mut routed = Routed {
        events,
        parts: (0..parts).map(|_| Vec::new()).collect(),
        ran: Ran::default(),
        fault: None,
    };
    let count: u64 = blocks.iter().map(Block::count).sum();
    records.reserve(count as usize);
    for record in blocks.iter().flat_map(Block::iter) {
        match record {
            Ok(record) => {
                routed.ran.ended = run.gate.ends(&record);
                records.push(record);
            }
            Err(malformed) => {
                routed.fault = Some(Fault {
                    position: malformed.position,
                    event_type: "unreadable".into(),
                    key: None,
                    failure: Failure::Log(LogError::from(malformed)),
                });
            }
        }
        if routed.ran.ended || routed.fault.is_some() {
            break;
        }
    }
    let records: &'r [RecordRef<'b>] = records;
    routed.ran.events = records.len();
    routed.ran.recorded = records.first().map(|record| record.header.recorded);
    routed.ran.position = records.last().map_or(Position::ZERO, |record| record.position);
    routed.events.reserve(records.len());
    for record in records.iter().filter(|record| run.gate.event(record)) {
        if let Err(failure) = route_one(view, run, record, &mut routed) {
            routed.fault = Some(Fault::of(record, None, failure));
            break;
        }
    }
    routed
}

fn route_one<'r, V: View>(
    view: &V,
    run: &Run<'_>,
    record: &'r RecordRef<'r>,
    routed: &mut Routed<'r, V::Event>,
) -> Result<(), Failure> {
    let decoded = guarded(|| {
        let event = run.catalog.decode::<V::Event>(record)?;
        Ok(event.map(|event| (view.route(&event), event)))
    });
    let Some((keys, event)) = decoded? else {
        return Ok(());
    };
    let (number, mut folded) = (routed.events.len() as u32, false);
    for key in keys {
        match run.gate.key(record.position, key.as_str()) {
            Admitted::Passed => {}
            Admitted::Waits => routed.ran.waiting.push((key.as_str().to_owned(), record.position)),
            Admitted::Folded => {
                let hash = key_hash(key.as_str());
                if run.gate.notes(hash) {
                    routed.ran.noted.push((hash, key.as_str().to_owned(), record.position));
                }
                let part = part_of(hash, routed.parts.len());
                routed.parts[part].push((number, key));
                folded = true;
            }
        }
    }
    if folded {
        routed.events.push(event);
    }
    Ok(())
}

fn fold_part<V: View>(
    view: &V,
    table: &mut Table<V::Row>,
    routed: &[Routed<'_, V::Event>],
    part: usize,
    load: &LoadRow<'_>,
) -> Option<Fault> {
    let mut load = |key: &str| load(key);
    for stretch in routed {
        for (number, key) in &stretch.parts[part] {
            let event = &stretch.events[*number as usize];
            if let Err(failure) = guarded(|| fold_into(view, table, key, event, &mut load)) {
                return Some(Fault::of(event.record(), Some(key.as_str()), failure));
            }
        }
    }
    None
}

/// Folds an event into one row.
pub(super) fn fold_into<V: View>(
    view: &V,
    table: &mut Table<V::Row>,
    key: &Key,
    event: &Recorded<'_, V::Event>,
    load: &mut super::table::Load<'_>,
) -> Result<(), Failure> {
    table.change(key, event.position(), load, |key, row| {
        *row = view.fold(key, row.take(), event);
    })?;
    table.grew(event.record().payload.len());
    Ok(())
}

/// Calls code of a user. A panic in it may leave rows half changed: they are cleared after any failure.
fn guarded<T>(call: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| Err(Failure::Code(panic_text(panic.as_ref()))))
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    format!("its code panicked: {}", text.unwrap_or_else(|| "no message".into()))
}

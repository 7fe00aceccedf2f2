//! Opens what a power cut left and checks it against the marks: everything acknowledged is there with the right bytes, no
//! append is there in half, nothing is there that nobody appended, and the log goes on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use annals_core::{Appender, Block, Direction, EventLog, Position, RecordRef, Version};
use annals_event_store::SledLog;
use annals_tests::power_cut::workload::{self, Marks};
use anyhow::{Context, Result, ensure};

use crate::{DOES_NOT_OPEN, Log, say};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    log: Log,
    /// File of marks that were made before the cut.
    #[arg(long)]
    marks: PathBuf,
    /// Seed of what was appended.
    #[arg(long)]
    seed: u64,
}

/// An append as it is found: the positions of its first and last event, and how many there are.
type Found = BTreeMap<u64, (u64, u64)>;

pub(crate) fn run(arguments: &Arguments) -> Result<i32> {
    let marks = Marks::read(&std::fs::read_to_string(&arguments.marks)?)?;
    let (log, held) = match arguments.log.open() {
        Ok(opened) => opened,
        Err(error) => {
            say(&error);
            return Ok(DOES_NOT_OPEN);
        }
    };
    let found = read_all(&log, arguments.seed)?;
    compare(&marks, &found)?;
    for (number, (_, last)) in &found {
        check_index(&log, arguments.seed, *number, *last)?;
    }
    verify(&log)?;
    let number = marks.begun.last().map_or(0, |last| last + 1);
    let head = log.head().get();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let appended = runtime.block_on(log.append(workload::append(arguments.seed, number)?));
    let appended = appended.context("the log does not go on")?;
    ensure!(
        appended.events[0].position.get() == head + 1,
        "the log goes on elsewhere"
    );
    log.close();
    drop((log, held));
    let (log, _held) = arguments
        .log
        .open()
        .map_err(|error| anyhow::anyhow!("does not open again: {error}"))?;
    ensure!(
        log.head() == appended.position,
        "the log ends at {} when opened again",
        log.head()
    );
    Ok(0)
}

/// Reads the whole log: every append must be there in whole, in one piece, as its number tells.
fn read_all(log: &SledLog, seed: u64) -> Result<Found> {
    let mut found = Found::new();
    let mut after = Position::ZERO;
    let mut open: Option<(u64, annals_core::Append)> = None;
    while after < log.head() {
        let blocks = log.read(after, 1 << 20)?;
        ensure!(
            !blocks.is_empty(),
            "nothing follows position {after}, but the head is {}",
            log.head()
        );
        for record in blocks.iter().flat_map(Block::iter) {
            let record = record?;
            ensure!(record.position == after.next(), "{} follows {after}", record.position);
            after = record.position;
            let (number, place) = workload::named_by(record.payload).context("a payload of nobody")?;
            let (of, append) = match open.take() {
                Some(open) => open,
                None => (number, workload::append(seed, number)?),
            };
            ensure!(
                (of, true) == (number, same(&record, &append, place)),
                "position {after} is not of append {of}"
            );
            let (first, last) = (after.get() - u64::from(place), after.get());
            if place as usize + 1 < append.events.len() {
                open = Some((of, append));
            } else if found.insert(number, (first, last)).is_some() {
                anyhow::bail!("append {number} is there twice");
            }
        }
    }
    match open {
        Some((number, _)) => anyhow::bail!("append {number} is there in half"),
        None => Ok(found),
    }
}

fn same(record: &RecordRef<'_>, append: &annals_core::Append, place: u32) -> bool {
    let header = &record.header;
    append
        .events
        .get(place as usize)
        .is_some_and(|event| event.payload == record.payload)
        && header.stream == append.stream.to_string()
        && u64::from(header.place.index) == u64::from(place) + 1
        && header.place.count as usize == append.events.len()
}

fn compare(marks: &Marks, found: &Found) -> Result<()> {
    let lost: Vec<_> = marks
        .acknowledged
        .iter()
        .filter(|(number, at)| found.get(number) != Some(at))
        .collect();
    ensure!(
        lost.is_empty(),
        "LOST: {} acknowledged appends (number, first and last position): {:?}",
        lost.len(),
        &lost[..lost.len().min(5)]
    );
    let foreign = found.keys().find(|number| !marks.begun.contains(number));
    ensure!(foreign.is_none(), "append {foreign:?} was never asked for");
    Ok(())
}

/// What the index says of an append: its command, and its stream up to its last event.
fn check_index(log: &SledLog, seed: u64, number: u64, last: u64) -> Result<()> {
    let append = workload::append(seed, number)?;
    let command = log.find_command(&append.stream, &workload::key(number))?;
    let first = last + 1 - append.events.len() as u64;
    ensure!(
        command == Some(Position::new(first)),
        "the command of append {number} is found at {command:?}"
    );
    let head = log.stream_head(&append.stream)?.context("a stream without a head")?;
    ensure!(
        head.position.get() >= last,
        "stream {} ends at {}, before {last}",
        append.stream,
        head.position
    );
    let newest = log.read_stream(&append.stream, head.version, Direction::Backward, 1)?;
    ensure!(
        newest.len() == 1 && head.version >= Version::new(1),
        "the newest event of {} is not read",
        append.stream
    );
    Ok(())
}

fn verify(log: &SledLog) -> Result<()> {
    let report = log.verify(&mut |_| {})?;
    let problems = report.problems.iter().take(3).map(|problem| format!("{problem:?}"));
    ensure!(
        report.problem_count == 0,
        "verify: {}",
        problems.collect::<Vec<_>>().join("; ")
    );
    Ok(())
}

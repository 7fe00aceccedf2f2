//! Checks a log as it is sent: whatever engine and disk are behind it.

use super::{Problem, Report};
use crate::cli::progress;
use annals_core::{EventLog, LogError, PlaceInAppend, Position, RecordRef};
use std::collections::HashMap;

/// Bytes of records that are read at once.
const READ_BYTES: usize = 4 << 20;
/// Problems after which a check ends: what follows is likely the same.
const PROBLEMS_MAX: usize = 100;

/// Reads the whole log and checks what it can see.
pub(super) fn check(log: &dyn EventLog) -> Result<Report, LogError> {
    let head = log.head();
    let bar = progress::bar(head.get(), "events");
    let mut check = Check {
        report: Report {
            head,
            ..Report::default()
        },
        ..Check::default()
    };
    let mut after = Position::ZERO;
    while after < head && check.report.problems.len() < PROBLEMS_MAX {
        let blocks = match log.read(after, READ_BYTES) {
            Ok(blocks) => blocks,
            Err(LogError::Damaged { position, detail }) => {
                check.problem(position, detail);
                break;
            }
            Err(other) => return Err(other),
        };
        let Some(last) = blocks.last().map(|block| block.last()) else {
            check.problem(after.next(), "the log ends here, before its head".into());
            break;
        };
        for block in &blocks {
            check.report.blocks += 1;
            for record in block.iter() {
                match record {
                    Ok(record) => check.record(&record),
                    Err(error) => check.problem(error.position, error.detail),
                }
            }
        }
        after = last;
        bar.set_position(after.get());
    }
    bar.finish_and_clear();
    Ok(check.report)
}

#[derive(Default)]
struct Check {
    report: Report,
    versions: HashMap<String, u64>,
    recorded: i64,
    place: Option<PlaceInAppend>,
}

impl Check {
    fn problem(&mut self, position: Position, what: String) {
        self.report.problem_count += 1;
        self.report.problems.push(Problem { position, what });
    }

    fn record(&mut self, record: &RecordRef<'_>) {
        let (position, header) = (record.position, &record.header);
        self.report.events += 1;
        if position.get() != self.report.events {
            self.problem(
                position,
                format!("the event after position {} is missing", self.report.events - 1),
            );
            self.report.events = position.get();
        }
        let version = match self.versions.get_mut(header.stream) {
            Some(version) => version,
            None => self.versions.entry(header.stream.to_owned()).or_default(),
        };
        *version += 1;
        let expected = std::mem::replace(version, header.version.max(*version));
        if header.version != expected {
            self.problem(
                position,
                format!("{} has version {} here, not {expected}", header.stream, header.version),
            );
        }
        if header.recorded < self.recorded {
            self.problem(position, "recorded before the event in front of it".into());
        }
        self.recorded = self.recorded.max(header.recorded);
        let follows = match self.place {
            Some(before) if !before.is_last() => {
                header.place.index == before.index + 1 && header.place.count == before.count
            }
            _ => header.place.index == 1,
        };
        if !follows {
            let place = header.place;
            self.problem(
                position,
                format!("event {} of {} of its append is out of place", place.index, place.count),
            );
        }
        self.place = Some(header.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use annals_core::{Append, Appender, Block, EventIdRef, Header, NewEvent, StreamId};
    use annals_event_store::MemoryLog;

    #[test]
    fn a_whole_log_holds() {
        let log = MemoryLog::new("test");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for id in ["a", "b", "a"] {
            let stream = StreamId::new("notes", id).unwrap();
            let events = vec![NewEvent::new("Noted", vec![0x80]); 3];
            runtime.block_on(log.append(Append::new(stream, events))).unwrap();
        }
        let report = check(&log).unwrap();
        assert_eq!((report.events, report.problems), (9, vec![]));
    }

    fn checked(headers: &[Header<'_>]) -> Vec<u64> {
        let mut bytes = Vec::new();
        for header in headers {
            let mut encoded = Vec::new();
            header.encode(&mut encoded);
            Block::push_record(&mut bytes, &encoded, b"");
        }
        let block = Block::new(Position::new(1), headers.len() as u64, bytes.into());
        let mut check = Check::default();
        block.iter().for_each(|record| check.record(&record.unwrap()));
        check
            .report
            .problems
            .iter()
            .map(|problem| problem.position.get())
            .collect()
    }

    #[test]
    fn what_does_not_hold_is_named_by_its_position() {
        let header = |version, recorded| Header::new("a/b", version, EventIdRef::Text("x"), "T", recorded);
        assert_eq!(checked(&[header(1, 5), header(2, 5), header(3, 6)]), [] as [u64; 0]);
        assert_eq!(
            checked(&[header(1, 5), header(3, 5), header(4, 5)]),
            [2],
            "a version is missing"
        );
        assert_eq!(
            checked(&[header(1, 5), header(2, 4), header(3, 5)]),
            [2],
            "time runs backwards"
        );
        let mut torn = header(1, 5);
        torn.place = PlaceInAppend { index: 1, count: 2 };
        assert_eq!(checked(&[torn, header(2, 5)]), [2], "an append is torn");
    }
}

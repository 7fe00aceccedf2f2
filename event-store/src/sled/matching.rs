//! Events by types and tags, and appends on the condition that none of them came: looked up here, by the caller, up to
//! the durable head; the writer then looks only at what came since.

use super::queue::Queued;
use super::shared::Shared;
use crate::admission::{check_bounds, check_condition};
use annals_core::{Append, AppendCondition, AppendError, Appended, EventQuery, LogError, Matching, Position};
use std::sync::Arc;
use tokio::sync::oneshot;

/// How often a condition is checked anew when the log outgrows the writer's window meanwhile.
const ATTEMPTS_MAX: u32 = 8;
/// How many positions of a tag are looked up at a time.
const PAGE: usize = 256;
/// How many bytes of records are read at a time where no tag leads the way.
const READ_LEN: usize = 256 * 1024;
/// Up to so many events are read through right where the caller is; more of them on a thread that may block.
const READ_HERE_MAX: u64 = 256;

/// How far a condition was checked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Checked {
    /// Nothing matches up to here.
    UpTo(Position),
    /// This event matches.
    Failed(Position),
}

/// Appends what has a condition: checks it, queues the append, and does so again if the writer sends it back.
pub(super) async fn append_on_condition(shared: Arc<Shared>, append: Append) -> Result<Appended, AppendError> {
    let refused = |error: &AppendError| shared.counters.refused(error);
    let bytes = check_bounds(&append).inspect_err(refused)?;
    for _ in 0..ATTEMPTS_MAX {
        let checked = check(&shared, &append).await.inspect_err(refused)?;
        let (answer, answered) = oneshot::channel();
        let append = append.clone();
        let queued = Queued::new(append, bytes, checked, answer);
        shared.queue.push(queued, |_| false).inspect_err(refused)?;
        let unknown = || AppendError::OutcomeUnknown("the writer ended before it answered".into());
        match answered.await.unwrap_or_else(|_| Err(unknown())) {
            Err(AppendError::ConditionOutrun { .. }) => {}
            result => return result,
        }
    }
    let outrun = AppendError::ConditionOutrun { attempts: ATTEMPTS_MAX };
    refused(&outrun);
    Err(outrun)
}

/// Checks a condition up to the durable head. One that fails is queued all the same: a known key answers before it.
async fn check(shared: &Arc<Shared>, append: &Append) -> Result<Checked, AppendError> {
    let Some(condition) = append.condition.clone() else {
        return Ok(Checked::UpTo(Position::ZERO));
    };
    let head = shared.head.get();
    check_condition(&condition, head)?;
    let indexed = !condition.query.tags().is_empty();
    let checked = if indexed || head.since(condition.after) <= READ_HERE_MAX {
        look(shared, &condition)
    } else {
        let shared = shared.clone();
        let looking = tokio::task::spawn_blocking(move || look(&shared, &condition));
        looking
            .await
            .unwrap_or_else(|error| Err(LogError::Storage(error.to_string())))
    };
    Ok(checked?)
}

fn look(shared: &Shared, condition: &AppendCondition) -> Result<Checked, LogError> {
    let found = shared.read_matching(&condition.query, condition.after, 1)?;
    Ok(match found.records.first() {
        Some(record) => Checked::Failed(record.position()),
        None => Checked::UpTo(found.reached),
    })
}

impl Shared {
    /// The first events after a position that match, at most `limit`, up to the durable head.
    pub(super) fn read_matching(
        &self,
        query: &EventQuery,
        after: Position,
        limit: usize,
    ) -> Result<Matching, LogError> {
        let head = self.head.get();
        let (records, reached) = (Vec::new(), after);
        let mut matching = Matching { records, reached };
        while matching.reached < head && matching.records.len() < limit {
            if query.tags().is_empty() {
                for block in self.read(matching.reached, READ_LEN)? {
                    if matching.take(query, block.records(), limit)? {
                        break;
                    }
                }
                continue;
            }
            let positions = self.positions_with_all(query, matching.reached, head)?;
            let Some(last) = positions.last() else {
                matching.reached = head;
                break;
            };
            let records = self.records(&positions)?;
            matching.take(query, records.into_iter().map(Ok), limit)?;
            if matching.records.len() < limit {
                matching.reached = *last;
            }
        }
        Ok(matching)
    }

    /// Positions of the next events that have all tags of the query: a page of them if it has one tag, else the next one.
    fn positions_with_all(
        &self,
        query: &EventQuery,
        after: Position,
        head: Position,
    ) -> Result<Vec<Position>, LogError> {
        if let [tag] = query.tags() {
            return self.tag_positions(tag.as_str(), after, PAGE, head);
        }
        // Each tag in turn leaps to its next event from where the others are; where all meet is an event that has all.
        let (mut at, mut agreed) = (after.next(), 0);
        for tag in query.tags().iter().cycle() {
            let next = self.tag_positions(tag.as_str(), at.previous(), 1, head)?;
            let Some(&next) = next.first() else {
                return Ok(Vec::new());
            };
            agreed = if next == at { agreed + 1 } else { 1 };
            at = next;
            if agreed == query.tags().len() {
                return Ok(vec![at]);
            }
        }
        Ok(Vec::new())
    }
}
